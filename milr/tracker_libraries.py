"""The libraries behind `--track`, each as one small class: Weights & Biases, Trackio, TensorBoard.

What they write lies in the run folder, unless their own environment variables say otherwise; none of them asks
anything, or prints where results are expected. They raise whatever their libraries raise. Nothing is imported until one
is made.

Accepted: Trackio has one folder for each process, that of the first run which it tracked.
"""

from __future__ import annotations

import io
import json
import logging
import netrc
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from contextvars import Context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from milr.rewards import one_line
from milr.run_files import to_json, write_file

PROJECT = "milr"
ID_FILE = "tracking.json"
REACH_SECONDS, INIT_SECONDS, FINISH_SECONDS = 10, 30, 120  # any answer, a run, the upload of what is left then

Figures = Mapping[str, float]

_log = logging.getLogger(__name__)


class Tracker(ABC):
    """One tracker's run, open.

    Attributes:
        place: where to look at it, one line.
    """

    place: str

    @abstractmethod
    def log(self, figures: Figures, step: int) -> None:
        """Figures at a step."""

    @abstractmethod
    def picture(self, image: Image.Image, caption: str, step: int) -> None:
        """A picture at a step."""

    @abstractmethod
    def summary(self, figures: Figures, step: int) -> None:
        """What the run came to."""

    @abstractmethod
    def close(self) -> None:
        """Hand over what is left."""


class Wandb(Tracker):
    """Weights & Biases; offline where it is told so, has no key or reaches nobody. It asks nothing."""

    def __init__(self, run: Path, name: str, config: Mapping[str, Any], step: int) -> None:
        import wandb

        self._wandb = wandb
        configured = wandb.setup().settings
        trouble = _trouble(configured) if configured.mode in ("online", "run") else ""
        if trouble:
            _log.warning("wandb records offline, 'wandb sync' uploads it later: %s", trouble)
        self._run = wandb.init(
            project=configured.project or PROJECT,
            name=name,
            id=_tracking_id(run),
            resume="allow",
            reinit="create_new",
            dir=None if os.environ.get("WANDB_DIR") else str(run),
            config=dict(config),
            mode="offline" if trouble else None,
            settings=wandb.Settings(
                console="off", silent=True, init_timeout=INIT_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )
        self._run.define_metric("*", step_metric="steps")  # its own counter refuses to go back, as a resume may
        there = "disabled" if self._run.disabled else f"wandb sync {Path(self._run.dir).parent}"
        self.place = f"wandb: {self._run.url if not self._run.offline and not self._run.disabled else there}"

    def log(self, figures: Figures, step: int) -> None:
        self._run.log({**figures, "steps": step})

    def picture(self, image: Image.Image, caption: str, step: int) -> None:
        self._run.log({"picture": self._wandb.Image(image, caption=caption), "steps": step})

    def summary(self, figures: Figures, step: int) -> None:
        self._run.summary.update(dict(figures))

    def close(self) -> None:
        self._run.finish()


class Trackio(Tracker):
    """Trackio: a database in the run folder, or the Space or server that its environment variables name."""

    def __init__(self, run: Path, name: str, config: Mapping[str, Any], step: int) -> None:
        with redirect_stdout(io.StringIO()):  # where results are expected, it prints what `place` says
            trackio = _imported_trackio(run / "trackio")
            # In a context of its own: else it ends the run that is open in this one.
            self._run = Context().run(
                trackio.init,
                PROJECT,
                name=f"{name}-{_tracking_id(run)}",  # a run is resumed by its name
                config=dict(config),
                resume="allow",
                embed=False,
            )
        self._image = trackio.Image
        self.place = f"trackio: {self._run.url or f'TRACKIO_DIR={trackio.TRACKIO_DIR} trackio show'}"

    def log(self, figures: Figures, step: int) -> None:
        self._run.log(dict(figures), step=step)

    def picture(self, image: Image.Image, caption: str, step: int) -> None:
        self._run.log({"picture": self._image(image, caption=caption)}, step=step)

    def summary(self, figures: Figures, step: int) -> None:
        self.log({f"summary/{name}": value for name, value in figures.items()}, step)

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self._run.finish()


class TensorBoard(Tracker):
    """Event files in RUN/tensorboard."""

    def __init__(self, run: Path, name: str, config: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run / "tensorboard"
        self._writer = SummaryWriter(folder)
        self._writer.add_text("config", f"**{name}**\n\n```json\n{to_json(config, indent=2)}\n```", step)
        self.place = f"tensorboard: tensorboard --logdir {folder}"

    def log(self, figures: Figures, step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, image: Image.Image, caption: str, step: int) -> None:
        import numpy

        self._writer.add_image("picture", numpy.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._writer.add_text("caption", caption, step)

    def summary(self, figures: Figures, step: int) -> None:
        self.log({f"summary/{name}": value for name, value in figures.items()}, step)

    def close(self) -> None:
        self._writer.close()


# By name, which is also the package's and the extra's.
TRACKERS: Mapping[str, Callable[[Path, str, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}


def _imported_trackio(folder: Path) -> Any:
    """Trackio, which reads where its files belong from the environment, and only when it is imported."""
    own = os.environ.get("TRACKIO_DIR")
    if own is None:
        os.environ["TRACKIO_DIR"] = str(folder)
    try:
        import trackio
    finally:
        if own is None:
            del os.environ["TRACKIO_DIR"]
    return trackio


def _tracking_id(run: Path) -> str:
    """Of the run in a tracker: as old as the folder's first tracking, and moved with it."""
    path = run / ID_FILE
    try:
        return str(json.loads(path.read_bytes())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        identity = secrets.token_hex(4)
        write_file(path, (to_json({"id": identity}) + "\n").encode())
        return identity


def _trouble(configured: Any) -> str:
    """Why Weights & Biases could not work online; empty where it could. A run's id cannot be tried twice."""
    import httpx

    if not _has_key(configured):
        return "there is no key, 'wandb login' takes one"
    try:
        # Any answer will do. Whose it is, wandb itself checks, which may know other certificates than Python.
        httpx.head(configured.base_url, timeout=REACH_SECONDS, verify=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{configured.base_url} cannot be reached ({one_line(str(error), 100)})"
    return ""


def _has_key(configured: Any) -> bool:
    """Whether Weights & Biases would find a key without asking."""
    if configured.api_key or configured.identity_token_file:
        return True
    home = Path("~").expanduser()
    files = [Path(os.environ["NETRC"]).expanduser()] if os.environ.get("NETRC") else [home / ".netrc", home / "_netrc"]
    try:
        known = [netrc.netrc(file).hosts for file in files if file.is_file()]
    except (OSError, netrc.NetrcParseError):
        return False
    return any(urlsplit(configured.base_url).hostname in hosts for hosts in known)

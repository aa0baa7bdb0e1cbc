"""What runs in a worker's process: a model, a critic, and the search itself.

Events leave as they happen, on the CPU and without what only the search needs. What goes wrong is sent as a value, so
that the driver raises it as it was.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from milr.decoding import Engine, Rollout
from milr.errors import MilrError, RunError
from milr.events import Event, Failed, Finished, Key, Progress, Stepped
from milr.models.base import UnifiedModel
from milr.prompts import Prompt
from milr.rewards import Reward
from milr.search import refine

Load = Callable[[str], tuple[UnifiedModel, Reward]]

_CARRIED = re.compile(r"MILR_.+|OPENAI_.+|HF_TOKEN|HF_ENDPOINT")  # names of variables


@dataclass(frozen=True)
class Home:
    """Where a worker finds what the driver names.

    Attributes:
        folder: the driver's, against which its paths are meant.
        path: what the driver imports from.
        variables: of the driver's environment, keys among them; never shown.
    """

    folder: str
    path: Sequence[str]
    variables: Mapping[str, str] = field(repr=False)

    @staticmethod
    def of_driver(variables: Collection[str] = ()) -> Home:
        """Where this process stands.

        Args:
            variables: names of environment variables that count beside milr's own and those of hubs and endpoints.
        """
        named = {name: it for name, it in os.environ.items() if name in variables or _CARRIED.fullmatch(name)}
        return Home(str(Path.cwd()), [str(Path(entry).absolute()) for entry in sys.path], named)

    def enter(self) -> None:
        """Stand where the driver stands; on another machine, as far as the same folders are there.

        Variables that the machine has keep its values.
        """
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        sys.path.extend(entry for entry in self.path if entry not in sys.path)
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)


@dataclass(frozen=True)
class Raised:
    """An error on its way to the driver."""

    error: Exception


class Worker:
    """One process of the crew.

    Args:
        home: entered before anything is loaded.
        threads: for the work on the CPU.
    """

    def __init__(self, home: Home, threads: int) -> None:
        home.enter()
        torch.set_num_threads(threads)

    def place(self) -> tuple[str, int]:
        """Host and process id."""
        return socket.gethostname(), os.getpid()

    def load(self, load: bytes, device: str) -> int | Raised:
        """Make model and critic; returns how many rollouts are decoded at once.

        Args:
            load: a pickled function of the device; pickled, since what it needs is only found from home.
        """
        try:
            make: Load = pickle.loads(load)
            self._model, self._reward = make(device)
            return Engine.of(self._model).rows
        except Exception as error:  # whatever it is, the driver is to know
            return Raised(portable(error))

    def search(
        self, prompts: Mapping[Key, Prompt], resume: Mapping[Key, Progress], options: Mapping[str, Any]
    ) -> Iterator[Event | Raised]:
        """The events of some searches."""
        each = {prompt.id: prompt for prompt in prompts.values()}
        images = 1 + max(index for _, index in prompts)
        others = frozenset((name, index) for name in each for index in range(images)) - prompts.keys()
        try:
            for event in refine(
                self._model,
                list(each.values()),
                self._reward,
                images=images,
                skip=others,
                resume=resume,
                **options,
            ):
                yield light(event)
        except Exception as error:
            yield Raised(portable(error))


def light(event: Event) -> Event:
    """The same event for its listeners: on the CPU, without states and latents, which only the search needs."""
    if isinstance(event, Stepped):
        step = replace(event.step, rollouts=[_light_rollout(rollout) for rollout in event.step.rollouts])
        return replace(event, step=step, progress=_on_cpu(event.progress))
    if isinstance(event, Finished | Failed) and event.progress is not None:
        return replace(event, progress=_on_cpu(event.progress))
    return event


def portable(error: Exception) -> Exception:
    """The same error, or the nearest one that can be sent to another process."""
    if not isinstance(error, MilrError):
        error.add_note("in a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # errors refuse in many ways
        pass
    if not isinstance(error, MilrError):
        return RunError(f"a worker failed: {type(error).__name__}: {error}")
    # One whose constructor takes more than the message; its parents take that alone.
    kind = next(kind for kind in type(error).__mro__ if issubclass(kind, MilrError) and "__init__" not in vars(kind))
    return kind(str(error))


def _light_rollout(rollout: Rollout) -> Rollout:
    nothing = torch.zeros(0)
    return replace(
        rollout,
        proposal=replace(rollout.proposal, reasoning_ids=None, text=None, image=None),
        reasoning_ids=rollout.reasoning_ids.cpu(),
        text_states=nothing,
        text_log_probs=rollout.text_log_probs.detach().cpu(),
        image_tokens=rollout.image_tokens.cpu(),
        image_states=nothing,
        image_log_probs=rollout.image_log_probs.detach().cpu(),
    )


def _on_cpu(progress: Progress) -> Progress:
    state = {name: tensor.detach().cpu() for name, tensor in progress.method_state.items()}
    return replace(progress, method_state=state)

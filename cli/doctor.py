"""`milr doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version

import click

from milr import __version__
from milr.errors import MilrError, UsageError
from milr.plugins import KINDS, plugins

from .extras import extras, missing_packages


@click.command()
def doctor() -> int:
    """Say what works on this machine. Exit code 0 when 'milr generate' does."""
    _report("milr", __version__)
    _report("python", platform.python_version())
    for package in ("torch", "transformers"):
        _report(package, version(package))
    for name, value in _devices():
        _report(name, value)
    works = all([_check("model mini", _try_model), _check("default critic", _try_critic)])
    for extra in extras():
        missing = missing_packages(extra)
        _report(
            f"extra {extra}",
            f"missing {', '.join(missing)}; pip install 'milr[{extra}]'" if missing else "installed",
            mark="-" if missing else "ok",
        )
    for kind in KINDS:
        for plugin in plugins(kind).values():
            try:
                plugin.load()
            except UsageError as error:
                _report(f"{kind[:-1]} {plugin.name}", str(error), mark="-")
    click.echo("milr generate works here." if works else "milr generate does not work here; see the lines marked !!.")
    return 0 if works else 1


def _report(name: str, value: str, mark: str = "ok") -> None:
    click.echo(f"{mark:3}{name:18}{value}")


def _check(name: str, attempt: Callable[[], str]) -> bool:
    try:
        _report(name, attempt())
    except MilrError as error:
        _report(name, str(error), mark="!!")
        return False
    return True


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    from milr import kernels

    yield "cpu", f"{os.cpu_count()} cores{_free_memory()}"
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        way = "Triton kernels" if kernels.available(torch.device("cuda", index)) else "no Triton kernels: slower"
        yield f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {memory}, {way}"
    if torch.backends.mps.is_available():
        yield "mps", "Apple GPU"


def _free_memory() -> str:
    """Free memory where the system tells it."""
    try:
        return f", {os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB free"
    except (ValueError, OSError):
        return ""


def _try_model() -> str:
    from milr.models import load_model

    model = load_model("mini", device="cpu")
    return f"loads; {model.facts.resolution} px, weights {model.fingerprint()[:12]}"


def _try_critic() -> str:
    """The critic that `milr generate` would use, on a blank picture."""
    from PIL import Image

    from milr.errors import RunError
    from milr.models import load_model
    from milr.prompts import Prompt
    from milr.rewards import load_reward, score_safely

    model = load_model("mini", device="cpu")
    name = model.facts.default_reward
    if name is None:
        raise UsageError("model mini names no default critic.")
    side = model.facts.resolution
    score = score_safely(load_reward(name, model), [Image.new("RGB", (side, side))], [Prompt("a photo of a red apple")])
    if score[0].error:
        raise RunError(f"{name}: {score[0].error}")
    return f"{name} scores pictures"

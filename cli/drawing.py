"""Carrying out `milr generate`: load, check, open the run folder, and pass each event to the disk and to the person."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import click
import torch

from milr import __version__, plugins
from milr.decoding import Engine, Sampling
from milr.errors import RunError
from milr.events import Event, Failed
from milr.models import load_model
from milr.models.base import UnifiedModel
from milr.prompts import Prompt
from milr.reports.strip import write_strip
from milr.rewards import Reward
from milr.run_files import Record
from milr.run_identity import Identity
from milr.runs import Key, RunFolder, open_run
from milr.search import default_sampling, refine, searches_at_once

from .critics import check_critics, critic_names, load_critics
from .progress import ProgressDisplay, progress_style
from .results import show_result
from .settings import Settings, without_address

Search = Callable[..., Iterator[Event]]


def draw(settings: Settings, prompts: Sequence[Prompt], out: Path) -> int:
    """Search for a picture of each prompt; returns the exit code.

    Raises:
        UsageError: something asked for cannot be; nothing was written.
        RunError: the work cannot go on; what was done is kept.
    """
    _check_plugins(settings)
    model = load_model(settings["model"], settings["device"], settings["dtype"], quantize=settings["quantize"])
    names = critic_names(settings, model)
    reward = load_critics(settings, names, model)
    sampling = _sampling(settings, model)
    search = partial(
        refine,
        model,
        prompts,
        reward,
        settings["method"],
        steps=settings["steps"],
        samples=settings["samples"],
        images=settings["images"],
        seed=settings["seed"],
        sampling=sampling,
        batch=settings["batch"],
        overlap=settings["overlap"],
        target=math.nan if settings["target"] == "none" else settings["target"],
        budget=settings["budget"],
        keep=settings["keep"],
        method_options=settings.plugin_options("method").get(settings["method"], {}),
    )
    search()  # refuses what cannot be, before the folder is made; no work is done until its events are read
    _warn_of_unknown_words(model, prompts)
    identity = _identity(settings, prompts, model, reward, names, sampling)
    with open_run(out, identity, resume=settings["resume"], keep_steps=settings["keep_steps"]) as run:
        return _follow(run, search, settings)


def _check_plugins(settings: Settings) -> None:
    """Names and options of all plugins, before a model is loaded."""
    method_options = settings.plugin_options("method").get(settings["method"], {})
    plugin = plugins.find("methods", settings["method"])
    plugins.check_options(plugin, plugin.load(), method_options)
    check_critics(settings)


def _sampling(settings: Settings, model: UnifiedModel) -> Sampling:
    given = {name: settings[name] for name in ("guidance", "temperature", "reasoning_temperature")}
    return replace(default_sampling(model), **{name: value for name, value in given.items() if value is not None})


def _warn_of_unknown_words(model: UnifiedModel, prompts: Sequence[Prompt]) -> None:
    words = dict.fromkeys(word for prompt in prompts for word in model.unknown_words(prompt.text))
    if words:
        listed = ", ".join(repr(word) for word in words)
        click.echo(f"milr: {model.facts.name} does not know {listed}; it draws what it knows.", err=True)


def _identity(
    settings: Settings,
    prompts: Sequence[Prompt],
    model: UnifiedModel,
    reward: Reward,
    names: Sequence[str],
    sampling: Sampling,
) -> Identity:
    resolved = {
        "reward": [without_address(name) for name in names],
        "dtype": str(model.dtype).removeprefix("torch."),
        "guidance": sampling.guidance,
        "temperature": sampling.temperature,
        "reasoning_temperature": sampling.reasoning_temperature,
    }
    facts = {
        "milr": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "device": str(model.device),
        "batch": settings["batch"] or searches_at_once(Engine.of(model), settings["samples"]),
        "overlap": settings["overlap"],
        "incidental": settings.incidental(),
        "model_licence": model.facts.licence,
    }
    return Identity(settings.configuration() | resolved, prompts, model.fingerprint(), reward.version, facts)


def _follow(run: RunFolder, search: Search, settings: Settings) -> int:
    """Read the events of the search to their end; returns the exit code."""
    keys = [(prompt.id, index) for prompt in run.identity.prompts for index in range(settings["images"])]
    show = partial(_show, run, settings["seed"], settings["json"])
    for key in keys:
        if key in run.finished:
            show(key, run.finished[key])
    waiting = len(keys) - len(run.finished)
    failed = 0
    try:
        with ProgressDisplay(progress_style(settings["quiet"]), waiting, settings["steps"]) as display:
            for event in search(skip=frozenset(run.finished), resume=run.resumable):
                line = run.record(event)
                display.show(event)
                if line is not None:
                    failed += isinstance(event, Failed)
                    with display.aside():
                        show((event.prompt.id, event.image_index), line)
    except KeyboardInterrupt:
        command = f"milr generate --resume --out {shlex.quote(str(run.path))}"
        click.echo(
            f"milr: interrupted; {len(run.finished)} of {len(keys)} images are done and the state of the others is "
            f"saved. Go on with: {command}",
            err=True,
        )
        return 130
    except torch.OutOfMemoryError as error:
        raise RunError(
            "the device is out of memory even for one picture; go on with --resume and another --device or --dtype."
        ) from error
    if failed:
        click.echo(f"milr: {failed} of {len(keys)} images failed; {run.path / 'samples.jsonl'} says why.", err=True)
    return 1 if failed else 0


def _show(run: RunFolder, seed: int, as_json: bool, key: Key, line: Record) -> None:
    strip = write_strip(run, key) if key in run.finished else None
    show_result(line, run.path, strip, seed, as_json)

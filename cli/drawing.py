"""Carrying out a search from the command line: load, check, open the run folder, pass each event to disk and person."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from milr import __version__, plugins
from milr.decoding import Engine, Sampling
from milr.errors import RunError, UsageError
from milr.events import Event, Failed, Key
from milr.models import load_model
from milr.models.base import ModelFacts, UnifiedModel
from milr.models.loading import resolve_dtype
from milr.prompts import Prompt
from milr.reports.strip import write_strip
from milr.rewards import Reward
from milr.run_files import Record
from milr.run_identity import Identity
from milr.runs import RunFolder, open_run
from milr.search import default_sampling, refine, searches_at_once
from milr.trackers import Trackers, check_trackers, open_trackers

from .critics import check_critics, critic_names, load_critics
from .progress import ProgressDisplay, progress_style
from .results import show_result
from .settings import Settings, without_address

if TYPE_CHECKING:
    from milr.cluster import Crew

Search = Callable[..., Generator[Event, None, None]]
Prepare = Callable[[Settings, ModelFacts], Settings]
Show = Callable[[Key, Record], None]

_OF_SEARCHES = ("method", "steps", "samples", "images", "seed", "batch", "overlap", "budget", "keep")
_SHOWN = 20  # unknown words that are listed


@dataclass(frozen=True)
class Loaded:
    """What searches with these settings need.

    Attributes:
        critics: as they were named.
    """

    model: UnifiedModel
    reward: Reward
    critics: Sequence[str]

    @cached_property
    def fingerprint(self) -> str:
        """Of the model; every weight is read for it, so once for all rows of an evaluation."""
        return self.model.fingerprint()


def draw(settings: Settings, prompts: Sequence[Prompt], out: Path) -> int:
    """Search for a picture of each prompt; returns the exit code.

    Raises:
        UsageError: something asked for cannot be; nothing was written.
        RunError: the work cannot go on; what was done is kept.
    """
    check_plugins(settings)
    with ExitStack() as stack:
        crew = stack.enter_context(open_crew_of(settings))
        loaded = load(settings, load_from(settings, crew))
        search = search_for(settings, loaded, prompts, crew)
        warn_of_unknown_words(loaded.model, prompts)
        identity = identify(settings, loaded, prompts, crew)
        run = stack.enter_context(open_run(out, identity, resume=settings["resume"], keep_steps=settings["keep_steps"]))
        show = partial(_show, run, settings["seed"], settings["json"])
        for key in run.keys:
            if key in run.finished:
                show(key, run.finished[key])
        with tracking(run, settings) as trackers:
            failed = follow(run, search, settings, trackers, show, f"milr generate --resume --out {quoted(run.path)}")
    if failed:
        click.echo(f"milr: {failed} of {len(run.keys)} images failed; {out / 'samples.jsonl'} says why.", err=True)
    return 1 if failed else 0


def check_plugins(settings: Settings) -> None:
    """Names and options of all plugins, before a model is loaded."""
    method_options = settings.plugin_options("method").get(settings["method"], {})
    plugin = plugins.find("methods", settings["method"])
    plugins.check_options(plugin, plugin.load(), method_options)
    check_critics(settings)
    check_trackers(settings["track"])
    for option in ("workers", "cpus_per_worker"):
        if settings[option] is not None and settings["ray"] is None:
            raise UsageError(f"--{option.replace('_', '-')} is for workers on a Ray cluster; add --ray.")


def load_from(settings: Settings, crew: Crew | None) -> UnifiedModel:
    """The model of a run; beside a crew, which does the work, on the CPU and as its workers have it."""
    device, dtype = settings["device"], settings["dtype"]
    if crew is not None:
        device, dtype = "cpu", str(resolve_dtype(dtype, torch.device(crew.device))).removeprefix("torch.")
    return load_model(settings["model"], device, dtype, quantize=settings["quantize"])


@contextmanager
def open_crew_of(settings: Settings, prepare: Prepare | None = None) -> Iterator[Crew | None]:
    """The workers of --ray; None where this process does the work.

    Args:
        prepare: what is still to be settled when a worker knows its model.
    """
    if settings["ray"] is None:
        yield None
        return
    from milr.cluster import open_crew

    options = settings.plugin_options("reward").values()
    given = {name: settings[name] for name in ("device", "workers", "cpus_per_worker")} | {
        "variables": [value for each in options for name, value in each.items() if name.endswith("_variable")]
    }
    with open_crew(partial(load_in_worker, settings, prepare), settings["ray"] or None, **given) as crew:
        yield crew


def load_in_worker(settings: Settings, prepare: Prepare | None, device: str) -> tuple[UnifiedModel, Reward]:
    """Model and critics of a run, in a worker."""
    model = load_model(settings["model"], device, settings["dtype"], quantize=settings["quantize"])
    loaded = load(prepare(settings, model.facts) if prepare else settings, model)
    return model, loaded.reward


def load(settings: Settings, model: UnifiedModel) -> Loaded:
    """The critics of a run beside its model."""
    names = critic_names(settings, model)
    return Loaded(model, load_critics(settings, names, model), names)


def search_for(
    settings: Settings,
    loaded: Loaded,
    prompts: Sequence[Prompt],
    crew: Crew | None,
    targets: Mapping[str, float] | None = None,
) -> Search:
    """The search, which has refused what cannot be; no work is done until its events are read.

    Args:
        targets: rewards that are enough, by prompt id, where no --target is given.
    """
    target = math.nan if settings["target"] == "none" else settings["target"]
    options = {name: settings[name] for name in _OF_SEARCHES} | {
        "sampling": _sampling(settings, loaded.model),
        "target": targets if target is None else target,
        "method_options": settings.plugin_options("method").get(settings["method"], {}),
    }
    search = partial(refine, loaded.model, prompts, loaded.reward, **options)
    search()
    return search if crew is None else partial(crew.refine, prompts, **options)


def identify(settings: Settings, loaded: Loaded, prompts: Sequence[Prompt], crew: Crew | None, **more: Any) -> Identity:
    """Who the run is; `more` is what a reader may want to know besides."""
    model, sampling = loaded.model, _sampling(settings, loaded.model)
    resolved = {
        "reward": [without_address(name) for name in loaded.critics],
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
        "device": str(model.device) if crew is None else crew.device,
        "batch": settings["batch"] or (searches_at_once(Engine.of(model), settings["samples"]) if not crew else None),
        "overlap": settings["overlap"],
        "incidental": settings.incidental(),
        "model_licence": model.facts.licence,
        **more,
    }
    config = dict(sorted((settings.configuration() | resolved).items()))
    return Identity(config, prompts, loaded.fingerprint, loaded.reward.version, facts)


def quoted(path: Path) -> str:
    """As it is typed in a shell."""
    return shlex.quote(str(path))


@contextmanager
def tracking(run: RunFolder, settings: Settings) -> Iterator[Trackers]:
    """The trackers of a run; says where to look."""
    config = {**run.identity.config, **run.identity.facts}
    with open_trackers(settings["track"], run.path, run.path.name, config, len(run.keys)) as trackers:
        for place in trackers.places:
            click.echo(f"milr: {place}", err=True)
        yield trackers


def follow(
    run: RunFolder, search: Search, settings: Settings, trackers: Trackers, show: Show, how_to_go_on: str
) -> int:
    """Read the events of a search to their end; returns how many pictures failed.

    Raises:
        click.exceptions.Exit: interrupted; what to do was said.
        RunError: the work cannot go on; what was done is kept.
    """
    failed = 0
    try:
        waiting = len(run.keys) - len(run.finished)
        with ProgressDisplay(progress_style(settings["quiet"]), waiting, settings["steps"]) as display:
            events = search(skip=frozenset(run.finished), resume=run.resumable)
            with closing(events):
                for event in events:
                    line = run.record(event)
                    display.show(event)
                    trackers.show(event)
                    if line is not None:
                        failed += isinstance(event, Failed)
                        with display.aside():
                            show((event.prompt.id, event.image_index), line)
    except KeyboardInterrupt:
        click.echo(
            f"milr: interrupted; {len(run.finished)} of {len(run.keys)} images in {run.path} are done and the state of "
            f"the others is saved. Go on with: {how_to_go_on}",
            err=True,
        )
        raise click.exceptions.Exit(130) from None
    except torch.OutOfMemoryError as error:
        raise RunError(
            "the device is out of memory even for one picture; go on with --resume and another --device or --dtype."
        ) from error
    return failed


def warn_of_unknown_words(model: UnifiedModel, prompts: Sequence[Prompt]) -> None:
    """Says which words of the prompts a model was never taught."""
    words = list(dict.fromkeys(word for prompt in prompts for word in model.unknown_words(prompt.text)))
    if words:
        more = f" and {len(words) - _SHOWN} more words" if len(words) > _SHOWN else ""
        listed = ", ".join(repr(word) for word in words[:_SHOWN])
        click.echo(f"milr: {model.facts.name} does not know {listed}{more}; it draws what it knows.", err=True)


def _sampling(settings: Settings, model: UnifiedModel) -> Sampling:
    given = {name: settings[name] for name in ("guidance", "temperature", "reasoning_temperature")}
    return replace(default_sampling(model), **{name: value for name, value in given.items() if value is not None})


def _show(run: RunFolder, seed: int, as_json: bool, key: Key, line: Record) -> None:
    strip = write_strip(run, key) if key in run.finished else None
    show_result(line, run.path, strip, seed, as_json)

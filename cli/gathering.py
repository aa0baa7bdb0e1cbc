"""What the user asks for: the command line, --config, --preset and the run to go on with, gathered into `Settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import click

from milr.errors import UnknownNameError, UsageError
from milr.presets import PRESETS
from milr.run_identity import IDENTITY_FILE, Identity, check_same_config, read_identity

from .arguments import user_path
from .settings import Layer, Settings, checked_layer, command_line_layer, default_layer, file_layer, settle


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        out: the run folder; None for one that is named after the run.
        saved: the run to go on with; None for a new one.
    """

    settings: Settings
    out: Path | None
    saved: Identity | None


def gather(
    context: click.Context, instead: Mapping[str, tuple[str, ...]], protocols: Mapping[str, Mapping[str, Any]]
) -> Asked:
    """All that is asked for.

    Args:
        instead: options of which one on the command line replaces several of --config.
        protocols: values by the name that --protocol takes.

    Raises:
        UsageError: a value that cannot be, or a folder that this run cannot have; nothing was touched.
    """
    typed = command_line_layer(context)
    file = _file(context, typed, instead)
    asked = file | typed
    out = user_path(asked["out"], "--out") if "out" in asked else None
    saved = _saved_run(context, out, bool(typed.get("resume")))
    named = _named(context, "preset", asked.get("preset"), PRESETS)
    named |= _named(context, "protocol", asked.get("protocol"), protocols)
    return Asked(settle(typed, file, named, _resumed(context, saved, out), default_layer(context)), out, saved)


def check_resumed(settings: Settings, saved: Identity | None, out: Path) -> None:
    """What the user said must be what the run was made with; looked at before a model is loaded."""
    if saved is not None:
        said = {name: value for name, value in settings.said_configuration().items() if value != "auto"}
        protocol = {name: value for name, value in said.items() if name == "protocol"}
        check_same_config(saved.config, protocol, out)  # first: what it stands for was not said one by one
        check_same_config(saved.config, said, out)


def new_folder(name: str) -> Path:
    """runs/TIME-NAME, with a number where there is one already."""
    words = "-".join(re.findall(r"[a-z0-9]+", name.lower()))[:40].strip("-")
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{words}".strip("-")
    candidates = (Path("runs") / (f"{stem}-{number}" if number > 1 else stem) for number in count(1))
    return next(folder for folder in candidates if not folder.exists())


def _file(context: click.Context, typed: Layer, instead: Mapping[str, tuple[str, ...]]) -> Layer:
    """What --config says, without what the command line says in other words."""
    layer = file_layer(context, Path(typed["config"])) if "config" in typed else {}
    replaced = {name for option in typed for name in instead.get(option, ())}
    return {name: value for name, value in layer.items() if name not in replaced}


def _named(context: click.Context, kind: str, name: str | None, known: Mapping[str, Mapping[str, Any]]) -> Layer:
    if name is None:
        return {}
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return checked_layer(context, known[name], f"{kind} {name!r}")


def _saved_run(context: click.Context, out: Path | None, resume: bool) -> Identity | None:
    if out is None:
        if resume:
            raise UsageError("--resume needs the folder of the run; add --out DIR.")
        return None
    from milr.runs import check_folder

    if not resume:
        check_folder(out, resume)
        return None
    saved = read_identity(out)
    if saved is None:
        raise UsageError(f"there is no run to go on with in {out}: it has no {IDENTITY_FILE}.")
    made_by = "evaluate" if "benchmark" in saved.config else "generate"
    if context.info_name != made_by:
        raise UsageError(f"{out} is a run of 'milr {made_by}'; go on with: milr {made_by} --resume --out {out}")
    return saved


def _resumed(context: click.Context, saved: Identity | None, out: Path | None) -> Layer:
    """The settings of the run to go on with; also what is decoded together, which moves the last bit of a sum."""
    if saved is None:
        return {}
    kept = dict(saved.config) | {name: saved.facts[name] for name in ("batch", "overlap") if name in saved.facts}
    kept |= saved.facts.get("incidental", {})
    return checked_layer(context, kept, f"{out}/{IDENTITY_FILE}")

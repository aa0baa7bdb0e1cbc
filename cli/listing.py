"""`milr list`: the plugins of a kind, where they come from, their weights and licence, and what they still need."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import click

from milr.errors import UsageError
from milr.plugins import KINDS, Plugin, find, options_of, plugins

from .extras import missing_packages

_HEADER = ("name", "what it is", "extra", "size", "licence", "checkpoint", "origin")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", required=False)
def list_plugins(kind: str, name: str | None) -> None:
    """List plugins: models, rewards, methods or benchmarks; with NAME, all about one and its options."""
    if name is not None:
        _describe(find(kind, name))
        return
    rows = [_row(plugin) for plugin in plugins(kind).values()]
    if not rows:
        click.echo(f"no {kind} are installed.", err=True)
        return
    for line in table(_HEADER, rows):
        click.echo(line)


def _describe(plugin: Plugin) -> None:
    """What a plugin is, in its own words, and the options that --set reaches."""
    target = plugin.load()
    _, *row = _row(plugin)
    click.echo(f"{plugin.name}: {inspect.getdoc(target) or row[0]}\n")
    facts = [*zip(_HEADER[2:], row[1:], strict=True), *_of_benchmark(target)]
    for line in table(["", ""], [[label, value] for label, value in facts if value])[1:]:
        click.echo(line)
    for option in options_of(target):
        default = "" if option.default is option.empty else f"  (default: {option.default!r})"
        click.echo(f"--set {plugin.kind[:-1]}.{plugin.name}.{option.name}={default}")


def _of_benchmark(target: Any) -> list[tuple[str, str]]:
    """What a benchmark says besides; nothing of other plugins."""
    source = getattr(target, "source", None)
    return [
        ("categories", ", ".join(getattr(target, "categories", ()))),
        ("pictures", f"{target.images_per_prompt} a prompt" if hasattr(target, "images_per_prompt") else ""),
        ("official files", f"{source.repository} at {source.commit[:12]}" if source else ""),
    ]


def _row(plugin: Plugin) -> list[str]:
    try:
        target = plugin.load()
    except UsageError as error:  # one broken plugin must not hide the others
        click.echo(f"milr: {error}", err=True)
        return [plugin.name, "(cannot be loaded)", _extra(plugin), "", "", "", plugin.origin]
    text = getattr(target, "description", "") or (inspect.getdoc(target) or "").partition("\n")[0]
    weights = [str(getattr(target, name, "")) for name in ("licence", "checkpoint")]
    return [plugin.name, text, _extra(plugin), _size(target), *weights, plugin.origin]


def _size(target: Any) -> str:
    size = getattr(target, "size_mb", 0)
    return f"{size:,.0f} MB" if isinstance(size, int | float) and size >= 1 else ""


def _extra(plugin: Plugin) -> str:
    """What a plugin needs beside milr itself, and how to get it where it is not there."""
    extras = plugin.entry_point.extras
    if any(missing_packages(extra) for extra in extras):
        return f"{', '.join(extras)} (pip install 'milr[{','.join(extras)}]')"
    return ", ".join(extras)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns; those that are empty throughout are left out."""
    kept = [column for column in range(len(header)) if any(row[column] for row in rows)]
    lines = [[header[column] for column in kept], *([row[column] for column in kept] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(kept))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]

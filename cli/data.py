"""`milr data`: the official files of benchmarks: which are here, whose they are, and how they come here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from milr.errors import UsageError
from milr.plugins import find, plugins

from .listing import table

if TYPE_CHECKING:
    from milr.evaluation.contract import Source

_HEADER = ("name", "official files", "licence", "from", "folder")


@click.command()
@click.argument("names", metavar="[BENCHMARK]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Those of all benchmarks.")
@click.option("--mirror", metavar="URL", help="Stands for https://raw.githubusercontent.com.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def data(names: Sequence[str], everything: bool, mirror: str | None, quiet: bool) -> None:
    """Fetch the official files of benchmarks, at one commit each; without a name, list what is here.

    They go to $MILR_DATA or ~/.local/share/milr. Every file is checked against its SHA-256.
    """
    if names and everything:
        raise UsageError("give names of benchmarks or --all, not both.")
    wanted = plugins("benchmarks") if everything else names
    if wanted:
        benchmarks = [find("benchmarks", name).load() for name in dict.fromkeys(wanted)]  # all of them, before any work
        for name, benchmark in zip(dict.fromkeys(wanted), benchmarks, strict=True):
            click.echo(_fetch(name, benchmark.source, mirror, quiet))
        return
    if mirror:
        raise UsageError("--mirror needs something to fetch; name a benchmark, or give --all.")
    for line in table(_HEADER, list(_rows())):
        click.echo(line)


def _fetch(name: str, source: Source | None, mirror: str | None, quiet: bool) -> str:
    """Fetch the files of one benchmark; returns where they are and under which licence."""
    from milr.evaluation.data import data_folder, fetch

    if source is None:
        return f"{name}: ships with its package, there is nothing to fetch"

    def report(path: Path, was_there: bool) -> None:
        if not quiet:
            click.echo(f"{name}: {path.name} {'is here' if was_there else 'fetched'}", err=True)

    folder = data_folder(name, source)
    fetch(name, source, folder, mirror, report)
    return f"{name}: {folder} (licence: {source.licence})"


def _rows() -> Iterator[list[str]]:
    from milr.evaluation.data import data_folder, is_fetched

    for name, plugin in plugins("benchmarks").items():
        try:
            benchmark = plugin.load()
        except UsageError as error:  # one broken plugin must not hide the others
            click.echo(f"milr: {error}", err=True)
            yield [name, "(cannot be loaded)", "", "", ""]
            continue
        source = benchmark.source
        if source is None:
            yield [name, "ship with its package", benchmark.licence, plugin.origin, ""]
            continue
        folder = data_folder(name, source)
        state = "here" if is_fetched(source, folder) else f"not here: milr data {name}"
        yield [name, state, source.licence, f"{source.repository}@{source.commit[:12]}", str(folder)]

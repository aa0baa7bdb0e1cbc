"""Measure speed: `python -m milr_benchmarks.speed run --shape janus-pro-7b --device cuda`, then `... table results`.

`run` writes one JSON file per shape and device, after every measurement. `table` prints Markdown.
"""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click

from milr.errors import MilrError

from .measurements import run as measure
from .results import read_results
from .shapes import SHAPES
from .steps import SINGLE_DECODES
from .table import format_details, format_table
from .wishes import FULL, KINDS, NAMES, QUICK, Wishes, few


class WrongUseError(click.ClickException):
    """One line, and the exit code of wrong use."""

    exit_code = 2


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Some of a few names, separated by commas."""
    known = KINDS if parameter.name == "kinds" else NAMES
    names = tuple(filter(None, value.split(",")))
    for name in names:
        if name not in known:
            raise WrongUseError(f"{parameter.opts[0]}: unknown {name!r}; available: {', '.join(known)}.")
    return names


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Whole numbers of at least one, separated by commas."""
    if not all(part.strip().isdecimal() and int(part) > 0 for part in value.split(",")):
        raise WrongUseError(f"{parameter.opts[0]}: {value!r} is no list of whole numbers from 1 on, such as 1,8,32.")
    return tuple(int(part) for part in value.split(","))


@click.group(help="Time the decoding engine against the published procedure, in one run on one device.")
def main() -> None:
    pass


@main.command()
@click.option("--shape", required=True, type=click.Choice(list(SHAPES)))
@click.option("--device", default="auto", show_default=True)
@click.option("--dtype", default="auto", show_default=True, help="bfloat16, float32 or float16.")
@click.option(
    "--batches", callback=_numbers, default="1,8,32,64,128", show_default=True, help="Pictures drawn at once."
)
@click.option("--samples", callback=_numbers, default="1,4,16", show_default=True, help="Of a MILR step.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="results", show_default=True)
@click.option("--quick", is_flag=True, help="Parts of pictures and few repeats: 7B in four minutes of one GPU.")
@click.option("--reference-tokens", type=click.IntRange(min=3), help="Image tokens that the reference draws.")
@click.option("--quantize", "kinds", callback=_names, default="", help=f"Also these: {', '.join(KINDS)}.")
@click.option("--skip", callback=_names, default="", help=f"Of {', '.join(NAMES)}.")
@click.option("--full", is_flag=True, help="Time all 80 single decodes that a search on a CPU is compared with.")
def run(
    shape: str,
    device: str,
    dtype: str,
    batches: tuple[int, ...],
    samples: tuple[int, ...],
    out: Path,
    quick: bool,
    reference_tokens: int | None,
    kinds: tuple[str, ...],
    skip: tuple[str, ...],
    full: bool,
) -> None:
    """Measure one shape; prints the file that holds the results."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("milr.speed").setLevel(logging.INFO)
    effort = QUICK if quick else FULL
    wishes = Wishes(
        batches=batches,
        samples=samples,
        kinds=kinds,
        quantized_batches=few(batches) if quick else batches,
        skip=frozenset(skip),
        effort=replace(effort, single_decodes=SINGLE_DECODES) if full else effort,
        reference_tokens=reference_tokens,
        command=shlex.join(["python", "-m", "milr_benchmarks.speed", *sys.argv[1:]]),
    )
    try:
        click.echo(measure(SHAPES[shape], device, dtype, wishes, out))
    except MilrError as error:
        raise (WrongUseError if error.exit_code == 2 else click.ClickException)(str(error)) from error


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--all", "everything", is_flag=True, help="Also one table per shape with every figure.")
def table(folder: Path, everything: bool) -> None:
    """Print the tables of a folder of results."""
    try:
        records = read_results(folder)
    except MilrError as error:
        raise (WrongUseError if error.exit_code == 2 else click.ClickException)(str(error)) from error
    click.echo(format_table(records))
    if everything:
        for record in records:
            click.echo("\n" + format_details(record))


if __name__ == "__main__":
    main()

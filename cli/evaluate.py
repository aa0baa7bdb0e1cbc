"""`milr evaluate`: which prompts of which benchmark, gathered and refused where they cannot be; `evaluating` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from milr import plugins
from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt

from .arguments import Whole, user_path
from .gathering import Asked, check_resumed, gather, new_folder
from .options import drawing_options


@click.command()
@click.argument("benchmark", required=False)
@click.option("--data", metavar="PATH", help="The official files.  [default: what 'milr data BENCHMARK' fetched]")
@click.option("--protocol", metavar="NAME", help="All settings at once: paper or official.")
@click.option("--categories", metavar="A,B", help="Only these.")
@click.option("--limit", type=Whole(1), help="Only so many prompts, spread over all of them.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts; 'milr merge' joins them.")
@click.option(
    *("--samples-per-prompt", "--images", "images"), type=Whole(1), help="Pictures a prompt.  [default: the benchmark's]"
)
@click.option("--judge", metavar="NAME", help="Who measures.  [default: the benchmark's own measure]")
@click.option("--held-out", metavar="NAME", help="A second judge, or none.  [default: one, where it matters]")
@click.option("--controls", is_flag=True, help="Also base, reason-only, best-of-n, resample, random-direction.")
@click.option("--dry-run", is_flag=True, help="Say what would run and what it would take; write nothing.")
@click.option("--calibration", type=Whole(), default=4, show_default=True, help="Prompts that --dry-run tries.")
@drawing_options
@click.pass_context
def evaluate(context: click.Context, /, **_: Any) -> int:
    """Draw the prompts of BENCHMARK, judge the pictures, and say what they are worth.

    Without --protocol, options mean what they mean for 'milr generate'. The critic that steers is one that has nothing
    to do with the judge, unless --reward or --protocol paper says otherwise; then the result is marked as an oracle's.
    """
    from milr.evaluation.protocols import PROTOCOLS

    asked = gather(context, instead={}, protocols=PROTOCOLS)
    settings = asked.settings
    name = settings["benchmark"]
    if not name:
        raise UsageError(f"name a benchmark: {', '.join(plugins.plugins('benchmarks'))}; see milr list benchmarks.")
    benchmark = plugins.find("benchmarks", name).load()()
    settings = settings.given(images=settings["images"] or benchmark.images_per_prompt)
    prompts, files = _prompts(asked, benchmark)
    out = asked.out or new_folder(f"{name} {settings['method']}")
    check_resumed(settings, asked.saved, out)

    from .evaluating import carry_out

    return carry_out(settings, benchmark, prompts, files, out)


def _prompts(asked: Asked, benchmark: Any) -> tuple[Sequence[Prompt], Mapping[str, Any]]:
    """The prompts, and which files they are from; a run that goes on has its own, whatever became of the files."""
    from milr.evaluation.data import find, verify
    from milr.evaluation.selection import limited, parse_shard, sharded

    settings = asked.settings
    shard = parse_shard(settings["shard"]) if settings["shard"] else None
    categories = [text.strip() for text in (settings["categories"] or "").split(",") if text.strip()]
    for category in categories:
        if category not in benchmark.categories:
            raise UnknownNameError(f"category of {benchmark.name}:", category, benchmark.categories)
    if asked.saved is not None and "data" not in settings.said:
        return asked.saved.prompts, asked.saved.facts.get("data", {})
    given = None if settings["data"] is None else user_path(settings["data"], "--data")
    path = given if benchmark.source is None else find(benchmark.name, benchmark.source, given)
    prompts = limited(benchmark.load(path, categories), settings["limit"])
    files = verify(benchmark.source, path) if benchmark.source is not None else {}
    return sharded(prompts, *shard) if shard else prompts, files

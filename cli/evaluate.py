"""`milr evaluate`: which prompts of which benchmark, gathered or refused; `evaluating` does the rest."""

from __future__ import annotations

from typing import Any

import click

from .arguments import Whole
from .gathering import check_resumed, gather, new_folder
from .options import drawing_options, judging_options
from .selecting import find_benchmark, select_prompts


@click.command()
@click.argument("benchmark", required=False)
@click.option("--protocol", metavar="NAME", help="All settings at once: paper or official.")
@click.option("--samples-per-prompt", "--images", "images", type=Whole(1), help="Pictures.  [default: official]")
@judging_options
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts of these prompts; 'milr merge' joins them.")
@click.option("--controls", is_flag=True, help="Also base, reason-only, best-of-n, resample, random-direction.")
@click.option("--dry-run", is_flag=True, help="Say what would run and what it would take; write nothing.")
@click.option("--calibration", type=Whole(), help="Prompts that --dry-run tries.  [default: what travels together]")
@drawing_options
@click.pass_context
def evaluate(context: click.Context, /, **_: Any) -> int:
    """Draw the prompts of BENCHMARK, judge the pictures, and say what they are worth.

    Without --protocol, options mean what they mean for 'milr generate'. The critic that steers is one that has nothing
    to do with the judge, unless --reward or --protocol paper says otherwise; then the result is marked as an oracle's.
    """
    from milr.evaluation.protocols import PROTOCOLS

    asked = gather(context, instead={}, protocols=PROTOCOLS)
    benchmark = find_benchmark(asked.settings["benchmark"])
    settings = asked.settings.given(images=asked.settings["images"] or benchmark.images_per_prompt)
    if asked.saved is not None and "data" not in settings.said:
        prompts, files = asked.saved.prompts, asked.saved.facts.get("data", {})  # whatever became of the files
    else:
        prompts, files = select_prompts(settings, benchmark)
    out = asked.out or new_folder(f"{benchmark.name} {settings['method']}")
    check_resumed(settings, asked.saved, out)

    from .evaluating import carry_out

    return carry_out(settings, benchmark, prompts, files, out)

"""Options that several commands have: of drawing (what steers, how it searches, where it runs), and of judging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from .arguments import Number, Target, Whole

Command = TypeVar("Command", bound=Callable[..., Any])

_STEERING = (
    click.option("--model", default="mini", show_default=True, help="Of 'milr list models', a folder or a hub id."),
    click.option(
        "--reward",
        multiple=True,
        metavar="NAME[=W]",
        help="Critic and weight.  [default: the model's, the benchmark's]",
    ),
    click.option("--combine", type=click.Choice(["sum", "min", "product"]), default="sum", help="Critics as one."),
    click.option("--normalise", multiple=True, metavar="NAME=LOW:HIGH", help="Make its range 0 to 1; or NAME=zscore."),
    click.option("--gate", multiple=True, metavar="NAME=LEAST", help="Pictures with less of it come after all others."),
)
_SEARCHING = (
    click.option("--method", default="milr", show_default=True, help="A name of 'milr list methods'."),
    click.option("--steps", type=Whole(), default=20, show_default=True, help="Steps after the model's own."),
    click.option("--samples", type=Whole(1), default=4, show_default=True, help="Pictures decoded per step."),
    click.option("--order", metavar="ORDER", help="Which latents a step moves: short for --set method.NAME.order=."),
    click.option("--perturb", metavar="HOW", help="token or gaussian: short for --set method.NAME.perturb=."),
    click.option("--preset", metavar="NAME", help="Named settings, such as 'paper'; other options override them."),
    click.option("--guidance", type=Number(), help="Weight of classifier-free guidance.  [default: the model's]"),
    click.option("--temperature", type=Number(min=0), help="Of image tokens; 0 is greedy.  [default: the model's]"),
    click.option("--reasoning-temperature", type=Number(min=0), help="Of reasoning tokens.  [default: the model's]"),
    click.option("--seed", type=Whole(most=2**63 - 1), default=0, show_default=True, help="Decides every random draw."),
    click.option("--budget", type=Number(min=1), help="Pictures that one search may decode."),
    click.option("--target", type=Target(), help="Reward that is enough, or none.  [default: the critic's]"),
    click.option("--keep", type=click.Choice(["best", "last"]), default="best", help="Picture kept.  [default: best]"),
)
_RUNNING = (
    click.option("--batch", type=Whole(1), help="Searches that travel together.  [default: what fits into memory]"),
    click.option("--overlap", is_flag=True, help="Score half of the searches while the other half is decoded."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."),
    click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16, float16."),
    click.option("--quantize", type=click.Choice(["int8", "fp8"]), help="Smaller weights, on a GPU (extra quant)."),
    click.option("--ray", is_flag=False, flag_value="", metavar="[ADDRESS]", help="On a Ray cluster (extra ray)."),
    click.option("--workers", type=Whole(1), help="Of --ray.  [default: one per GPU, or as the CPUs allow]"),
    click.option("--cpus-per-worker", type=Whole(1), help="Of --ray.  [default: 1; beside a GPU its share]"),
)
_WRITING = (
    click.option("--out", metavar="DIR", help="Run folder.  [default: runs/TIME-NAME]"),
    click.option("--keep-steps", is_flag=True, help="Keep every picture of every step."),
    click.option("--track", multiple=True, metavar="NAME", help="Also to wandb, trackio or tensorboard (extras)."),
    click.option("--json", is_flag=True, help="JSON on stdout."),
    click.option("--resume", is_flag=True, help="Go on with the run in --out; nothing else needs to be repeated."),
    click.option("--set", multiple=True, metavar="KEY=VALUE", help="Any plugin argument, e.g. method.milr.lr=0.01."),
    click.option("--config", metavar="FILE", help="YAML with any of these options."),
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
)


_JUDGING = (
    click.option("--data", metavar="PATH", help="The official files.  [default: what 'milr data BENCHMARK' fetched]"),
    click.option("--categories", metavar="A,B", help="Only these."),
    click.option("--limit", type=Whole(1), help="Only so many prompts, spread over all of them."),
    click.option("--judge", metavar="NAME", help="Who measures.  [default: the benchmark's own measure]"),
    click.option(
        "--held-out",
        metavar="NAME",
        help="A second judge, or none.  [default: one beside controls, and where a judge has steered]",
    ),
)


def drawing_options(command: Command) -> Command:
    """Adds what commands have that draw, in this order, below those that a command has of its own."""
    return _with_options(command, (*_SEARCHING, *_STEERING, *_RUNNING, *_WRITING))


def judging_options(command: Command) -> Command:
    """Likewise, what commands have that judge a benchmark's pictures."""
    return _with_options(command, _JUDGING)


def _with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command

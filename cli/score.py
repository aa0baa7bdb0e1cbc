"""`milr score`: pictures that somebody else made, or an earlier run, judged as `milr evaluate` judges its own."""

from __future__ import annotations

from typing import Any

import click

from milr.errors import UsageError

from .arguments import Whole, user_path
from .gathering import new_folder
from .options import judging_options
from .selecting import find_benchmark
from .settings import Settings, command_line_layer, default_layer


@click.command()
@click.argument("benchmark")
@click.argument("folder", metavar="DIR")
@judging_options
@click.option("--samples-per-prompt", "images", type=Whole(1), help="Pictures.  [default: all that are there]")
@click.option("--model", metavar="NAME", help="Who drew them, of 'milr list models': some judges know its pictures.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--set", multiple=True, metavar="KEY=VALUE", help="A judge's argument, e.g. judge.clip.model=ViT-L-14.")
@click.option("--out", metavar="DIR", help="Folder of the judgements.  [default: runs/TIME-score-NAME]")
@click.option("--json", is_flag=True, help="JSON on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_context
def score(context: click.Context, /, **_: Any) -> int:
    """Judge the pictures in DIR, which lie in the official layout of BENCHMARK, or are a run of 'milr evaluate'.

    Nothing is written to DIR. Judgements go to --out, where a second call goes on. The exit code is 1 where pictures
    are missing or could not be judged: the figures are then those of the others.
    """
    typed = command_line_layer(context)
    settings = Settings(default_layer(context) | typed, frozenset(typed))
    benchmark = find_benchmark(settings["benchmark"])
    folder = user_path(settings["folder"], "DIR")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; give the one that holds the pictures.")
    out = user_path(settings["out"], "--out") if settings["out"] is not None else new_folder(f"score {benchmark.name}")

    from .scoring import carry_out

    return carry_out(settings, benchmark, folder, out)

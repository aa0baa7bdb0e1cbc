"""`milr merge`: the shards of one evaluation as one run."""

from __future__ import annotations

import click

from .arguments import user_path
from .results import show_evaluation


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--out", metavar="DIR", required=True, help="Folder of the joined run.")
@click.option("--json", "as_json", is_flag=True, help="The results as JSON on stdout.")
def merge(runs: tuple[str, ...], out: str, as_json: bool) -> int:
    """Join the folders of 'milr evaluate --shard 1/N' to 'N/N' into the run that one process would have made.

    The exit code is 1 where pictures are missing or could not be judged.
    """
    from milr.evaluation.merging import merge as joined

    results = joined([user_path(run, "RUN") for run in runs], user_path(out, "--out"))
    return show_evaluation(results, as_json, f"; go on with: milr evaluate --resume --out {out}")

"""`milr merge`: the shards of one evaluation as one run."""

from __future__ import annotations

import click

from .arguments import user_path


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--out", metavar="DIR", required=True, help="Folder of the joined run.")
@click.option("--json", "as_json", is_flag=True, help="The results as JSON on stdout.")
def merge(runs: tuple[str, ...], out: str, as_json: bool) -> None:
    """Join the folders of 'milr evaluate --shard 1/N' to 'N/N' into the run that one process would have made."""
    from milr.evaluation.merging import merge as joined
    from milr.evaluation.tables import format_run
    from milr.run_files import to_json

    results = joined([user_path(run, "RUN") for run in runs], user_path(out, "--out"))
    click.echo(to_json(results.to_record()) if as_json else format_run(results))

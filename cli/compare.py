"""`milr compare`: finished runs side by side; what their folders say, and nothing else, is read."""

from __future__ import annotations

import click

from milr.run_files import to_json

from .arguments import user_path


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--judge", metavar="NAME", help="By whose judgements.  [default: those of the reference]")
@click.option("--against", metavar="ROW", help="The reference: a row as the table names it, or its folder.")
@click.option("--tags", is_flag=True, help="Also every tag.")
@click.option("--no-controls", is_flag=True, help="The runs alone, without the controls in their folders.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def compare(
    runs: tuple[str, ...], judge: str | None, against: str | None, tags: bool, no_controls: bool, as_json: bool
) -> None:
    """Compare runs of 'milr evaluate' and 'milr score', paired by prompt.

    Each RUN brings its controls along as rows; runs that differ in nothing but the seed are one row. All rows are
    compared with a reference: the first row of best-of-n, which draws as many pictures and learns nothing, or, where
    there is none, the first RUN. A row is better or worse only where the 95 % interval of its difference excludes zero.
    """
    from milr.evaluation.comparison import compare as by_one
    from milr.evaluation.comparison import compare_by_all, format_comparison, format_comparison_tags

    folders = [user_path(run, "RUN") for run in runs]
    if as_json or judge is not None:
        comparisons = [by_one(folders, judge, against, with_controls=not no_controls)]
    else:
        comparisons = compare_by_all(folders, against, with_controls=not no_controls)
    for warning in dict.fromkeys(line for comparison in comparisons for line in comparison.warnings):
        click.echo(f"milr: {warning}", err=True)
    if as_json:
        click.echo(to_json(comparisons[0].to_record()))
        return
    tables = [format_comparison(comparison) for comparison in comparisons]
    tables += [format_comparison_tags(comparison) for comparison in comparisons] if tags else []
    click.echo("\n\n".join(tables))

"""The tables in the docs are what the judgements behind them say."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from milr.evaluation.comparison import ComparedRow, compare
from milr.evaluation.tables import format_difference, format_interval, format_number, marks

DOCS = Path(__file__).parents[2] / "docs"
RUNS = DOCS / "results" / "evaluation"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All published runs, unpacked: a folder for each."""
    folder = tmp_path_factory.mktemp("published")
    for archive in RUNS.glob("*.tar.xz"):
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
    return folder


def lines_of(folders: list[Path]) -> Iterator[str]:
    """A line for each row: both judges, and what is more than best-of-n."""
    by_judges = [compare(folders, judge).rows for judge in ("scenes-judge", "scenes-third")]
    for row, held_out in zip(*by_judges, strict=True):
        cells = [row.row.label, format_number(row.row.images_decoded, 1), *cells_of(row), *cells_of(held_out)]
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


def cells_of(compared: ComparedRow) -> list[str]:
    value = format_interval(compared.estimate) + marks(compared.oracle, lacking=False)
    return [value, format_difference(compared.difference)]


@pytest.mark.parametrize(
    "pattern", ["scenes-honest-*", "scenes-oracle-*", "scenes-paper-seed*", "scenes-paper-guidance-*", "geneval-*"]
)
def test_a_table_is_what_its_judgements_say(runs: Path, pattern: str) -> None:
    lines = list(lines_of(sorted(runs.glob(pattern))))
    assert len(lines) == 6
    published = (DOCS / "evaluation.md").read_text("utf-8")
    assert "\n".join(lines) in published


def test_the_readme_has_the_same_numbers(runs: Path) -> None:
    compared = compare(sorted(runs.glob("scenes-honest-*"))).rows
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    for row in compared:
        difference = row.difference and format_interval(row.difference.estimate, "+")
        assert f"| {row.row.images_decoded:.0f} | {format_interval(row.estimate)} | {difference or ''}" in readme

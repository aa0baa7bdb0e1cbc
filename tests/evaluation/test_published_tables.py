"""The tables in the docs are what the judgements behind them say."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from milr.evaluation.comparison import ComparedRow, compare
from milr.evaluation.judgements import read_judgements
from milr.evaluation.rows import read_rows
from milr.evaluation.statistics import Estimate, PromptKey, paired_differences, resample
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


@pytest.fixture(scope="module")
def text() -> str:
    """What the docs say, in one line."""
    return " ".join((DOCS / "evaluation.md").read_text("utf-8").split())


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


def gain(runs: Path, pattern: str, judge: str) -> dict[PromptKey, float]:
    """How much more right `milr` is than reason-only, prompt by prompt, over all seeds."""
    rows, _ = read_rows(sorted(runs.glob(pattern)))
    by_name = {row.facts.row: row for row in rows}
    version = next(it for it in by_name["milr"].facts.judges if it["name"] == judge)
    figure = by_name["milr"].results.figures[0]
    return paired_differences(*(by_name[name].values(version, figure) for name in ("milr", "reason-only")))


def interval(estimate: Estimate) -> str:
    """As the text has it: "+.030 [+.020, +.040]"."""
    return format_interval(estimate, "+").replace("0.", ".")


@pytest.mark.parametrize("pattern", ["scenes-honest-*", "scenes-oracle-*", "scenes-paper-seed*"])
def test_how_much_of_a_gain_is_the_judges_alone(runs: Path, text: str, pattern: str) -> None:
    own, other = (gain(runs, pattern, judge) for judge in ("scenes-judge", "scenes-third"))
    found = resample({key: value - other[key] for key, value in own.items()})
    assert interval(found.figure(dict.fromkeys(found.means, 1 / len(found.means)))) in text


@pytest.mark.parametrize("against", ["resample", "random-direction"])
@pytest.mark.parametrize("judge", ["scenes-judge", "scenes-third"])
def test_what_the_published_recipe_learns(runs: Path, text: str, judge: str, against: str) -> None:
    (found, *_) = compare(sorted(runs.glob("scenes-paper-seed*")), judge, against).rows
    assert found.difference is not None
    assert interval(found.difference.estimate) in text


def test_how_many_pictures_of_base_another_batch_has_changed(runs: Path, text: str) -> None:
    drawn, judged = [], []
    for seed in (1, 2, 3):
        ours, theirs = (
            read_judgements(runs / f"scenes-{kind}-seed{seed}" / "controls" / "base") for kind in ("honest", "paper")
        )
        pairs = [(each, theirs[key]) for key, each in ours.items() if each.judge == "scenes-judge"]
        drawn.append(sum(one.image != other.image for one, other in pairs))
        judged.append(sum(one.value != other.value for one, other in pairs))
    assert "{}, {} and {} of its 448 pictures differ, and {}, {} and {} of them".format(*drawn, *judged) in text

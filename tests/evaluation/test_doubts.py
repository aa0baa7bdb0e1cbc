"""What is said beside a comparison: everything in which rows differ beside what they are about."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milr.evaluation.comparison import compare, format_comparison
from milr.evaluation.contract import Figure
from milr.evaluation.judgements import JUDGEMENTS_FILE

from .made_runs import FACTS, labels, make_controls, make_run, scores_of, warning, with_settings


def test_tags_of_few_prompts_are_named(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(1, 4))
    make_run(tmp_path / "b", scores_of(1, 4), replace(FACTS, row="other"))
    expected = "geneval-hf: tags of few prompts (colors 4): intervals over fewer than 10 are too narrow."
    assert compare([tmp_path / "a", tmp_path / "b"]).warnings == (expected,)


def test_a_control_that_is_not_finished_is_left_out_aloud(tmp_path: Path) -> None:
    make_controls(tmp_path, make_run(tmp_path, scores_of(60)), {"best-of-n": scores_of(40)})
    (tmp_path / "controls/resample").mkdir()
    found = compare([tmp_path])
    assert labels(found) == ["milr", "best-of-n"]
    assert warning(found, f"{tmp_path}/controls/resample is unfinished")


def test_tags_without_variety_are_named_and_have_no_interval(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(40, 40) | scores_of(40, 40, "counting"))
    make_run(tmp_path / "b", scores_of(40, 40) | scores_of(40, 40, "counting"), replace(FACTS, row="other"))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert warning(found, "geneval-hf: tags whose prompts are all alike (colors 40, counting 40)")
    _, _, first, second, *_ = format_comparison(found).splitlines()
    assert first.split("|")[4].strip() == "1.000"
    assert second.split("|")[5].strip() == "+0.000 not distinguishable"


def test_what_labels_do_not_say_of_rows_of_one_name_is_said(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(40), with_settings(lr=0.1))
    other = {"name": "self", "version": "1", "target": None, "kin": ["mini"]}
    make_run(tmp_path / "b", scores_of(40), replace(FACTS, critic=other))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert labels(found) == ["milr (critic clip)", "milr (critic self)"]
    assert found.warnings == ("rows of milr also differ in lr (0.1 and default).",)


def test_a_control_that_was_removed_is_missed(tmp_path: Path) -> None:
    make_controls(tmp_path, make_run(tmp_path, scores_of(60)), {"best-of-n": scores_of(40), "base": scores_of(20)})
    shutil.rmtree(tmp_path / "controls/best-of-n")
    found = compare([tmp_path])
    assert found.reference == "milr"
    assert f"milr evaluate --resume --out {tmp_path} makes it again" in warning(found, f"best-of-n of {tmp_path}")


def test_rows_that_lack_the_same_prompts_are_one_line(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(20, 40))
    for row in ("one", "two"):
        make_run(tmp_path / row, scores_of(20, 30), replace(FACTS, row=row))
    found = compare([tmp_path / name for name in ("a", "one", "two")])
    assert found.warnings == (
        "judged prompts differ: one, two have 30, milr 40; the difference is over the 30 that both have.",
    )


@pytest.mark.parametrize(
    ("settings", "decoded", "said"),
    [
        ({}, 84.0, None),
        ({}, 80.0, None),
        ({}, 79.0, "79.0 of 84 allowed"),
        ({"steps": 10}, 84.0, "84.0 of 44 allowed"),
        ({"budget": 40.0}, 84.0, "84.0 of 40 allowed"),
    ],
)
def test_unequal_budgets_are_named(tmp_path: Path, settings: dict[str, Any], decoded: float, said: str | None) -> None:
    make_run(tmp_path / "a", scores_of(1, 10))
    make_run(
        tmp_path / "b", scores_of(1, 10), with_settings(replace(FACTS, row="other"), **settings), images_decoded=decoded
    )
    warnings = compare([tmp_path / "a", tmp_path / "b"]).warnings
    expected = f"pictures decoded for one differ: milr 84.0 of 84 allowed, but other {said}."
    assert warnings == ((expected,) if said else ())


def test_every_other_inequality_is_named(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(1, 10), replace(FACTS, oracle=True))
    scores = {key: [1.0, 0.0] for key in scores_of(1, 10)}
    facts = replace(
        with_settings(FACTS, seed=7),
        row="other",
        protocol={"name": "paper"},
        data={"mine.jsonl": {"sha256": "1", "official": False}},
    )
    make_run(tmp_path / "b", scores, facts, size=(32, 32), missing=[("colors-001", 1)])
    assert set(compare([tmp_path / "a", tmp_path / "b"]).warnings) == {
        "resolutions differ: milr 64 x 64, but other 32 x 32.",
        "pictures per prompt differ: milr 1, but other 2.",
        "protocols differ: milr official, but other paper.",
        "seeds differ: other 7, milr 0; they are paired by prompt alone.",
        "geneval-hf, or its kin, steered milr (oracle), but not other.",
        "not the official data: mine.jsonl of other.",
        "other: pictures missing: 1 of 20.",
    }


def test_rows_of_other_figures_are_named(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(1, 10))
    make_run(tmp_path / "b", scores_of(1, 10), replace(FACTS, row="other"), figures=[Figure("mean of tags")])
    expected = "figures differ: milr overall, but other mean of tags."
    assert compare([tmp_path / "a", tmp_path / "b"]).warnings == (expected,)


def test_rows_that_search_nothing_are_no_rivals_of_an_oracle(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(60), replace(FACTS, oracle=True))
    make_controls(tmp_path, results, {"base": scores_of(20)})
    assert not [line for line in compare([tmp_path]).warnings if "oracle" in line]


def test_judgements_that_are_not_those_of_the_results_are_named(tmp_path: Path) -> None:
    make_run(tmp_path, scores_of(1, 4))
    content = (tmp_path / JUDGEMENTS_FILE).read_text().splitlines(keepends=True)
    (tmp_path / JUDGEMENTS_FILE).write_text("".join(content[:2]))
    assert warning(compare([tmp_path]), "milr: 2 pictures are judged, its results speak of 4")

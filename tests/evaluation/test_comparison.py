"""Runs side by side: what is paired with what, and what is called a difference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milr.errors import ResumeError, UnknownNameError, UsageError
from milr.evaluation.comparison import compare, format_comparison, format_comparison_tags
from milr.evaluation.judgements import JUDGEMENTS_FILE
from milr.evaluation.results import RESULTS_FILE
from milr.evaluation.statistics import Estimate

from .made_runs import FACTS, labels, make_controls, make_run, scores_of, verdicts, warning, with_settings

HELD_OUT = {"name": "vqascore", "version": "3"}


def test_alike_runs_have_no_warnings_and_a_row_is_better_only_outside_the_interval(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(40))
    make_run(tmp_path / "b", scores_of(41), with_settings(lr=0.1))
    make_run(tmp_path / "c", scores_of(60), with_settings(lr=0.2))
    found = compare([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert found.warnings == ()
    assert verdicts(found) == {
        "milr (lr default)": None,
        "milr (lr 0.1)": "not distinguishable",
        "milr (lr 0.2)": "better",
    }
    assert found.rows[2].difference.estimate.value == 0.2


def test_a_run_brings_its_controls_and_best_of_n_is_the_reference(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(60))
    make_controls(tmp_path, results, {"base": scores_of(20), "best-of-n": scores_of(40)})
    found = compare([tmp_path])
    assert found.reference == "best-of-n"
    assert verdicts(found) == {"milr": "better", "base": "worse", "best-of-n": None}
    assert labels(compare([tmp_path], with_controls=False)) == ["milr"]


def test_the_differences_are_those_of_the_runs_own_results(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(60) | scores_of(3, 10, "counting"))
    controls = {"best-of-n": scores_of(40) | scores_of(4, 10, "counting")}
    whole = make_controls(tmp_path, results, controls)
    found = compare([tmp_path])
    assert found.rows[0].difference == whole.differences["geneval-hf"]
    assert found.rows[0].estimate == whole.judges["geneval-hf"].headline


def test_a_control_that_is_given_as_a_run_is_one_row(tmp_path: Path) -> None:
    make_controls(tmp_path, make_run(tmp_path, scores_of(60)), {"best-of-n": scores_of(40)})
    assert labels(compare([tmp_path, tmp_path / "controls/best-of-n"])) == ["milr", "best-of-n"]


def test_runs_that_differ_in_the_seed_are_one_row(tmp_path: Path) -> None:
    for seed, correct in ((2, 50), (1, 40)):
        make_run(tmp_path / str(seed), scores_of(correct), with_settings(seed=seed))
    found = compare([tmp_path / "2", tmp_path / "1"])
    assert [compared.row.seeds for compared in found.rows] == [[1, 2]]
    assert found.rows[0].estimate.value == 0.45


def test_runs_of_one_seed_stay_apart_and_are_called_by_their_folders(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(40))
    make_run(tmp_path / "b", scores_of(40))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert labels(found) == [f"milr ({tmp_path}/a)", f"milr ({tmp_path}/b)"]
    assert found.rows[1].difference.estimate == Estimate(0.0, 0.0, 0.0)


def test_pictures_of_unknown_seed_are_never_pooled(tmp_path: Path) -> None:
    facts = replace(FACTS, made_by="score", seed=None, settings={}, critic=None, model=None, method=None)
    make_run(tmp_path / "a", scores_of(40), facts, images_decoded=None)
    make_run(tmp_path / "b", scores_of(40), facts, images_decoded=None)
    assert len(compare([tmp_path / "a", tmp_path / "b"]).rows) == 2


def test_rows_of_one_name_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(40))
    make_run(
        tmp_path / "b",
        scores_of(40),
        replace(FACTS, critic={"name": "self", "version": "1", "target": None, "kin": []}),
    )
    assert labels(compare([tmp_path / "a", tmp_path / "b"])) == ["milr (critic clip)", "milr (critic self)"]


@pytest.mark.parametrize("against", ["milr (steps 5)", "b"])
def test_the_reference_may_be_named_by_label_or_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, against: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("a"), scores_of(40))
    make_run(Path("b"), scores_of(40), with_settings(steps=5))
    assert compare([Path("a"), Path("b")], against=against).reference == "milr (steps 5)"


def test_an_unknown_reference_or_judge_is_refused_with_those_there_are(tmp_path: Path) -> None:
    make_run(tmp_path, scores_of(4, 9))
    with pytest.raises(UnknownNameError, match=r"unknown row 'mirl'\. Did you mean 'milr'"):
        compare([tmp_path], against="mirl")
    with pytest.raises(UnknownNameError, match=r"unknown judge 'vqa'\. Available: geneval-hf\. These have judged milr"):
        compare([tmp_path], judge="vqa")


def test_the_held_out_judge_can_be_asked(tmp_path: Path) -> None:
    facts = replace(FACTS, held_out=HELD_OUT, oracle=True)
    make_run(tmp_path / "a", scores_of(90), facts, held_out=scores_of(40))
    make_run(tmp_path / "b", scores_of(40), with_settings(replace(facts, oracle=False), lr=1), held_out=scores_of(41))
    own, held_out = compare([tmp_path / "a", tmp_path / "b"]), compare([tmp_path / "a", tmp_path / "b"], "vqascore")
    assert [compared.oracle for compared in own.rows] == [True, False]
    assert "*" in format_comparison(own).splitlines()[2]
    assert list(verdicts(own).values()) == [None, "worse"]
    assert [compared.oracle for compared in held_out.rows] == [False, False]
    assert list(verdicts(held_out).values()) == [None, "not distinguishable"]


def test_another_judge_or_another_version_of_it_is_never_compared(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(90))
    for row in ("other", "another"):
        make_run(tmp_path / row, scores_of(10), replace(FACTS, row=row, judge={"name": "geneval-hf", "version": "2"}))
    found = compare([tmp_path / "a", tmp_path / "other", tmp_path / "another"])
    assert [(it.refused, it.difference) for it in found.rows[1:]] == [("other judge", None)] * 2
    assert warning(found, "judges differ") == (
        "judges differ: other, another by geneval-hf 2, but milr by geneval-hf 1: not compared; judge all by one."
    )
    assert "| other judge" in format_comparison(found)
    assert "nothing was compared." in format_comparison(found)


def test_runs_of_different_benchmarks_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(1, 2))
    make_run(tmp_path / "b", scores_of(1, 2), replace(FACTS, benchmark="wise"))
    with pytest.raises(UsageError, match="different benchmarks cannot be compared"):
        compare([tmp_path / "a", tmp_path / "b"])


def test_only_common_prompts_are_compared(tmp_path: Path) -> None:
    make_run(tmp_path / "a", {**scores_of(0, 10), ("only-a", "counting"): [1.0]})
    make_run(tmp_path / "b", {**scores_of(10, 10), ("only-b", "colors"): [0.0]}, replace(FACTS, row="other"))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.rows[1].difference.prompts == 10
    assert found.rows[1].difference.estimate == Estimate(1.0, 1.0, 1.0)
    expected = "judged prompts differ: other has 11, milr 11; the difference is over the 10 that both have."
    assert expected in found.warnings


def test_a_figure_that_lacks_a_tag_is_shown_and_not_called(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(20, 40) | scores_of(20, 40, "counting"))
    unjudged = {(name, tag): [None] for name, tag in scores_of(0, 40, "counting")}
    make_run(tmp_path / "b", scores_of(40, 40) | unjudged, replace(FACTS, row="other"))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.rows[1].estimate == Estimate()
    assert found.rows[1].difference.estimate.value == 0.5
    assert verdicts(found) == {"milr": None, "other": "not of all tags"}
    lines = format_comparison(found).splitlines()
    assert [line.split("|")[4].strip()[-1] for line in lines[2:4]] == ["]", "!"]
    assert any(line.startswith("! not of all pictures") for line in lines)


def test_a_judge_that_has_not_judged_the_reference_is_refused_with_what_to_do(tmp_path: Path) -> None:
    make_controls(tmp_path / "a", make_run(tmp_path / "a", scores_of(40)), {"best-of-n": scores_of(40)})
    facts = replace(FACTS, row="other", held_out=HELD_OUT)
    make_run(tmp_path / "b", scores_of(40), facts, held_out=scores_of(30))
    expected = rf"vqascore has not judged best-of-n, .* --resume --held-out vqascore --out {tmp_path / 'a'}$"
    with pytest.raises(UsageError, match=expected):
        compare([tmp_path / "a", tmp_path / "b"], "vqascore")


def test_runs_without_a_common_prompt_are_not_compared(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(1, 2, "colors"))
    make_run(tmp_path / "b", scores_of(1, 2, "counting"), replace(FACTS, row="other"))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert (found.rows[1].refused, found.rows[1].difference) == ("no common prompts", None)


def test_a_prompt_on_which_the_judge_failed_is_no_zero(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(10, 10))
    make_run(tmp_path / "b", {**scores_of(10, 10), ("colors-000", "colors"): [None]}, replace(FACTS, row="other"))
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.rows[1].difference.estimate == Estimate(0.0, 0.0, 0.0)
    assert "other: pictures on which geneval-hf failed, left out: 1 of 10." in found.warnings


def test_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    for seed, correct in ((1, 90), (2, 50)):
        make_run(tmp_path / str(seed), scores_of(correct), with_settings(seed=seed))
    make_run(tmp_path / "b", scores_of(50), with_settings(replace(FACTS, row="other"), seed=2))
    found = compare([tmp_path / name for name in ("1", "2", "b")])
    assert found.rows[1].difference.estimate == Estimate(0.0, 0.0, 0.0)
    assert found.warnings == ("seeds differ: other 2, milr 1, 2; the difference is over 2.",)


def test_the_tables_name_their_numbers_and_how_many_comparisons_were_made(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(60) | scores_of(5, 10, "counting"))
    controls = {name: scores_of(40) | scores_of(5, 10, "counting") for name in ("base", "best-of-n")}
    make_controls(tmp_path, results, controls)
    found = compare([tmp_path])
    header, _, *rows = format_comparison(found).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "row",
        "seeds",
        "images decoded",
        "geneval-hf: overall",
        "minus best-of-n",
    ]
    assert [row.split("|")[1].strip() for row in rows[:3]] == ["milr", "base", "best-of-n"]
    assert rows[-1] == (
        "2 comparisons with best-of-n, paired by prompt, 95 % bootstrap intervals; "
        "intervals and verdicts are not corrected for the number of comparisons."
    )
    tags = format_comparison_tags(found).splitlines()
    assert [line.split("|")[1].strip() for line in tags[2:8]] == ["colors"] * 3 + ["counting"] * 3
    assert tags[-1].startswith("4 comparisons with best-of-n")


def test_a_folder_given_twice_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(1, 2))
    with pytest.raises(UsageError, match="given twice"):
        compare([tmp_path / "a", tmp_path / "a/../a"])


def test_folders_without_a_finished_run_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        compare([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match=r"has no results\.json; give a folder that 'milr evaluate'"):
        compare([tmp_path])
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match=r"is unfinished: .* finish it with 'milr evaluate --resume --out"):
        compare([tmp_path])


@pytest.mark.parametrize("lines", ['{"a": 1}\n', "\x00\n{}\n", "[" * 100_000 + "\n{}\n"])
def test_judgements_of_somebody_else_are_refused(tmp_path: Path, lines: str) -> None:
    make_run(tmp_path, scores_of(1, 2))
    (tmp_path / JUDGEMENTS_FILE).write_text(lines)
    with pytest.raises(ResumeError):
        compare([tmp_path])


@pytest.mark.parametrize(
    "wrong", [{"judge": []}, {"value": "1"}, {"tag": 5}, {"image_index": None}, {"parts": [1]}, {"parts": {"a": "b"}}]
)
def test_a_judgement_with_a_wrong_value_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    make_run(tmp_path, scores_of(1, 2))
    line, *_ = (tmp_path / JUDGEMENTS_FILE).read_text().splitlines()
    (tmp_path / JUDGEMENTS_FILE).write_text(json.dumps(json.loads(line) | wrong) + "\n")
    with pytest.raises(ResumeError, match=r"line 1 of .*judgements\.jsonl is no judgement"):
        compare([tmp_path])


def test_results_without_their_judgements_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path, scores_of(1, 2))
    (tmp_path / JUDGEMENTS_FILE).unlink()
    with pytest.raises(UsageError, match=r"no judgements\.jsonl beside it; copy both"):
        compare([tmp_path])


def test_the_record_of_a_comparison_has_rows_and_warnings(tmp_path: Path) -> None:
    make_run(tmp_path / "a", scores_of(40))
    make_run(tmp_path / "b", scores_of(60), replace(FACTS, row="other"), size=(32, 32))
    record = compare([tmp_path / "a", tmp_path / "b"]).to_record()
    assert record["against"] == "milr"
    assert record["comparisons"] == 1
    assert record["warnings"] == ["resolutions differ: milr 64 x 64, but other 32 x 32."]
    other = record["rows"][1]
    assert (other["row"], other["seeds"], other["value"], other["difference"]["verdict"]) == (
        "other",
        [0],
        0.6,
        "better",
    )
    assert other["tags"]["colors"]["difference"]["value"] == 0.2
    assert RESULTS_FILE not in str(record)

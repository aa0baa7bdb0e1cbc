"""`milr compare`: stdout, stderr and exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.made_runs import FACTS, make_controls, make_run, scores_of

from .conftest import Milr


def test_rows_go_to_stdout_and_warnings_to_stderr(milr: Milr) -> None:
    make_run(Path("ours"), scores_of(60))
    make_run(Path("theirs"), scores_of(40), replace(FACTS, row="other"), size=(32, 32))
    outcome = milr("compare", "ours", "theirs")
    assert outcome.code == 0
    assert outcome.stdout.splitlines()[0].startswith("| row   | seeds | images decoded | geneval-hf: overall")
    assert "worse" in outcome.stdout
    assert outcome.stderr == "milr: resolutions differ: milr 64 x 64, but other 32 x 32.\n"


def test_json_is_one_object_with_the_warnings_in_it(milr: Milr) -> None:
    make_controls(Path("run"), make_run(Path("run"), scores_of(60)), {"best-of-n": scores_of(40)})
    outcome = milr("compare", "run", "--json", "--against", "milr")
    (record,) = outcome.records
    assert (record["against"], [row["row"] for row in record["rows"]]) == ("milr", ["milr", "best-of-n"])
    assert record["warnings"] == []


def test_tags_are_shown_when_asked_for(milr: Milr) -> None:
    make_run(Path("run"), scores_of(3, 5, "counting"))
    assert "| counting |" not in milr("compare", "run").stdout
    assert "| counting |" in milr("compare", "run", "--tags").stdout


def test_the_held_out_judge_has_a_table_of_its_own_unless_one_is_named(milr: Milr) -> None:
    facts = replace(FACTS, held_out={"name": "vqascore", "version": "3"})
    make_run(Path("run"), scores_of(60), facts, held_out=scores_of(50))
    both = milr("compare", "run")
    assert [name in both.stdout for name in ("geneval-hf: overall", "vqascore: overall")] == [True, True]
    one = milr("compare", "run", "--judge", "vqascore")
    assert [name in one.stdout for name in ("geneval-hf: overall", "vqascore: overall")] == [False, True]


def test_controls_stay_away_when_not_wanted(milr: Milr) -> None:
    make_controls(Path("run"), make_run(Path("run"), scores_of(60)), {"best-of-n": scores_of(40)})
    assert "best-of-n" in milr("compare", "run").stdout
    assert "best-of-n" not in milr("compare", "run", "--no-controls").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "milr: there is no folder nowhere; give the folder of a run.\n"),
        (["run", "--judge", "clip"], "milr: unknown judge 'clip'. Available: geneval-hf. These have judged milr.\n"),
        (["run", "--against", "base"], "milr: unknown row 'base'. Available: milr.\n"),
        (["run", "run"], "milr: a run is given twice; give each folder once.\n"),
        (["foreign"], "milr: foreign/results.json is not what this version of milr writes; 'milr evaluate "),
        (["file"], "milr: there is no folder file; give the folder of a run.\n"),
        (["x" * 300], f"milr: RUN {'x' * 60!r} is no usable path: "),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(milr: Milr, arguments: list[str], said: str) -> None:
    make_run(Path("run"), scores_of(3, 5))
    Path("file").write_text("")
    Path("foreign").mkdir()
    Path("foreign/results.json").write_bytes(b"\xff\xfe")
    outcome = milr("compare", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(said)
    assert outcome.stderr.count("\n") == 1

"""What a judge that cannot judge says: in its own role, and why."""

from __future__ import annotations

from pathlib import Path

from .conftest import Milr
from .test_evaluate import evaluate, record

__all__ = ["evaluate"]  # a fixture

SMALL = ("--steps", "0", "--samples", "1", "--images", "1", "--limit", "2")


def test_a_judge_advises_options_that_reach_a_judge(evaluate: Milr, tmp_path: Path) -> None:
    outcome = evaluate(*SMALL, "--judge", "judge:gpt-4o-binary")
    assert outcome.code == 2
    assert "--set judge.judge.url=" in outcome.stderr
    assert "--set reward." not in outcome.stderr
    assert not (tmp_path / "run").exists()


def test_why_a_judge_could_not_judge_is_said(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    (tmp_path / "blind.py").write_text("def look(image, prompt):\n    raise ValueError('too dark')\n")
    outcome = evaluate(*SMALL, "--judge", "python:blind.py:look")
    assert outcome.code == 1
    assert outcome.stderr.count("too dark") == 1  # the first failure stands for all
    outcome = milr("score", "shades", "run", "--judge", "python:blind.py:look", "--out", "scored")
    assert outcome.code == 1
    assert outcome.stderr.count("too dark") == 1


def test_a_folder_that_cannot_be_made_is_refused_by_score(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate(*SMALL)
    (tmp_path / "file").write_text("")
    outcome = milr("score", "shades", "run", "--judge", "redness", "--out", "file/inside")
    assert outcome.code == 2
    assert "choose another --out" in outcome.stderr


def test_another_judge_departs_from_the_protocol_of_a_run(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate(*SMALL, "--protocol", "official", "--reward", "greenness")
    milr("score", "shades", "run", "--judge", "greenness", "--out", "scored")
    assert record(tmp_path / "scored")["protocol"]["changed"]["judge"] == "greenness"
    milr("score", "shades", "run", "--out", "again")
    assert record(tmp_path / "again")["protocol"] == record(tmp_path / "run")["protocol"]

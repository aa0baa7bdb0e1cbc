"""`milr score` and `milr merge`: pictures of others, and shards, end as one process's own evaluation does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milr.run_files import read_lines

from .conftest import Milr
from .test_evaluate import evaluate, record

__all__ = ["evaluate"]  # a fixture


def without_spent(results: dict[str, Any]) -> dict[str, Any]:
    """What two runs of the same pictures share."""
    kept = {name: value for name, value in results.items() if name != "spent"}
    return kept | {"controls": [without_spent(control) for control in results.get("controls", [])]}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path: Path) -> list[dict[str, Any]]:
    """Of a JSON-lines file, without what the clock decides, in one order."""
    return sorted(
        ({name: value for name, value in line.items() if name != "seconds"} for line in read_lines(path)), key=str
    )


def test_shards_merge_into_the_run_of_one_process(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    options = ("--controls", "--samples-per-prompt", "2", "--batch", "1")
    evaluate(*options, "--out", "whole")
    for part in (1, 2, 3):
        assert evaluate(*options, "--shard", f"{part}/3", "--out", f"part{part}").code == 0
    outcome = milr("merge", "part3", "part1", "part2", "--out", "merged")
    assert outcome.code == 0, outcome.stderr
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    assert without_spent(record(merged)) == without_spent(record(whole))
    for name in ("samples.jsonl", "judgements.jsonl", "controls/best-of-n/samples.jsonl", "trace/beast-2.jsonl"):
        assert lines(merged / name) == lines(whole / name)
    assert contents(merged / "images") == contents(whole / "images")
    assert outcome.stdout.splitlines()[2:8] == milr("evaluate", "--resume", "--out", "whole").stdout.splitlines()[2:8]
    assert milr("evaluate", "--resume", "--out", "merged").code == 0  # a run like any other


def test_only_all_finished_parts_of_one_run_are_merged(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    small = ("--steps", "0", "--samples", "1", "--images", "1")
    evaluate(*small, "--shard", "1/2", "--out", "one")
    evaluate(*small, "--shard", "2/2", "--out", "two")
    evaluate(*small, "--shard", "2/2", "--seed", "1", "--out", "other")
    evaluate(*small, "--out", "whole")
    shutil.copytree(tmp_path / "two", tmp_path / "unfinished")
    (tmp_path / "unfinished" / "results.json").unlink()
    for name, changed in (("lossy", {"missing": 1}), ("elsewhere", {"data": {"file": {"sha256": "1"}}})):
        shutil.copytree(tmp_path / "two", tmp_path / name)
        (tmp_path / name / "results.json").write_text(json.dumps(record(tmp_path / "two") | changed))
    (tmp_path / "there").mkdir()
    for folders, message in (
        (("one",), "not all shards are given (2/2)"),
        (("one", "one"), "both part 1 of 2"),
        (("one", "whole"), "whole is no shard"),
        (("one", "other"), "other was made with seed = 1, not 0 as in one; give parts of one run"),
        (("one", "unfinished"), "milr evaluate --resume --out"),
        (("one", "nowhere"), "nowhere is no run"),
        (("one", "lossy"), "lossy lacks 1 pictures"),
        (("one", "elsewhere"), "elsewhere was made with other weights, critics, judges or data than one"),
    ):
        outcome = milr("merge", *folders, "--out", "merged")
        assert (outcome.code, len(outcome.stderr.splitlines())) == (2, 1), outcome.stderr
        assert message in outcome.stderr
        assert not (tmp_path / "merged").exists()
    assert "there exists" in milr("merge", "one", "two", "--out", "there").stderr
    assert not list(tmp_path.glob(".*.part"))


def test_pictures_of_others_get_the_judgement_of_their_own_evaluation(
    evaluate: Milr, milr: Milr, tmp_path: Path
) -> None:
    evaluate()
    before = contents(tmp_path / "run")
    shutil.copytree(tmp_path / "run" / "images", tmp_path / "pictures")
    outcome = milr("score", "shades", "pictures", "--out", "scored", "--json")
    assert outcome.code == 0, outcome.stderr
    ours, theirs = record(tmp_path / "run"), record(tmp_path / "scored")
    assert theirs["judges"]["redness"] == ours["judges"]["redness"]
    assert (theirs["made_by"], theirs["images_per_prompt"], theirs["missing"]) == ("score", 2, 0)
    assert json.loads(outcome.stdout) == theirs
    assert contents(tmp_path / "run") == before


def test_a_run_can_be_scored_by_another_judge_and_keeps_who_made_it(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate("--reward", "greenness")
    assert milr("score", "shades", "run", "--judge", "greenness", "--out", "scored").code == 0
    results = record(tmp_path / "scored")
    assert (results["row"], results["judge"]["name"], results["oracle"]) == ("milr", "greenness", True)
    assert results["images_decoded"] == record(tmp_path / "run")["images_decoded"]
    assert milr("compare", "run", "scored").code == 0


def test_a_row_without_a_search_is_no_oracles_whoever_judges_it(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate("--reward", "greenness", "--controls", "--limit", "1")
    outcome = milr("score", "shades", "run", "--judge", "greenness", "--out", "scored")
    assert "judged the run alone; its controls (base, reason-only, best-of-n," in outcome.stderr
    for row, oracle in (("best-of-n", True), ("base", False)):
        folder = f"run/controls/{row}"
        assert milr("score", "shades", folder, "--judge", "greenness", "--out", f"scored-{row}").code == 0
        assert record(tmp_path / f"scored-{row}")["oracle"] is oracle


def test_pictures_of_a_run_keep_their_numbers_where_one_is_gone(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate("--limit", "1")
    (tmp_path / "run" / "images" / "fruit-0" / "0.png").unlink()
    assert milr("score", "shades", "run", "--out", "scored").code == 1
    assert record(tmp_path / "scored")["missing"] == 1
    (judgement,) = lines(tmp_path / "scored" / "judgements.jsonl")
    assert judgement["image_index"] == 1


def test_a_picture_that_no_critic_could_score_is_missing_everywhere_and_hinders_no_merge(
    evaluate: Milr, milr: Milr, tmp_path: Path
) -> None:
    (tmp_path / "moody.py").write_text(
        "def moody(image, prompt):\n    if prompt == 'a dog':\n        raise ValueError('not today')\n    return 0.5\n"
    )
    options = ("--reward", "python:moody.py:moody", "--images", "1")
    for part in (1, 2):
        evaluate(*options, "--shard", f"{part}/2", "--out", f"part{part}")
    outcome = milr("merge", "part1", "part2", "--out", "merged")
    assert outcome.code == 1
    assert "go on with: milr evaluate --resume --out merged" in outcome.stderr
    results = record(tmp_path / "merged")
    assert (results["images"], results["missing"]) == (6, 1)
    assert results["judges"]["redness"]["prompts_missing"] == 1
    outcome = milr("score", "shades", "merged", "--judge", "greenness", "--out", "scored")
    assert (outcome.code, record(tmp_path / "scored")["missing"]) == (1, 1)


def test_missing_and_unreadable_pictures_are_counted_and_end_with_1(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate()
    images = tmp_path / "run" / "images"
    (images / "fruit-0" / "1.png").unlink()
    (images / "beast-0" / "0.png").write_bytes(b"no picture")
    outcome = milr("score", "shades", str(images), "--out", "scored")
    assert outcome.code == 1
    assert "pictures that are not in the numbers: 2 missing or unreadable" in outcome.stderr
    assert record(tmp_path / "scored")["missing"] == 2


def test_what_is_judged_is_not_judged_again(milr: Milr, evaluate: Milr, tmp_path: Path) -> None:
    evaluate("--limit", "2")
    milr("score", "shades", "run", "--out", "scored")
    milr("score", "shades", "run", "--out", "scored")
    assert len(read_lines(tmp_path / "scored" / "judgements.jsonl")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["empty"], "there are no pictures of shades in empty; expected such as empty/fruit-0/0.png"),
        (["pictures", "--out", "pictures"], "pictures holds other files"),
        (["pictures", "--model", "minni"], "unknown model 'minni'. Did you mean 'mini'?"),
        (["pictures", "--judge", "rednes"], "unknown reward 'rednes'. Did you mean 'redness'?"),
    ],
)
def test_what_cannot_be_scored_is_refused(milr: Milr, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures" / "fruit-0").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "fruit-0" / "0.png")
    before = contents(tmp_path)
    outcome = milr("score", "shades", *arguments)
    assert (outcome.code, len(outcome.stderr.splitlines())) == (2, 1), outcome.stderr
    assert message in outcome.stderr
    assert contents(tmp_path) == before


def test_an_unfinished_run_is_finished_first(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate("--limit", "1")
    (tmp_path / "run" / "results.json").unlink()
    outcome = milr("score", "shades", "run", "--out", "scored")
    assert (outcome.code, (tmp_path / "scored").exists()) == (2, False)
    assert "run is unfinished; first: milr evaluate --resume --out run" in outcome.stderr

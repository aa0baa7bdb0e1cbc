"""`milr evaluate` as a user types it: rows, judges, protocols, what is refused, what a resume does not do again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat

from milr.evaluation.judgements import read_judgements
from milr.plugins import find
from milr.run_files import read_lines
from tests.rewards.endpoint_server import says, serving

from .conftest import Milr, Outcome


@pytest.fixture
def evaluate(milr: Milr, tiny_model: Path) -> Milr:
    """`milr evaluate shades` on the tiny model: two steps of two samples unless told otherwise."""

    def call(*arguments: str) -> Outcome:
        given = [str(argument) for argument in arguments]
        defaults = {"--model": str(tiny_model), "--steps": "1", "--samples": "2", "--out": "run"}
        added = [text for name, value in defaults.items() if name not in given for text in (name, value)]
        return milr("evaluate", "shades", *added, *given)

    return call


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text("utf-8"))


def redness(path: Path) -> float:
    with Image.open(path) as image:
        return ImageStat.Stat(image.convert("RGB")).mean[0] / 255


def test_pictures_lie_in_the_benchmarks_layout_and_each_is_judged(evaluate: Milr, tmp_path: Path) -> None:
    assert evaluate().code == 0
    run = tmp_path / "run"
    found = {path.relative_to(run / "images").as_posix() for path in (run / "images").rglob("*.png")}
    assert found == {f"{tag}-{n}/{i}.png" for tag in ("fruit", "beast") for n in range(3) for i in range(2)}
    assert (run / "images" / "prompts.txt").read_text().startswith("a red apple\na red apple\na green apple")
    judgements = read_judgements(run)
    assert len(judgements) == 12
    for (_, identity, index), judgement in judgements.items():
        assert judgement.value == pytest.approx(redness(run / "images" / identity / f"{index}.png"))


def test_the_overall_figure_is_the_mean_of_the_tags_means(evaluate: Milr, tmp_path: Path) -> None:
    evaluate()
    results = record(tmp_path / "run")
    means = {}
    for tag in ("fruit", "beast"):
        pictures = list((tmp_path / "run" / "images").glob(f"{tag}-*/*.png"))
        means[tag] = sum(map(redness, pictures)) / len(pictures)
        assert results["judges"]["redness"]["tags"][tag]["value"] == pytest.approx(means[tag], abs=1e-6)
    overall = results["judges"]["redness"]["figures"]["overall"]
    assert overall["value"] == pytest.approx(sum(means.values()) / 2, abs=1e-6)
    assert overall["low"] <= overall["value"] <= overall["high"]


def test_controls_stand_beside_the_run_with_the_same_critic_budget_and_first_picture(
    evaluate: Milr, tmp_path: Path
) -> None:
    outcome = evaluate("--controls", "--keep-steps", "--samples-per-prompt", "1")
    assert outcome.code == 0
    results = record(tmp_path / "run")
    rows = [results, *results["controls"]]
    names = ["milr", "base", "reason-only", "best-of-n", "resample", "random-direction"]
    assert [row["row"] for row in rows] == names
    assert all(name in outcome.stdout for name in names)
    assert [row["images_decoded"] for row in rows] == [4, 1, 1, 4, 4, 4]
    assert {row["critic"]["version"] for row in rows} == {results["critic"]["version"]}
    assert set(results["judges"]) == {"redness", "greenness"}  # a held-out judge reports too
    first = (tmp_path / "run" / "controls" / "reason-only" / "images" / "fruit-0" / "0.png").read_bytes()
    for name in ("best-of-n", "resample", "random-direction"):
        assert (tmp_path / "run" / "controls" / name / "steps" / "fruit-0-0" / "000-0.png").read_bytes() == first


def test_base_draws_without_reasoning_and_reason_only_with_it(evaluate: Milr, tmp_path: Path) -> None:
    evaluate("--controls", "--limit", "2")
    lines = {
        name: read_lines(tmp_path / "run" / "controls" / name / "samples.jsonl") for name in ("base", "reason-only")
    }
    assert {line["reasoning"] for line in lines["base"]} == {""}
    assert any(line["reasoning"] for line in lines["reason-only"])


def test_a_run_whose_critic_judges_is_an_oracles_and_gets_a_held_out_judge(evaluate: Milr, tmp_path: Path) -> None:
    outcome = evaluate("--reward", "redness", "--controls", "--limit", "2")
    results = record(tmp_path / "run")
    assert results["oracle"] is True
    assert results["held_out"]["name"] == "greenness"
    assert results["held_out_oracle"] is False
    oracles = {row["row"]: row["oracle"] for row in results["controls"]}
    assert oracles == {
        "base": False,
        "reason-only": False,
        "best-of-n": True,
        "resample": True,
        "random-direction": True,
    }
    assert "oracle" in outcome.stdout


def test_protocol_paper_is_one_picture_an_oracle_and_the_published_settings(evaluate: Milr, tmp_path: Path) -> None:
    assert evaluate("--protocol", "paper", "--samples", "1", "--limit", "2").code == 0
    results = record(tmp_path / "run")
    assert results["protocol"]["name"] == "paper"
    assert (results["images_per_prompt"], results["oracle"]) == (1, True)
    assert results["settings"]["keep"] == "last"
    assert results["settings"]["method.milr.action"] == "argmax"


def test_what_is_not_as_the_protocol_says_stands_beside_its_name(evaluate: Milr, tmp_path: Path) -> None:
    evaluate("--protocol", "official", "--out", "as-it-says")
    assert record(tmp_path / "as-it-says")["protocol"] == {"name": "official"}
    options = ("--limit", "1", "--images", "1", "--judge", "greenness", "--controls")
    outcome = evaluate("--protocol", "official", *options)
    results = record(tmp_path / "run")
    for row in (results, *results["controls"]):
        assert row["protocol"] == {"name": "official", "changed": {"images": 1, "limit": 1, "judge": "greenness"}}
    assert results["held_out"]["name"] == "redness"  # who would have judged
    assert "protocol official, but images 1, limit 1, judge greenness: 1 prompt, 1 picture each" in outcome.stdout


@pytest.mark.parametrize(
    ("protocol", "options", "changed"),
    [
        ("paper", ["--guidance", "2"], {"guidance": 2}),
        ("paper", ["--budget", "2", "--target", "0.9"], {"budget": 2, "target": 0.9}),
        ("paper", ["--order", "image"], {"method.milr.order": "image"}),
        ("paper", ["--set", "method.milr.lr=0.03"], {}),  # as it was published
        ("paper", ["--gate", "brightness=0.1"], {"gate": ["brightness=0.1"]}),
        ("paper", ["--set", "judge.redness.power=2"], {"judge.redness.power": 2}),
        ("official", ["--order", "image", "--budget", "2"], {}),  # what is evaluated is free
        ("official", ["--set", "judge.redness.power=2"], {"judge.redness.power": 2}),
        ("official", ["--held-out", "greenness", "--set", "judge.greenness.power=2"], {}),
    ],
)
def test_everything_that_makes_another_number_of_a_protocols_is_named(
    evaluate: Milr, tmp_path: Path, protocol: str, options: list[str], changed: dict[str, object]
) -> None:
    outcome = evaluate("--protocol", protocol, "--steps", "1", "--samples", "1", "--limit", "1", *options)
    assert outcome.code == 0, outcome
    always = {"limit": 1, "steps": 1} if protocol == "paper" else {"limit": 1}
    assert record(tmp_path / "run")["protocol"]["changed"] == {**always, **changed}


def test_protocol_official_refuses_the_judge_as_its_critic(evaluate: Milr, tmp_path: Path) -> None:
    outcome = evaluate("--protocol", "official", "--reward", "redness")
    assert outcome.code == 2
    assert "no kin of the judge" in outcome.stderr
    assert not (tmp_path / "run").exists()
    assert evaluate("--protocol", "official", "--limit", "2").code == 0
    assert record(tmp_path / "run")["images_per_prompt"] == 2


def test_a_finished_evaluation_is_shown_again_and_nothing_is_done_again(
    evaluate: Milr, milr: Milr, tmp_path: Path
) -> None:
    first = evaluate("--controls", "--limit", "2", "--json")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = milr("evaluate", "--resume", "--out", "run", "--json")
    assert again.code == 0
    assert again.stdout == first.stdout
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {path for path in before if before[path] != after.get(path)} <= {tmp_path / "run" / ".lock"}


def test_another_judge_judges_again_and_draws_nothing(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate("--limit", "2")
    pictures = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "images").rglob("*.png")}
    assert milr("evaluate", "--resume", "--out", "run", "--judge", "greenness").code == 0
    assert record(tmp_path / "run")["judge"]["name"] == "greenness"
    assert {path: path.stat().st_mtime_ns for path in pictures} == pictures
    assert {judge for judge, _, _ in read_judgements(tmp_path / "run")} == {"redness", "greenness"}


def test_a_picture_that_changed_is_judged_again(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate("--limit", "2")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "run" / "images" / "fruit-0" / "0.png")
    milr("evaluate", "--resume", "--out", "run")
    assert read_judgements(tmp_path / "run")["redness", "fruit-0", 0].value == 1.0


def test_categories_limit_and_shard_choose_prompts(evaluate: Milr, tmp_path: Path) -> None:
    def drawn(*arguments: str) -> list[str]:
        out = f"run{len(list(tmp_path.iterdir()))}"
        assert evaluate(*arguments, "--steps", "0", "--samples", "1", "--images", "1", "--out", out).code == 0
        return [line["id"] for line in json.loads((tmp_path / out / "run.json").read_text())["prompts"]]

    assert drawn("--categories", "beast") == ["beast-0", "beast-1", "beast-2"]
    assert drawn("--limit", "2") == ["fruit-0", "beast-0"]
    assert drawn("--shard", "2/4") == ["fruit-1", "beast-2"]


def test_dry_run_says_what_it_would_take_and_writes_nothing(evaluate: Milr, tmp_path: Path) -> None:
    outcome = evaluate("--dry-run", "--controls", "--json", "--steps", "3")
    assert outcome.code == 0
    (estimate,) = outcome.records
    assert (estimate["prompts"], estimate["images_per_prompt"]) == (6, 2)
    assert estimate["pictures_decoded_at_most"]["milr"] == 6 * 2 * 2 * 4
    assert estimate["pictures_decoded_at_most"]["base"] == 12
    assert estimate["judgements"] == {"redness": 72, "greenness": 72}
    assert estimate["drawing_at_most"]["seconds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_dry_run_and_search_mean_the_same_budget(evaluate: Milr, tmp_path: Path) -> None:
    options = ("--steps", "3", "--budget", "5", "--target", "none", "--limit", "1", "--images", "1")
    (estimate,) = evaluate(*options, "--dry-run", "--calibration", "0", "--json").records
    assert estimate["pictures_decoded_at_most"] == {"milr": 4}
    evaluate(*options)
    assert record(tmp_path / "run")["images_decoded"] == 4


def test_counting_loads_nothing(milr: Milr, tmp_path: Path) -> None:
    options = ("--model", "janus-pro-7b", "--controls", "--dry-run", "--calibration", "0", "--json")
    (estimate,) = milr("evaluate", "shades", *options, "--judge", "unready").records
    assert estimate["judgements"] == {"unready": 72, "greenness": 72}
    (estimate,) = milr("evaluate", "shades", *options, "--judge", "greenness").records
    assert list(estimate["judgements"]) == ["greenness", "redness"]
    for wrong in (["--model", "nonsense"], ["--judge", "nonsense"], ["--judge", "redness", "--held-out", "redness"]):
        assert milr("evaluate", "shades", *options, *wrong).code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_with_a_judge_that_says_nothing_ends_with_1(evaluate: Milr) -> None:
    outcome = evaluate("--dry-run", "--judge", "broken", "--limit", "1", "--json")
    (estimate,) = outcome.records
    assert (outcome.code, estimate["judging"]) == (1, {})
    assert "broken cannot judge: ValueError: the critic is out" in outcome.stderr


def test_who_was_not_asked_for_can_be_left_out_or_replaced(evaluate: Milr, monkeypatch: pytest.MonkeyPatch) -> None:
    for role, advice in (("brightness", "--reward NAME takes another"), ("greenness", "--held-out none does without")):
        with monkeypatch.context() as patch:
            patch.setattr(find("rewards", role).load(), "needs", frozenset({"wish"}))
            outcome = evaluate("--controls")
        assert outcome.code == 2
        assert f"reward {role!r} needs wish" in outcome.stderr
        assert advice in outcome.stderr


def test_a_run_that_has_lost_its_identity_is_no_foreign_folder(evaluate: Milr, milr: Milr, tmp_path: Path) -> None:
    evaluate("--controls", "--limit", "1", "--images", "1")
    (tmp_path / "run/controls/base/run.json").unlink()
    outcome = milr("evaluate", "--resume", "--out", "run")
    assert outcome.code == 2
    assert "run/controls/base was a run and has no run.json any more; move it away" in outcome.stderr
    (tmp_path / "run/controls/base").rename(tmp_path / "away")
    assert milr("evaluate", "--resume", "--out", "run").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--categories", "frut"], "unknown category of shades: 'frut'. Did you mean 'fruit'?"),
        (["--shard", "5/4"], "--shard '5/4' is not PART/PARTS"),
        (["--shard", "9/9"], "--shard 9/9 has no prompts: there are only 6"),
        (["--protocol", "papr"], "unknown protocol 'papr'. Did you mean 'paper'?"),
        (["--judge", "rednes"], "unknown reward 'rednes'. Did you mean 'redness'?"),
        (["--judge", "redness=2"], "a judge has no weight; write redness"),
        (["--judge", "redness", "--held-out", "redness"], "redness is the judge already"),
        (["--judge", "picky"], "reward 'picky' needs include"),
        (["--set", "judge.redness.lr=1"], "unknown option of reward 'redness': 'lr'"),
        (["--samples-per-prompt", "0"], "0 is not in the range"),
        (["--out", ""], "--out is empty; give a path"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    evaluate: Milr, tmp_path: Path, arguments: list[str], message: str
) -> None:
    outcome = evaluate(*arguments)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_prompts_that_are_there_twice_are_named(milr: Milr, tmp_path: Path) -> None:
    line = {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"}
    (tmp_path / "evaluation_metadata.jsonl").write_text(f"{json.dumps(line)}\n" * 3)
    outcome = milr("evaluate", "geneval", "--data", str(tmp_path), "--dry-run", "--calibration", "0")
    assert outcome.stderr == "milr: prompts that are there twice: 2; intervals take them for different ones.\n"


def test_an_unknown_benchmark_is_named_with_the_nearest_one(milr: Milr) -> None:
    outcome = milr("evaluate", "shads")
    assert outcome.code == 2
    assert "unknown benchmark 'shads'. Did you mean 'shades'?" in outcome.stderr
    assert "name a benchmark" in milr("evaluate").stderr


def test_each_command_goes_on_with_its_own_runs(evaluate: Milr, milr: Milr, draw: Milr) -> None:
    evaluate("--limit", "1")
    assert "milr evaluate --resume --out run" in milr("generate", "--resume", "--out", "run").stderr
    draw("--prompt", "a dog", "--out", "drawn")
    assert "milr generate --resume --out drawn" in milr("evaluate", "--resume", "--out", "drawn").stderr


def test_a_judge_that_fails_leaves_recorded_failures_that_are_tried_again(
    evaluate: Milr, milr: Milr, tmp_path: Path
) -> None:
    critic = tmp_path / "moody.py"
    critic.write_text("def moody(image, prompt):\n    raise ValueError('not today')\n")
    outcome = evaluate("--limit", "1", "--images", "1", "--judge", f"python:{critic}:moody")
    assert outcome.code == 1
    assert "pictures that are not in the numbers: 1 not judged; try these again with: milr evaluate" in outcome.stderr
    (judgement,) = read_judgements(tmp_path / "run").values()
    assert judgement.value is None
    assert "not today" in str(judgement.error)


def test_dry_run_counts_the_tokens_of_a_paid_judge_and_may_ask_nobody(
    evaluate: Milr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(says('{"reason": "so", "answer": "yes"}', usage=(100, 10))) as server:
        judge = ("--judge", "judge:gpt-4o-binary", "--set", f"judge.judge.url={server.url}", "--dry-run", "--json")
        (estimate,) = evaluate(*judge, "--calibration", "0").records
        assert ("judging" in estimate, server.requests) == (False, [])
        (estimate,) = evaluate(*judge, "--calibration", "3").records
    (cost,) = estimate["judging"].values()
    assert (cost["requests"], cost["input_tokens"], cost["output_tokens"]) == (12, 1200, 120)
    assert len(server.requests) == 3


def test_trackers_follow_an_evaluation(evaluate: Milr, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    assert evaluate("--limit", "1", "--track", "tensorboard").code == 0
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.*"))
    outcome = evaluate("--limit", "1", "--track", "tensorbord", "--out", "other")
    assert (outcome.code, (tmp_path / "other").exists()) == (2, False)
    assert "unknown tracker 'tensorbord'. Did you mean 'tensorboard'?" in outcome.stderr


def test_the_published_protocol_with_another_critic_says_so(evaluate: Milr, tmp_path: Path) -> None:
    assert evaluate("--protocol", "paper", "--samples", "1", "--limit", "1", "--reward", "brightness").code == 0
    results = record(tmp_path / "run")
    assert results["oracle"] is False
    assert results["protocol"]["changed"]["reward"] == "brightness"

"""Critic and judge, with the weights that ship, on pictures whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from milr.prompts import Prompt
from milr_rewards.clip import Clip
from milr_rewards.geneval import GenEval, ScenesJudge
from milr_rewards.language.requirements import requirements_of
from tests.rewards.tiny import facts_of

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "tests/data/scenes"
WEIGHTS = ROOT / "rewards/weights"

pytestmark = pytest.mark.skipif(
    not (SCENES / "metadata.jsonl").exists() or not (WEIGHTS / "scenes-judge/model.safetensors").exists(),
    reason="the embedded weights and their test pictures are not there yet",
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SCENES / "metadata.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def pictures(rows: list[dict[str, Any]]) -> list[Image.Image]:
    return [Image.open(SCENES / row["file"]).convert("RGB") for row in rows]


def prompts_of(rows: list[dict[str, Any]]) -> list[Prompt]:
    kept = ("tag", "include", "exclude")
    return [Prompt(row["prompt"], metadata={key: row[key] for key in kept if key in row}) for row in rows]


@pytest.mark.parametrize("reward", [GenEval, ScenesJudge])
@pytest.mark.parametrize("mode", ["dense", "binary"])
def test_the_embedded_detectors_tell_right_pictures_from_wrong_ones(
    reward: type[GenEval], mode: str, rows: list[dict[str, Any]], pictures: list[Image.Image]
) -> None:
    scores = reward(facts=facts_of("mini"), mode=mode).score(pictures, prompts_of(rows))
    right = sum(((score.value or 0.0) > 0) == row["correct"] for score, row in zip(scores, rows, strict=True))
    assert right / len(rows) >= 0.95


def test_the_sentences_say_what_the_metadata_says(rows: list[dict[str, Any]]) -> None:
    for row, prompt in zip(rows, prompts_of(rows), strict=True):
        if "include" in row:
            parsed = requirements_of(Prompt(row["prompt"])).metadata
            assert parsed["include"] == prompt.metadata["include"], row["prompt"]


def test_critic_and_judge_are_different_networks() -> None:
    assert GenEval(mode="binary").version != ScenesJudge().version


@pytest.mark.skipif(not (WEIGHTS / "scenes-clip").is_dir(), reason="the embedded CLIP is not there yet")
def test_the_embedded_clip_prefers_right_pictures(rows: list[dict[str, Any]], pictures: list[Image.Image]) -> None:
    scores = Clip(facts=facts_of("mini")).score(pictures, prompts_of(rows))
    right = [score.value or 0.0 for score, row in zip(scores, rows, strict=True) if row["correct"]]
    wrong = [score.value or 0.0 for score, row in zip(scores, rows, strict=True) if not row["correct"]]
    better = sum(a > b for a in right for b in wrong) / (len(right) * len(wrong))
    assert better > 0.6

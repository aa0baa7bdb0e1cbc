"""The critics that ship, against pictures whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import milr_rewards
from milr_rewards.geneval_rule import grade, likeliest
from milr_rewards.networks.scene_detector import SceneDetector

FIXTURES = Path(__file__).parents[1] / "data" / "scenes"
WEIGHTS = Path(milr_rewards.__file__).parent / "weights"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in (FIXTURES / "metadata.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["scenes-critic", "scenes-judge", "scenes-third"])
def test_a_shipped_detector_tells_true_captions_from_false_ones(name: str) -> None:
    detector = SceneDetector.load(WEIGHTS / name)
    found = detector.detect([Image.open(FIXTURES / row["file"]) for row in ROWS])
    wrong = [
        row["prompt"]
        for objects, row in zip(found, ROWS, strict=True)
        if grade(objects, row, lambda seen, _: likeliest(seen.colors or {}), counting_threshold=0.3).correct
        != row["correct"]
    ]
    assert wrong == []


def test_half_of_the_captions_are_false_in_all_four_ways() -> None:
    assert sum(row["correct"] for row in ROWS) == len(ROWS) / 2
    assert {row["wrong"] for row in ROWS if not row["correct"]} == {"class", "color", "count", "place"}

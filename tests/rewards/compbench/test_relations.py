"""Relations of two things: what a prompt says, and closed forms of the benchmark's scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from milr.errors import PromptError
from milr.prompts import Prompt
from milr_rewards.compbench.relations import (
    DEPTH,
    PLANE,
    Placement,
    depth_score,
    pick,
    placement_of,
    position_score,
    score_placement,
    side_score,
)
from milr_rewards.networks.detection import Box, Detection

LEFT_BOX: Box = (0, 0, 10, 10)
RIGHT_BOX: Box = (30, 5, 40, 15)


def detection(score: float, box: Box = LEFT_BOX, label: str = "cat") -> Detection:
    return Detection(label, score, box)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a airplane on the top of a horse", Placement("airplane", "top", "horse")),
        ("a woman on side of a cup", Placement("woman", "near", "cup")),
        ("a table on the bottom of a dog", Placement("table", "bottom", "dog")),
        ("a photo of a cat to the right of a sofa", Placement("cat", "right", "sofa")),
        ("The red hat was on top of the brown coat rack.", Placement("hat", "top", "coat rack")),
        ("The cone was suspended in mid-air near the orange pyramid", Placement("cone", "near", "pyramid")),
        ("A DOG BELOW A CAT", Placement("dog", "bottom", "cat")),
    ],
)
def test_relations_of_the_plane_are_read(text: str, expected: Placement) -> None:
    assert placement_of(Prompt(text), PLANE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a girl hidden by a desk", Placement("girl", "behind", "desk")),
        ("a car behind a candle", Placement("car", "behind", "candle")),
        ("a chicken in front of a chicken", Placement("chicken", "front", "chicken")),
    ],
)
def test_relations_in_depth_are_read(text: str, expected: Placement) -> None:
    assert placement_of(Prompt(text), DEPTH) == expected


def test_metadata_says_what_the_text_does_not() -> None:
    metadata = {"objects": ["cat", "mat"], "relation": "top"}
    assert placement_of(Prompt("still life", metadata=metadata), PLANE) == Placement("cat", "top", "mat")


@pytest.mark.parametrize(
    "metadata",
    [
        {"objects": ["cat"], "relation": "top"},
        {"objects": ["cat", ""], "relation": "top"},
        {"objects": ["cat", "mat"], "relation": "behind"},
        {"objects": ["cat", "mat"]},
        {"relation": ["top"], "objects": ["cat", "mat"]},
    ],
)
def test_malformed_metadata_is_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(PromptError, match='must name two things and "relation" be one of left, right, top'):
        placement_of(Prompt("still life", metadata=metadata), PLANE)


@pytest.mark.parametrize("text", ["a cat and a dog", "a cat behind a dog", "near a dog", "a linear dog"])
def test_a_prompt_without_a_relation_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match="cannot tell which two things"):
        placement_of(Prompt(text), PLANE)


def test_a_side_holds_when_the_centre_lies_more_that_way_than_any_other() -> None:
    assert side_score("left", LEFT_BOX, RIGHT_BOX) == 1.0
    assert side_score("right", RIGHT_BOX, LEFT_BOX) == 1.0
    assert side_score("right", LEFT_BOX, RIGHT_BOX) == 0.0
    assert side_score("top", LEFT_BOX, RIGHT_BOX) == 0.0
    assert side_score("top", (0, 0, 10, 10), (5, 40, 15, 50)) == 1.0
    assert side_score("bottom", (5, 40, 15, 50), (0, 0, 10, 10)) == 1.0


def test_on_the_diagonal_no_side_holds() -> None:
    assert all(side_score(side, (0, 0, 10, 10), (30, 30, 40, 40)) == 0.0 for side in PLANE[:4])


def test_a_thing_is_on_no_side_of_itself() -> None:
    assert all(side_score(side, LEFT_BOX, LEFT_BOX) == 0.0 for side in PLANE[:4])


def test_overlap_beyond_a_tenth_counts_in_proportion() -> None:
    # 5 of 15 pixels in common: an overlap of a third
    assert side_score("left", (0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(0.1 / (1 / 3))


def test_near_holds_when_the_centres_are_near_in_one_direction() -> None:
    assert position_score("near", LEFT_BOX, RIGHT_BOX, near=6) == 1.0  # 30 across, 5 down
    assert position_score("near", (0, 0, 2, 2), (30, 40, 32, 42), near=20) == pytest.approx(20 / 40)


def test_the_sides_know_no_distance() -> None:
    assert position_score("left", LEFT_BOX, RIGHT_BOX, near=1) == 1.0


def nearness() -> torch.Tensor:
    """[20, 40]: the right half is nearer."""
    return torch.cat([torch.zeros(20, 20), torch.ones(20, 20)], dim=1)


def test_in_front_is_nearer_and_overlapping() -> None:
    back, front = (10.0, 0.0, 22.0, 10.0), (16.0, 0.0, 28.0, 10.0)
    assert depth_score("front", front, back, nearness()) == pytest.approx((60 / 180) / 0.5)
    assert depth_score("behind", back, front, nearness()) == pytest.approx((60 / 180) / 0.5)
    assert depth_score("behind", front, back, nearness()) == 0.0
    assert depth_score("front", back, front, nearness()) == 0.0


def test_half_an_overlap_is_enough_and_none_is_nothing() -> None:
    assert depth_score("front", (10, 0, 30, 10), (10, 0, 26, 10), nearness()) == 1.0
    assert depth_score("front", (30, 0, 40, 10), (0, 0, 10, 10), nearness()) == 0.0


def test_things_at_one_depth_are_in_no_relation() -> None:
    assert depth_score("front", (0, 0, 10, 10), (1, 0, 11, 10), nearness()) == 0.0


def test_depth_is_read_by_row_and_column() -> None:
    upper_is_near = torch.cat([torch.ones(10, 40), torch.zeros(10, 40)])  # the official code would look to the left
    assert depth_score("front", (0, 0, 40, 12), (0, 8, 40, 20), upper_is_near) > 0


def test_a_box_of_less_than_a_pixel_has_a_depth() -> None:
    assert depth_score("front", (39.9, 19.9, 40, 20), (39.8, 19.9, 40, 20), nearness()) == 0.0
    assert depth_score("front", (20.1, 1.0, 20.3, 1.2), (19.8, 1.0, 20.3, 1.2), nearness()) == pytest.approx(0.8)


def test_the_surest_of_each_name_is_picked() -> None:
    found = {"cat": [detection(0.9), detection(0.4)], "dog": []}
    assert pick(found, "cat", "dog") == (detection(0.9), None)
    assert pick(found, "cat", "cat") == (detection(0.9), detection(0.4))
    assert pick({}, "cat", "cat") == (None, None)


def test_a_score_is_a_quarter_of_each_confidence_and_half_of_the_relation() -> None:
    found = {"cat": [detection(0.8)], "dog": [detection(0.6, RIGHT_BOX)]}
    score = score_placement(found, Placement("cat", "left", "dog"), lambda *_: 0.5)
    assert score.value == pytest.approx(0.25 * 0.8 + 0.25 * 0.6 + 0.5 * 0.5)
    assert score.parts == {"first": 0.8, "second": 0.6, "left": 0.5}
    assert score.reason == "cat left of dog: 0.50"


def test_scores_below_the_cut_are_zero() -> None:
    found = {"cat": [detection(0.8)]}
    placement = Placement("cat", "near", "dog")
    assert score_placement(found, placement, lambda *_: 1.0).value == pytest.approx(0.2)
    cut = score_placement(found, placement, lambda *_: 1.0, cut=0.5)
    assert (cut.value, cut.parts["first"], cut.reason) == (0.0, 0.8, "no dog found")


@pytest.mark.parametrize(("name", "relations"), [("spatial", PLANE), ("3d_spatial", DEPTH)])
def test_every_official_relation_is_read(official_prompts: Path, name: str, relations: Any) -> None:
    words = {
        "on side of": "near",
        "next to": "near",
        "near": "near",
        "on the left of": "left",
        "on the right of": "right",
        "on the top of": "top",
        "on the bottom of": "bottom",
        "in front of": "front",
        "behind": "behind",
        "hidden by": "behind",
    }
    form = re.compile(rf"an? (.+) ({'|'.join(words)}) an? (.+)")
    lines = (official_prompts / f"{name}_val.txt").read_text("utf-8").splitlines()
    assert len(lines) == 300
    for line in lines:
        first, relation, second = form.fullmatch(line.strip()).groups()
        assert placement_of(Prompt(line), relations) == Placement(first, words[relation], second)

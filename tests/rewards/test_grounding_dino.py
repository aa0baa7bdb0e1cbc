"""The critic `grounding-dino`: T2I-R1's scores in closed form, over a real detector, for GenEval's prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr_rewards.grounding_dino import GroundingDino, score_found
from milr_rewards.networks.detection import Box, Detection
from milr_rewards.networks.open_vocabulary import OpenVocabularyDetector
from tests.rewards.tiny_compbench import PICTURES, tiny_grounding_dino_folder

PROMPTS = [
    Prompt("a photo of a dog left of a cat"),
    Prompt("a photo of two cats"),
    Prompt("art", metadata={"include": [{"class": "coat rack", "count": 1}, {"class": "vase", "count": 3}]}),
]
LEFT: Box = (0, 0, 10, 10)
RIGHT: Box = (30, 0, 40, 10)


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_grounding_dino_folder(tmp_path_factory.mktemp("grounding-dino"))


def found(**boxes: list[Box]) -> dict[str, list[Detection]]:
    return {
        name: [Detection(name, 0.9 - 0.1 * place, box) for place, box in enumerate(each)]
        for name, each in boxes.items()
    }


def asked(*clauses: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"include": [{"count": 1} | clause for clause in clauses], **more}


RELATED = asked({"class": "cat"}, {"class": "dog", "position": ["left of", 0]})


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (found(dog=[LEFT], cat=[RIGHT]), 0.9),
        (found(dog=[RIGHT], cat=[LEFT]), 0.4),
        (found(dog=[LEFT]), 0.2),
        (found(cat=[LEFT], dog=[]), 0.2),
        ({}, 0.0),
        (found(dog=[LEFT, RIGHT], cat=[RIGHT]), 0.9),  # the surest dog counts, and their number does not
        (found(dog=[(0, 0, 10, 10)], cat=[(5, 0, 15, 10)]), 0.4 + 0.5 * 0.3),  # they overlap by a third
    ],
)
def test_a_relation_scores_its_things_and_its_place(seen: dict[str, list[Detection]], expected: float) -> None:
    score = score_found(seen, RELATED)
    assert score.value == pytest.approx(expected)
    assert list(score.parts) == ["dog left of cat"]


@pytest.mark.parametrize(
    ("relation", "expected"), [("left of", 0.9), ("right of", 0.4), ("above", 0.4), ("below", 0.4)]
)
def test_all_four_relations_are_told_apart(relation: str, expected: float) -> None:
    metadata = asked({"class": "cat"}, {"class": "dog", "position": [relation, 0]})
    assert score_found(found(dog=[LEFT], cat=[RIGHT]), metadata).value == pytest.approx(expected)


def test_above_holds() -> None:
    metadata = asked({"class": "cat"}, {"class": "dog", "position": ["above", 0]})
    assert score_found(found(dog=[(0, 0, 10, 10)], cat=[(0, 30, 10, 40)]), metadata).value == pytest.approx(0.9)


def test_a_number_scores_one_when_exact_and_a_fifth_when_not() -> None:
    metadata = asked({"class": "cat", "count": 2}, {"class": "dog"}, {"class": "vase"})
    score = score_found(found(cat=[LEFT, RIGHT], dog=[LEFT, RIGHT]), metadata)
    assert score.parts == {"cat: 2": 1.0, "dog: 1": 0.2, "vase: 1": 0.0}
    assert score.value == pytest.approx(1.2 / 3)
    assert score.reason == "expected 1 dog, found 2; expected 1 vase, found 0"


def test_where_counts_are_as_asked_a_thing_without_a_number_only_has_to_be_there() -> None:
    seen = found(dog=[LEFT, RIGHT], cat=[LEFT])
    assert score_found(seen, asked({"class": "dog"}), exact=False).value == 1.0
    assert score_found(seen, asked({"class": "vase"}), exact=False).value == 0.0
    limited = asked({"class": "dog"}, exclude=[{"class": "dog", "count": 2}])
    assert score_found(seen, limited, exact=False).value == 0.2
    assert score_found(seen, asked({"class": "cat", "count": 2}), exact=False).value == 0.2


def test_clauses_of_every_kind_are_averaged() -> None:
    metadata = asked({"class": "cat"}, {"class": "dog", "position": ["left of", 0]}, {"class": "vase"})
    score = score_found(found(dog=[LEFT], cat=[RIGHT]), metadata)
    assert score.value == pytest.approx((0.9 + 0.0) / 2)
    assert list(score.parts) == ["dog left of cat", "vase: 1"]


def test_a_picture_as_asked_is_said_to_be() -> None:
    assert score_found(found(dog=[LEFT], cat=[RIGHT]), RELATED).reason == "as asked"


def test_the_critic_scores_what_its_detector_finds(dino_folder: Path) -> None:
    scores = GroundingDino(model=str(dino_folder), threshold=0.1).score(PICTURES[:3], PROMPTS)
    detector = OpenVocabularyDetector("grounding-dino", str(dino_folder), threshold=0.1)
    names = [["cat", "dog"], ["cat"], ["coat rack", "vase"]]
    wanted = [
        RELATED,
        asked({"class": "cat", "count": 2}, exclude=[{"class": "cat", "count": 3}]),
        PROMPTS[2].metadata,
    ]
    seen = detector.detect(PICTURES[:3], names)
    assert scores == [score_found(each, metadata) for each, metadata in zip(seen, wanted, strict=True)]
    assert all(0 <= score.value <= 1 for score in scores)
    assert GroundingDino(model=str(dino_folder)).score([], []) == []


def test_classes_of_any_name_can_be_asked_for(dino_folder: Path) -> None:
    GroundingDino(model=str(dino_folder)).check(PROMPTS[2])


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (Prompt("the night sky"), "cannot tell what must be in"),
        (Prompt("art", metadata={"include": [{"class": " ", "count": 1}]}), "a class is a name, not ' '"),
        (Prompt("art", metadata={"include": [{"class": "imp", "count": 0}]}), "the count of 'imp'"),
        (
            Prompt("art", metadata={"include": [], "exclude": [{"class": "imp", "count": 1}]}),
            "has nothing to look for in a picture of 'art'",
        ),
    ],
)
def test_prompts_that_cannot_be_graded_are_refused_before_weights_are_loaded(prompt: Prompt, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        GroundingDino(model="no/where").check(prompt)


def test_a_way_to_count_is_one_of_two() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown counts of reward 'grounding-dino': 'exakt'.*'exact'"):
        GroundingDino(counts="exakt")


def test_the_version_tells_options_and_files(dino_folder: Path) -> None:
    options: list[dict[str, Any]] = [{}, {"counts": "asked"}, {"threshold": 0.2}]
    assert len({GroundingDino(model=str(dino_folder), **chosen).version for chosen in options}) == 3


def test_missing_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'grounding-dino' cannot load") as refused:
        GroundingDino(model=str(tmp_path)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)

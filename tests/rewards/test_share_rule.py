"""The share of what holds: each clause for as much as it is sure, and for nothing where it does not hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from milr_rewards.geneval_rule import ShareGrade, grade, grade_share
from tests.rewards.test_geneval_rule import (
    LEFT_OF_CAT,
    SHADES,
    Metadata,
    Objects,
    Thing,
    at,
    color_of,
    demands,
    pictures,
)


def sure(thing: Thing, _: str) -> dict[str, float]:
    return {shade: 0.8 if shade == thing.color else 0.1 for shade in SHADES}


def shared(objects: Objects, *include: Metadata, exclude: list[Metadata] | None = None) -> ShareGrade:
    return grade_share(objects, {"include": list(include), "exclude": exclude or []}, sure)


@settings(max_examples=400, deadline=None)
@given(pictures, demands())
def test_every_clause_has_a_share_exactly_when_the_picture_is_right(objects: Objects, metadata: Metadata) -> None:
    verdict, share = grade(objects, metadata, color_of), grade_share(objects, metadata, sure)
    assert all(part > 0 for part in share.shares.values()) == verdict.correct
    assert share.value == pytest.approx(np.mean(list(share.shares.values()) or [1.0]))
    assert 0 <= share.value <= 1
    assert len(share.shares) >= len(verdict.parts)


def test_a_count_is_worth_the_mean_score_of_what_is_counted() -> None:
    three = {"dog": [Thing(0.5), Thing(0.9), Thing(0.7)]}
    assert shared(three, {"class": "dog", "count": 2}).shares == {"dog: count": pytest.approx(0.8)}
    assert shared(three, {"class": "dog", "count": 4}).shares == {"dog: count": 0.0}


def test_a_colour_is_worth_its_mean_probability() -> None:
    wanted = {"class": "dog", "count": 2, "color": "red"}
    assert shared({"dog": [Thing(), Thing()]}, wanted).shares["dog: color"] == pytest.approx(0.8)
    assert shared({"dog": [Thing(), Thing(color="blue")]}, wanted).shares["dog: color"] == 0
    assert shared({"dog": [Thing()]}, wanted).value == 0


def test_a_position_is_worth_the_lesser_score_of_a_pair() -> None:
    beside: Objects = {"cat": [at(80, 50, score=0.5)], "dog": [at(20, 50, score=0.9)]}
    assert shared(beside, *LEFT_OF_CAT).shares == {"cat: count": 0.5, "dog: count": 0.9, "dog: position": 0.5}
    behind: Objects = {"cat": [at(20, 50, score=0.5)], "dog": [at(80, 50, score=0.9)]}
    assert shared(behind, *LEFT_OF_CAT).value == pytest.approx(1.4 / 3)


def test_an_exclusion_is_worth_the_doubt_in_the_first_too_many() -> None:
    limit = [{"class": "dog", "count": 2}]
    assert shared({"dog": [Thing(), Thing(0.2)]}, exclude=limit).value == pytest.approx(0.8)
    assert shared({"dog": [Thing()]}, exclude=limit).value == 1
    assert shared({"dog": [Thing(), Thing(0.4)]}, exclude=limit).value == 0

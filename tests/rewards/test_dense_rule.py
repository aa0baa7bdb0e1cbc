"""The dense twin of GenEval's rule: it passes the same pictures, and rises as a picture comes nearer to passing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milr_rewards.geneval_rule import DenseGrade, grade, grade_dense, likeliest
from tests.rewards.test_geneval_rule import SHADES, Metadata, Objects, Thing, at, demands, pictures

A_DOG = {"class": "dog", "count": 1}
LEFT_OF_CAT = [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}]


def certain(thing: Thing, _: str) -> dict[str, float]:
    return {shade: float(shade == thing.color) for shade in SHADES}


def value(objects: Objects, *include: Metadata, exclude: list[Metadata] | None = None) -> float:
    return grade_dense(objects, {"include": list(include), "exclude": exclude or []}, certain).value


@settings(max_examples=400, deadline=None)
@given(pictures, demands(), st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6]), min_size=3, max_size=3))
def test_it_is_positive_exactly_when_the_rule_passes(objects: Objects, metadata: Metadata, doubt: list[float]) -> None:
    def colors_of(thing: Thing, _: str) -> dict[str, float]:  # ties are common
        return {shade: doubt[i] + 0.4 * (shade == thing.color) for i, shade in enumerate(SHADES)}

    dense = grade_dense(objects, metadata, colors_of)
    verdict = grade(objects, metadata, lambda thing, name: likeliest(colors_of(thing, name)))
    assert (dense.value > 0) == verdict.correct
    assert -1 <= dense.value <= 1
    assert all(-1 <= margin <= 1 for margin in dense.margins.values())
    assert verdict.parts.keys() <= dense.margins.keys()


def test_an_empty_picture_is_worth_the_least() -> None:
    assert value({}, A_DOG) == -1


def test_a_perfect_picture_is_worth_the_most() -> None:
    assert value({"dog": [Thing(score=1.0)]}, A_DOG) == 1


def test_a_picture_that_passes_is_worth_its_weakest_clause() -> None:
    dense = grade_dense(
        {"dog": [Thing(score=0.65)], "cat": [Thing(score=0.93)]},
        {"include": [A_DOG, {"class": "cat", "count": 1, "color": "red"}]},
        certain,
    )
    assert dense == DenseGrade(
        pytest.approx(0.5), {"dog: count": pytest.approx(0.5), "cat: count": pytest.approx(0.9), "cat: color": 1.0}
    )


def test_a_picture_that_fails_is_worth_less_the_more_clauses_fail() -> None:
    wishes = [A_DOG, {"class": "cat", "count": 1}, {"class": "cup", "count": 1}]
    one, two = {"dog": [Thing()]}, {"dog": [Thing()], "cat": [Thing()]}
    assert value({}, *wishes) < value(one, *wishes) < value(two, *wishes) < 0


def test_each_object_found_is_progress_towards_a_count() -> None:
    values = [value({"dog": [Thing()] * found}, {"class": "dog", "count": 3}) for found in range(4)]
    assert values[:3] == pytest.approx([-1, -2 / 3, -1 / 3])
    assert values[3] > 0


def test_each_surplus_object_is_a_step_away_from_a_count() -> None:
    limit = [{"class": "dog", "count": 3}]
    values = [value({"dog": [Thing(score=1.0)] * found}, exclude=limit) for found in (2, 3, 4, 9)]
    assert values == pytest.approx([1, -1 / 2, -1, -1])


def test_the_nearer_a_score_to_the_threshold_the_better() -> None:
    values = [value({"dog": [Thing(score=score)]}, A_DOG) for score in (0.0, 0.1, 0.2, 0.3, 0.4, 0.9)]
    assert values == sorted(set(values))
    assert values[3] == 0


def test_a_likelier_colour_is_better() -> None:
    def score(red: float) -> float:
        metadata = {"include": [{"class": "dog", "count": 1, "color": "red"}]}
        return grade_dense({"dog": [Thing(score=1.0)]}, metadata, lambda *_: {"blue": 1 - red, "red": red}).value

    assert score(0.1) < score(0.4) < score(0.5) == 0 < score(0.6) < score(0.9)


def test_it_does_not_jump_as_an_object_of_a_wrong_colour_appears() -> None:
    blue_dog = {"class": "dog", "count": 1, "color": "blue"}
    sweep = [value({"dog": [Thing(score=step / 1000)]}, blue_dog) for step in range(1001)]
    assert max(abs(a - b) for a, b in pairwise(sweep)) < 0.01


def test_it_does_not_jump_as_an_object_moves_into_place() -> None:
    sweep = [value({"cat": [at(90, 50)], "dog": [at(step / 10, 20)]}, *LEFT_OF_CAT) for step in range(1500)]
    assert max(abs(a - b) for a, b in pairwise(sweep)) < 0.01
    assert sweep[0] > 0 > sweep[-1]


def test_a_stray_weak_detection_in_the_right_place_is_worth_little() -> None:
    def picture(score: float) -> Objects:
        return {"cat": [at(80, 50)], "dog": [at(20, 50, score=score)]}

    nothing = value({"cat": [at(80, 50)]}, *LEFT_OF_CAT)
    assert nothing < value(picture(0.05), *LEFT_OF_CAT) < nothing + 0.25


@pytest.mark.parametrize("count", [17, 40])
def test_more_objects_than_are_ever_seen_can_not_be_had(count: int) -> None:
    assert value({"dog": [Thing(score=1.0)] * 50}, {"class": "dog", "count": count}) < 0


def test_a_relation_that_holds_more_plainly_is_better() -> None:
    def beside(height: float) -> Any:
        return value({"cat": [at(80, 50, score=1.0)], "dog": [at(20, height, score=1.0)]}, *LEFT_OF_CAT)

    assert beside(50) > beside(70) > beside(90) > beside(200)

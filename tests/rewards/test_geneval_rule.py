"""GenEval's rule: hand-computed cases, then agreement with a second implementation written from its words alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milr_rewards.geneval_rule import Grade, combine, direction, grade, relations

Metadata = dict[str, Any]


@dataclass(frozen=True)
class Thing:
    score: float = 0.95
    box: Any = (0, 0, 10, 10)
    color: str = "red"
    mask: None = None


Objects = dict[str, list[Thing]]


def at(x: float, y: float, size: float = 10, **rest: Any) -> Thing:
    return Thing(box=(x - size / 2, y - size / 2, x + size / 2, y + size / 2), **rest)


def color_of(thing: Thing, _: str) -> str:
    return thing.color


def graded(objects: Objects, *include: Metadata, exclude: list[Metadata] | None = None, tag: str = "") -> Grade:
    return grade(objects, {"tag": tag, "include": list(include), "exclude": exclude or []}, color_of)


# Counts


def test_an_object_that_is_there_is_enough() -> None:
    assert graded({"dog": [Thing()]}, {"class": "dog", "count": 1}) == Grade(True, "", {"dog: count": 1.0})


def test_an_object_at_the_threshold_is_not_there() -> None:
    assert not graded({"dog": [Thing(score=0.3)]}, {"class": "dog", "count": 1}).correct


def test_a_missing_class_is_named() -> None:
    verdict = graded({}, {"class": "dog", "count": 2})
    assert (verdict.correct, verdict.reason) == (False, "expected 2 dogs, found 0")


def test_more_than_wanted_is_fine_unless_excluded() -> None:
    three, wanted = {"dog": [Thing()] * 3}, {"class": "dog", "count": 2}
    assert graded(three, wanted).correct
    verdict = graded(three, wanted, exclude=[{"class": "dog", "count": 3}])
    assert (verdict.correct, verdict.reason) == (False, "expected 2 dogs, found 3")


def test_what_must_not_be_there_fails_the_picture() -> None:
    verdict = graded({"cat": [Thing()]}, exclude=[{"class": "cat", "count": 1}])
    assert (verdict.correct, verdict.reason) == (False, "expected no cat, found 1")


def test_counting_prompts_use_the_higher_threshold() -> None:
    unsure, wanted = {"dog": [Thing(score=0.9)]}, {"class": "dog", "count": 1}
    assert graded(unsure, wanted).correct
    assert not graded(unsure, wanted, tag="counting").correct


def test_thresholds_can_be_those_of_another_detector() -> None:
    metadata = {"tag": "counting", "include": [{"class": "dog", "count": 1}]}
    assert grade({"dog": [Thing(score=0.4)]}, metadata, color_of, counting_threshold=0.3).correct


def test_only_sixteen_detections_of_a_class_are_seen() -> None:
    crowd = {"dog": [Thing()] * 20}
    assert graded(crowd, {"class": "dog", "count": 16}).correct
    assert not graded(crowd, {"class": "dog", "count": 17}).correct
    assert graded(crowd, exclude=[{"class": "dog", "count": 17}]).correct


def test_the_same_clause_twice_is_met_by_the_same_objects() -> None:
    verdict = graded({"dog": [Thing()]}, {"class": "dog", "count": 1}, {"class": "dog", "count": 1})
    assert verdict.correct
    assert set(verdict.parts) == {"dog: count", "dog: count (2)"}


# Colours


def test_the_colour_of_the_best_detection_counts() -> None:
    pair = {"dog": [Thing(0.6, color="red"), Thing(0.9, color="blue")]}
    assert graded(pair, {"class": "dog", "count": 1, "color": "blue"}).correct
    verdict = graded(pair, {"class": "dog", "count": 1, "color": "red"})
    assert (verdict.correct, verdict.reason) == (False, "expected a red dog, it is blue")


def test_of_equally_good_detections_the_first_given_counts() -> None:
    pair = {"dog": [Thing(color="red"), Thing(color="blue")]}
    assert graded(pair, {"class": "dog", "count": 1, "color": "red"}).correct


def test_every_counted_object_needs_the_colour() -> None:
    herd = {"dog": [Thing(color="red"), Thing(color="red"), Thing(color="blue")]}
    assert graded(herd, {"class": "dog", "count": 2, "color": "red"}).correct
    verdict = graded(herd, {"class": "dog", "count": 3, "color": "red"})
    assert verdict.reason == "expected 3 red dogs, found 2 red, 1 blue"


def test_colours_are_not_asked_for_when_the_count_fails() -> None:
    def never(thing: Thing, name: str) -> str:
        raise AssertionError("asked for a colour")

    metadata = {"include": [{"class": "dog", "count": 2, "color": "red"}]}
    assert grade({"dog": [Thing()]}, metadata, never).parts == {"dog: count": 0.0}


# Positions

LEFT_OF_CAT = ({"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]})


def test_a_relation_that_holds() -> None:
    assert graded({"cat": [at(80, 50)], "dog": [at(20, 50)]}, *LEFT_OF_CAT).correct


def test_a_relation_that_does_not_hold_says_what_does() -> None:
    verdict = graded({"cat": [at(20, 50)], "dog": [at(80, 50)]}, *LEFT_OF_CAT)
    assert verdict.reason == "expected a dog left of a cat, it is right of it"


def test_every_pair_must_show_the_relation() -> None:
    two_cats = ({"class": "cat", "count": 2}, LEFT_OF_CAT[1])
    assert graded({"cat": [at(80, 50), at(60, 50)], "dog": [at(20, 50)]}, *two_cats).correct
    assert not graded({"cat": [at(80, 50), at(10, 50)], "dog": [at(20, 50)]}, *two_cats).correct


def test_a_target_that_failed_fails_what_refers_to_it() -> None:
    blue_cat = {"class": "cat", "count": 1, "color": "blue"}
    verdict = graded({"cat": [at(80, 50)], "dog": [at(20, 50)]}, blue_cat, LEFT_OF_CAT[1])
    assert verdict.parts == {"cat: count": 1.0, "cat: color": 0.0, "dog: count": 1.0, "dog: position": 0.0}
    assert "no such cat to compare with" in verdict.reason


def test_a_position_is_not_looked_at_when_the_colour_fails() -> None:
    blue_dog = LEFT_OF_CAT[1] | {"color": "blue"}
    verdict = graded({"cat": [at(80, 50)], "dog": [at(20, 50)]}, LEFT_OF_CAT[0], blue_dog)
    assert "dog: position" not in verdict.parts


def test_the_offset_shrinks_by_a_tenth_of_both_sizes_but_is_measured_whole() -> None:
    # 30 to the left, 30 up, sizes 20 and 20: (30 - 4) / hypot(30, 30) = 0.613 on both axes.
    assert direction(at(20, 20, 20).box, at(50, 50, 20).box) == pytest.approx((-0.61283, -0.61283), abs=1e-5)
    assert relations(at(20, 20, 20).box, at(50, 50, 20).box) == {"left of", "above"}
    # Sizes 40 and 40: (30 - 8) / 42.43 = 0.5185 holds; 50 and 50: 20 / 42.43 = 0.471 does not.
    assert relations(at(20, 20, 40).box, at(50, 50, 40).box) == {"left of", "above"}
    assert relations(at(20, 20, 50).box, at(50, 50, 50).box) == set()


def test_objects_in_the_same_place_have_no_relation() -> None:
    assert relations((5, 5, 5, 5), (5, 5, 5, 5)) == set()
    assert relations((5, 5, 5, 5), (5.0009, 5, 5.0009, 5)) == set()
    assert relations((5, 5, 5, 5), (5.0011, 5, 5.0011, 5)) == {"left of"}


# The second implementation: the words of the rule, with numpy, and without a thought for reasons or speed.


def second_opinion(objects: Objects, metadata: Metadata) -> bool:
    least = 0.9 if metadata["tag"] == "counting" else 0.3
    seen = {}
    for name, things in objects.items():
        falling = np.argsort([-thing.score for thing in things], kind="stable")
        seen[name] = [things[i] for i in falling if things[i].score > least][:16]
    correct = True
    groups: list[list[Thing] | None] = []
    for clause in metadata["include"]:
        group = seen.get(clause["class"], [])[: clause["count"]]
        holds = len(group) == clause["count"]
        if holds and "color" in clause:
            holds = sum(thing.color == clause["color"] for thing in group) >= clause["count"]
        if holds and "position" in clause:
            relation, index = clause["position"]
            target = groups[index]
            holds = target is not None and all(shows(relation, a, b) for a in group for b in target)
        groups.append(group if holds else None)
        correct = correct and holds
    for clause in metadata["exclude"]:
        correct = correct and len(seen.get(clause["class"], [])) < clause["count"]
    return correct


def shows(relation: str, a: Thing, b: Thing) -> bool:
    corners_a, corners_b = (np.array(thing.box)[:4].reshape(2, 2) for thing in (a, b))
    offset = corners_a.mean(0) - corners_b.mean(0)
    sizes = np.abs(corners_a[1] - corners_a[0]) + np.abs(corners_b[1] - corners_b[0])
    shrunk = np.sign(offset) * np.maximum(np.abs(offset) - 0.1 * sizes, 0)
    if (np.abs(shrunk) < 1e-3).all():
        return False
    x, y = shrunk / np.linalg.norm(offset)
    return bool({"left of": x < -0.5, "right of": x > 0.5, "above": y < -0.5, "below": y > 0.5}[relation])


CLASSES, SHADES = ("cat", "dog", "cup"), ("red", "blue", "black")
# Coarse values, so that ties, equal boxes and boxes without a size are common.
scores = st.sampled_from([0.1, 0.29, 0.3, 0.31, 0.6, 0.9, 0.91, 1.0])
edges = st.integers(0, 8).map(lambda step: step * 12.5)
things = st.builds(Thing, scores, st.tuples(edges, edges, edges, edges), st.sampled_from(SHADES))
pictures = st.dictionaries(st.sampled_from(CLASSES), st.lists(things, max_size=5))


@st.composite
def demands(draw: st.DrawFn) -> Metadata:
    include: list[Metadata] = []
    for index in range(draw(st.integers(0, 3))):
        clause: Metadata = {"class": draw(st.sampled_from(CLASSES)), "count": draw(st.integers(0, 3))}
        if draw(st.booleans()):
            clause["color"] = draw(st.sampled_from(SHADES))
        if index and draw(st.booleans()):
            relation = draw(st.sampled_from(["left of", "right of", "above", "below"]))
            clause["position"] = [relation, draw(st.integers(0, index - 1))]
        include.append(clause)
    limits = st.fixed_dictionaries({"class": st.sampled_from(CLASSES), "count": st.integers(0, 4)})
    tag = draw(st.sampled_from(["counting", "position"]))
    return {"tag": tag, "include": include, "exclude": draw(st.lists(limits, max_size=2))}


@settings(max_examples=400, deadline=None)
@given(pictures, demands())
def test_the_rule_agrees_with_a_second_implementation(objects: Objects, metadata: Metadata) -> None:
    verdict = grade(objects, metadata, color_of)
    assert verdict.correct == second_opinion(objects, metadata)
    assert verdict.correct == (verdict.reason == "") == all(verdict.parts.values())


@settings(max_examples=200, deadline=None)
@given(pictures, demands())
def test_detections_may_be_numpys_as_the_official_evaluator_has_them(objects: Objects, metadata: Metadata) -> None:
    def of_mmdet(thing: Thing) -> Thing:  # the score is the fifth number of a box
        row = np.array([*thing.box, thing.score], np.float32)
        return Thing(row[4], row, thing.color)

    rows = {name: [of_mmdet(thing) for thing in things] for name, things in objects.items()}
    verdict = grade(rows, metadata, color_of)
    assert verdict.correct is second_opinion(rows, metadata)


@pytest.mark.parametrize("make", [tuple, list, np.array, lambda box: np.array(box, np.float32)])
def test_boxes_may_be_of_any_kind(make: Any) -> None:
    assert relations(make([0, 0, 10, 10]), (40.0, 0.0, 50.0, 10.0)) == {"left of"}


def test_a_clause_without_a_count_holds_and_can_be_referred_to() -> None:
    no_cat, dog = {"class": "cat", "count": 0}, LEFT_OF_CAT[1]
    assert graded({"dog": [Thing()]}, no_cat, dog).correct
    assert not graded({"dog": [Thing()]}, exclude=[{"class": "dog", "count": 0}]).correct


@settings(max_examples=200, deadline=None)
@given(st.tuples(edges, edges, edges, edges), st.tuples(edges, edges, edges, edges))
def test_relations_agree_with_a_second_implementation(a: Any, b: Any) -> None:
    expected = {name for name in ("left of", "right of", "above", "below") if shows(name, Thing(box=a), Thing(box=b))}
    assert relations(a, b) == expected


@given(st.lists(st.floats(-1, 1), min_size=1))
def test_combined_margins_are_positive_exactly_when_all_are(margins: list[float]) -> None:
    assert (combine(margins) > 0) == (min(margins) > 0)
    assert -1 <= combine(margins) <= 1

"""From sentences to GenEval's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from milr.errors import PromptError
from milr_rewards.sentences import parse
from milr_rewards.vocabulary import CLASSES, COLORS, NUMBERS, RELATIONS, counted, plural, plural_forms, with_article

OFFICIAL = Path(__file__).parents[3] / "shared/data/geneval/evaluation_metadata.jsonl"


def include(text: str) -> list[dict[str, Any]]:
    return parse(text).metadata["include"]


def thing(name: str, count: int = 1, **rest: Any) -> dict[str, Any]:
    return {"class": name, "count": count, **rest}


@pytest.mark.skipif(not OFFICIAL.exists(), reason="GenEval's official prompts are not at hand")
def test_the_official_prompts_give_the_official_metadata() -> None:
    rows = [json.loads(line) for line in OFFICIAL.read_text("utf-8").splitlines()]
    assert len(rows) == 553
    for row in rows:
        prompt = row.pop("prompt")
        assert parse(prompt).metadata == row, prompt
        assert not parse(prompt).unchecked, prompt


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_understood_in_every_form(name: str) -> None:
    assert parse(f"a photo of {with_article(name)}").metadata == {"tag": "single_object", "include": [thing(name)]}
    assert include(f"a photo of {with_article(f'purple {name}')}") == [thing(name, color="purple")]
    for form in plural_forms(name):
        assert include(f"a photo of three {form}") == [thing(name, 3)]
        assert include(f"a photo of three pink {form}") == [thing(name, 3, color="pink")]


@pytest.mark.parametrize("color", COLORS)
def test_every_colour_is_understood(color: str) -> None:
    assert include(f"a {color} car") == [thing("car", color=color)]


@pytest.mark.parametrize(("count", "word"), list(enumerate(NUMBERS))[1:])
def test_numbers_are_words_or_digits_and_exact(count: int, word: str) -> None:
    for number in (word, str(count)):
        metadata = parse(f"a photo of {number} cats").metadata
        assert metadata["include"] == [thing("cat", count)]
        assert metadata["exclude"] == [thing("cat", count + 1)]


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_target_of_a_relation_comes_first(relation: str) -> None:
    wanted = [thing("dog"), thing("cow", position=[relation, 0])]
    ways = [relation, f"is {relation}", *([f"to the {relation}", f"on the {relation}"] if " " in relation else [])]
    for words in ways:
        metadata = parse(f"a photo of a cow {words} a dog").metadata
        assert (metadata["tag"], metadata["include"]) == ("position", wanted)


def test_a_relation_with_a_count_and_a_colour() -> None:
    assert parse("a photo of three red apples left of a dog").metadata == {
        "tag": "counted_position",
        "include": [thing("dog"), thing("apple", 3, color="red", position=["left of", 0])],
        "exclude": [thing("apple", 4)],
    }


def test_relations_can_be_chained() -> None:
    assert include("an elephant above a cow left of a dog") == [
        thing("dog"),
        thing("cow", position=["left of", 0]),
        thing("elephant", position=["above", 1]),
    ]


@pytest.mark.parametrize(
    "text", ["a dog, a cat and 2 cups", "a dog, a cat, and two cups", "a dog and a cat and two cups"]
)
def test_three_things_are_joined_by_commas_and_and(text: str) -> None:
    metadata = parse(text).metadata
    assert (metadata["tag"], metadata["include"]) == ("three_objects", [thing("dog"), thing("cat"), thing("cup", 2)])


@pytest.mark.parametrize("text", ["A Photo Of A Bench.", "  a bench ", "the bench", "bench", "an image of a bench"])
def test_capitals_articles_and_openings_do_not_matter(text: str) -> None:
    assert parse(text).metadata == {"tag": "single_object", "include": [thing("bench")]}


def test_orange_is_a_colour_and_a_fruit() -> None:
    assert include("an orange") == [thing("orange")]
    assert include("an orange orange") == [thing("orange", color="orange")]
    assert include("two orange cups and an orange") == [thing("cup", 2, color="orange"), thing("orange")]


def test_the_longest_class_is_meant() -> None:
    assert include("a hot dog and a teddy bear") == [thing("hot dog"), thing("teddy bear")]


def test_names_that_coco_uses_are_understood() -> None:
    assert include("two mice and a keyboard") == [thing("computer mouse", 2), thing("computer keyboard")]


def test_a_plural_without_a_number_asks_for_two_or_more() -> None:
    assert parse("apples").metadata == {"tag": "single_object", "include": [thing("apple", 2)]}
    assert include("sheep") == [thing("sheep")]


def test_words_that_cannot_be_checked_are_named() -> None:
    assert parse("a shiny red apple").unchecked == ("shiny",)
    assert parse("a purple unicorn and a dog").unchecked == ("purple unicorn",)
    assert parse("a dog left of a unicorn").metadata["include"] == [thing("dog")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a unicorn", "none of GenEval's 80 classes"),
        ("a dog on a couch", "is not a number, a colour"),
        ("a dog without a tie", "is not a number, a colour"),
        ("no dog", "is not a number, a colour"),
        ("eleven dogs", "is not a number, a colour"),
        ("11 dogs", "is not a number, a colour"),
        ("an apple tree", "is not a number, a colour"),
        ("a red blue car", "two colours"),
        ("a black and white cat", "is not a thing"),
        ("a dog left of", "is not a number, a colour"),
        ("a dog and a dog", "twice"),
        ("!", "a thing is missing"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_way_out(text: str, why: str) -> None:
    with pytest.raises(PromptError) as refused:
        parse(text)
    message = str(refused.value)
    assert why in message
    assert "expected a sentence such as" in message
    assert '"include"' in message
    assert "\n" not in message


def test_plurals_are_english() -> None:
    names = ("knife", "sheep", "bus", "person", "bench", "skis", "scissors", "toothbrush", "computer mouse", "sandwich")
    assert [plural(name) for name in names] == [
        *("knives", "sheep", "buses", "people", "benches", "skis", "scissors", "toothbrushes", "computer mice"),
        "sandwiches",
    ]
    assert [counted(count, "bus") for count in (0, 1, 2)] == ["no bus", "1 bus", "2 buses"]

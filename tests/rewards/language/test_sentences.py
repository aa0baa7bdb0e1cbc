"""From sentences to GenEval's metadata."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from milr.errors import PromptError
from milr_rewards.language.knowledge import HELD_OUT, PHRASES, TRAINED
from milr_rewards.language.sentences import parse
from milr_rewards.language.vocabulary import (
    CLASSES,
    COLORS,
    NUMBERS,
    RELATIONS,
    SYNONYMS,
    counted,
    plural,
    plural_forms,
    with_article,
)

OFFICIAL = Path(__file__).parents[4] / "shared/data/geneval/evaluation_metadata.jsonl"


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
    "text",
    [
        "a photo of a red apple left of a dog",
        "a red apple to the left of the dog",
        "red apple on the left of dog",
        "a red apple is left of a dog",
        "an apple that is red is to the left of a dog",
        "a picture where a red apple is on the left of a dog",
        "left of a dog, a red apple",
        "to the left of the dog is a red apple",
        "left of a dog there is a red apple",
        "a dog with a red apple to its left",
        "show me a dog with a red apple left of it",
        "a dog and, left of it, a red apple",
        "a dog and, to its left, an apple which is red",
        "there is a dog and a red apple to the left of it",
        "a red apple, which is left of a dog",
        "A RED APPLE, left of a DOG!",
        "the dog and the red apple on its left",
    ],
)
def test_a_relation_may_be_told_from_either_side(text: str) -> None:
    assert include(text) == [thing("dog"), thing("apple", color="red", position=["left of", 0])]
    assert not parse(text).unchecked


@pytest.mark.parametrize(
    ("words", "relation"),
    [
        *(("over", "above"), ("on top of", "above"), ("under", "below"), ("beneath", "below"), ("underneath", "below")),
    ],
)
def test_relations_have_other_words(words: str, relation: str) -> None:
    wanted = [thing("dog", 2), thing("cow", position=[relation, 0])]
    for text in (f"a cow {words} two dogs", f"{words} two dogs, a cow", f"two dogs and, {words} them, a cow"):
        assert include(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "a dog left of a cat above a bird",
        "a dog left of a cat that is above a bird",
        "a dog left of a cat which is above a bird",
        "a dog left of a cat, which is above a bird",
        "a dog is left of a cat, which is over a bird",
        "left of a cat that is above a bird, a dog",
        "to the left of a cat above a bird there is a dog",
    ],
)
def test_a_chain_of_relations_may_be_told_in_several_ways(text: str) -> None:
    assert include(text) == [
        thing("bird"),
        thing("cat", position=["above", 0]),
        thing("dog", position=["left of", 1]),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "three red apples",
        "3 red apples",
        "three apples that are red",
        "three apples, all red",
        "three apples, all of them red",
        "apples, three of them, red",
        "red apples, three of them",
    ],
)
def test_number_and_colour_may_follow_the_noun(text: str) -> None:
    assert parse(text).metadata == {
        "tag": "colored_count",
        "include": [thing("apple", 3, color="red")],
        "exclude": [thing("apple", 4)],
    }


@pytest.mark.parametrize(
    "text", ["a dog, a cat and 2 cups", "a dog, a cat, and two cups", "a dog and a cat and two cups"]
)
def test_three_things_are_joined_by_commas_and_and(text: str) -> None:
    metadata = parse(text).metadata
    assert (metadata["tag"], metadata["include"]) == ("three_objects", [thing("dog"), thing("cat"), thing("cup", 2)])


@pytest.mark.parametrize(
    "text", ["A Photo Of A Bench.", "  a bench ", "the bench", "bench", "an image of a bench", "draw me a bench"]
)
def test_capitals_articles_and_openings_do_not_matter(text: str) -> None:
    assert parse(text).metadata == {"tag": "single_object", "include": [thing("bench")]}


def test_orange_is_a_colour_and_a_fruit() -> None:
    assert include("an orange") == [thing("orange")]
    assert include("an orange orange") == [thing("orange", color="orange")]
    assert include("two orange cups and an orange") == [thing("cup", 2, color="orange"), thing("orange")]
    assert include("dog, cat, orange") == [thing("dog"), thing("cat"), thing("orange")]
    assert include("cups, two of them, orange") == [thing("cup", 2, color="orange")]


def test_the_longest_class_is_meant() -> None:
    assert include("a hot dog and a teddy bear") == [thing("hot dog"), thing("teddy bear")]


def test_names_that_coco_uses_are_understood() -> None:
    assert include("two mice and a keyboard") == [thing("computer mouse", 2), thing("computer keyboard")]


@pytest.mark.parametrize(("other", "name"), SYNONYMS.items())
def test_other_names_of_a_class_are_understood_in_every_form(other: str, name: str) -> None:
    assert other not in CLASSES
    assert include(f"a photo of a red {other} and a bird") == [thing(name, color="red"), thing("bird")]
    for form in plural_forms(other):
        assert include(f"three {form}") == [thing(name, 3)]


def test_plurals_of_other_names_are_english() -> None:
    assert include("two teddies and three lorries") == [thing("teddy bear", 2), thing("truck", 3)]


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
        ("left of a dog", "nothing is said to be left of it"),
        ("a cat to its left", "is not a number, a colour"),
        ("above it, a cat", "has not named"),
        ("a cat left of a dog and, above it, a bird", "which of two things is meant"),
        ("above a dog, a cat left of a bird", "two others"),
        ("a dog with a tie", "is not a number, a colour"),
        ("a red dog, all blue", "two colours"),
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


def test_every_class_is_described_by_phrases_that_name_nothing() -> None:
    assert tuple(TRAINED) == tuple(HELD_OUT) == CLASSES
    assert min(map(len, TRAINED.values())) >= 4
    assert min(map(len, HELD_OUT.values())) >= 2
    assert (sum(map(len, TRAINED.values())), sum(map(len, HELD_OUT.values()))) == (450, 160)
    assert len(PHRASES) == sum(map(len, [*TRAINED.values(), *HELD_OUT.values()])), "two classes share a phrase"
    said = {*COLORS, *NUMBERS, *RELATIONS} | {form for name in CLASSES for form in (name, *plural_forms(name))}
    for phrase, name in PHRASES.items():
        assert len(phrase.split()) <= 9, phrase
        assert not set(phrase.split()) & set(name.split()), phrase
        assert not [words for words in said if f" {words} " in f" {phrase} "], phrase


def test_every_phrase_has_a_word_that_is_trained_for_its_class_alone() -> None:
    meant: dict[str, set[str]] = {}
    for name, phrases in TRAINED.items():
        for word in " ".join(phrases).split():
            meant.setdefault(word, set()).add(name)
    for phrase, name in PHRASES.items():
        assert all(word in meant for word in phrase.split()), phrase
        assert {name} in [meant[word] for word in phrase.split()], phrase


def test_the_words_of_a_held_out_phrase_point_to_its_class() -> None:
    """By naive Bayes, which knows the trained phrases as bags of words and nothing of their order."""
    counts = {name: Counter(" ".join(phrases).split()) for name, phrases in TRAINED.items()}
    vocabulary = len(set().union(*counts.values()))

    def likelihood(phrase: str, name: str) -> float:
        total = counts[name].total() + 0.05 * vocabulary
        return sum(math.log((counts[name][word] + 0.05) / total) for word in phrase.split())

    for name, phrases in HELD_OUT.items():
        for phrase in phrases:
            assert max(CLASSES, key=lambda other: likelihood(phrase, other)) == name, phrase


def test_phrases_of_knowledge_mean_their_class() -> None:
    for phrase, name in PHRASES.items():
        assert parse(f"A photo of {phrase}.").metadata == {"tag": "single_object", "include": [thing(name)]}, phrase
    assert include("two red kites left of the animal that gives us wool") == [
        thing("sheep"),
        thing("kite", 2, color="red", position=["left of", 0]),
    ]

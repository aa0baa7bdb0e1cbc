"""Noun phrases without a parser: on the forms of T2I-CompBench's prompts, and on all of them where they are at hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from milr.errors import PromptError
from milr.prompts import Prompt
from milr_rewards.compbench.noun_phrases import LIMIT, chunks, leading, noun_phrases, phrases_of, without_adjectives


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a green bench and a blue bowl", ["a green bench", "a blue bowl"]),
        ("a red apple and yellow bananas", ["a red apple", "yellow bananas"]),
        ("rubber sole shoes and fluffy clouds", ["rubber sole shoes", "fluffy clouds"]),
        ("a triangular slice of pizza and a pizza box", ["a triangular slice", "pizza", "a pizza box"]),
        ("A bathroom with white tile and a beige toilet.", ["A bathroom", "white tile", "a beige toilet"]),
        ("a cubic Rubik's cube and a game box", ["a cubic Rubik's cube", "a game box"]),
        ("two white sheep, a black goat and a white goat", ["two white sheep", "a black goat", "a white goat"]),
        ("a cylindrical soda can and a book stand", ["a cylindrical soda can", "a book stand"]),
        ("dogs", ["dogs"]),
    ],
)
def test_a_list_is_one_phrase_a_thing(text: str, expected: list[str]) -> None:
    assert noun_phrases(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The soft pillow was on top of the hard chair.", ["The soft pillow", "the hard chair"]),
        ("The round clock is on the left of the picture frame.", ["The round clock", "the picture frame"]),
        ("The statue stood in front of the grey wall.", ["The statue", "the grey wall"]),
        ("a book on the left side of a cup", ["a book", "a cup"]),
        ("A small kitten and a big dog sat side by side.", ["A small kitten", "a big dog"]),
    ],
)
def test_the_noun_of_a_relation_is_no_thing(text: str, expected: list[str]) -> None:
    assert noun_phrases(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The striped black and white cat lay next to a blanket.", ["The striped black and white cat", "a blanket"]),
        ("The soft, fluffy clouds drifted lazily.", ["The soft, fluffy clouds"]),
        ("A long, narrow room with black and white tiles", ["A long, narrow room", "black and white tiles"]),
        ("a spectrum of orange and red hues", ["a spectrum", "orange and red hues"]),
    ],
)
def test_adjectives_joined_by_and_or_a_comma_stay_together(text: str, expected: list[str]) -> None:
    assert noun_phrases(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The fresh omelet cooked the fluffy eggs", ["The fresh omelet", "the fluffy eggs"]),
        ("The brown dog was lying on the green mat.", ["The brown dog", "the green mat"]),
        ("The soft pink rose petal fell onto the sidewalk", ["The soft pink rose petal", "the sidewalk"]),
        ("the freshly brewed coffee woke up", ["the freshly brewed coffee"]),
        ("The striped rug was next to the tiled floor", ["The striped rug", "the tiled floor"]),
        ("The metallic pen and fluffy notebook jot down ideas", ["The metallic pen", "fluffy notebook", "ideas"]),
        ("The vase and metallic watering can hold flowers", ["The vase", "metallic watering can", "flowers"]),
        ("The bright sun set behind the black television stand.", ["The bright sun", "the black television stand"]),
        ("a building in front of a painting", ["a building", "a painting"]),
        ("the clouds floated, like cotton candy, as they drifted", ["the clouds", "cotton candy"]),
    ],
)
def test_verbs_and_pronouns_stand_in_no_phrase(text: str, expected: list[str]) -> None:
    assert noun_phrases(text) == expected


def test_that_it_is_a_photo_is_no_thing() -> None:
    assert noun_phrases("a photo of a red dog") == ["a red dog"]


def test_phrases_know_where_they_stand() -> None:
    text = "two dogs near the old tree"
    assert [(text[phrase.start : phrase.end], phrase.text) for phrase in chunks(text)] == [
        ("two dogs", "two dogs"),
        ("the old tree", "the old tree"),
    ]


@pytest.mark.parametrize(
    ("phrase", "name", "count"),
    [
        ("the brown coat rack", "coat rack", None),
        ("Two dogs", "dogs", 2),
        ("an orange", "orange", 1),
        ("the striped black and white cat", "cat", None),
        ("a wooden dining table", "dining table", 1),
        ("ten kitchens", "kitchens", 10),
    ],
)
def test_a_phrase_knows_its_thing_and_its_number(phrase: str, name: str, count: int | None) -> None:
    [only] = chunks(phrase)
    assert (only.name, only.count) == (name, count)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a backpack, three apples, and a bowl were on the counter", ["a backpack", "three apples", "a bowl"]),
        ("two dogs near a cat", ["two dogs"]),
        ("three dogs", ["three dogs"]),
    ],
)
def test_the_leading_phrases_end_with_the_list(text: str, expected: list[str]) -> None:
    assert [phrase.text for phrase in leading(chunks(text), text)] == expected


def test_adjectives_are_left_out_of_noun_phrases_alone() -> None:
    assert without_adjectives("The soft pillow was on top of the hard rocking chair.") == (
        "The pillow was on top of the rocking chair ."
    )
    assert without_adjectives("a red orange") == "a orange"


def test_metadata_names_the_phrases() -> None:
    assert phrases_of(Prompt("whatever", metadata={"noun_phrases": ["a red book"]})) == ["a red book"]


def test_at_most_eight_phrases_are_asked_about() -> None:
    assert len(phrases_of(Prompt(", ".join(f"a dog{i}" for i in range(12))))) == LIMIT == 8


def test_a_prompt_without_phrases_is_refused() -> None:
    with pytest.raises(PromptError, match="there is nothing to ask about in 'running very slowly'"):
        phrases_of(Prompt("running very slowly"))


@pytest.mark.parametrize("given", ["a red book", [""], [1], {"a": 1}])
def test_metadata_that_is_no_list_of_texts_is_refused(given: object) -> None:
    with pytest.raises(PromptError, match="must be a list of texts"):
        phrases_of(Prompt("a book", metadata={"noun_phrases": given}))


@pytest.mark.parametrize("name", ["color", "shape", "texture"])
def test_official_pairs_are_read_as_their_two_halves(official_prompts: Path, name: str) -> None:
    lines = (official_prompts / f"{name}_val.txt").read_text("utf-8").splitlines()
    pairs = [line for line in lines if re.fullmatch(r"[\w' -]+ and [\w' -]+\.?", line)]
    pairs = [line for line in pairs if line[0].islower() and not re.search(r" (of|with|on|in) |and .* and ", line)]
    assert len(pairs) > 180
    for line in pairs:
        assert noun_phrases(line) == line.rstrip(".").split(" and ")


def test_official_complex_prompts_are_read_as_what_stands_behind_their_articles(official_prompts: Path) -> None:
    lines = (official_prompts / "complex_val.txt").read_text("utf-8").splitlines()
    for line in lines:
        phrases = noun_phrases(line)
        things = [phrase for phrase in phrases if phrase.lower().startswith("the ")]
        assert len(things) == len(re.findall(r"\bthe (?!left|right|edge|next|past)", line, re.IGNORECASE)), (
            line,
            phrases,
        )

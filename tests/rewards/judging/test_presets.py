"""What judges are asked, and that a reply is a verdict only if it is exactly what was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from milr.prompts import Prompt
from milr_rewards.judging.presets import PRESETS, explanation_of, read_answer, read_score, read_wise

ROW = Prompt("the flower of Mother's Day", metadata={"Explanation": "a carnation", "Subcategory": "Festival"})


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"reason": "a carnation", "score": 1}', 1.0),
        ('{"score": 0}', 0.0),
        (' \n{"score": 1}\n', 1.0),
        ('```json\n{"score": 1}\n```', 1.0),
        ('```\n{\n "score": 0\n}\n```\n', 0.0),
        ('<think>I would say {"score": 0}. No.</think>\n\n{"score": 1}', 1.0),
        ('reasoning that the template opened</think>{"score": 1}', 1.0),
        ('{"score": 1, "confidence": 0.9}', 1.0),
    ],
)
def test_a_binary_score_is_read(reply: str, value: float) -> None:
    assert read_score(reply).value == value


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "1",
        "Score: 1",
        "I give it a 1 out of 1.",
        'Here it is: {"score": 1}',
        '{"score": 1} {"score": 1}',
        '{"score": 0, "score": 1}',
        '[{"score": 1}]',
        '{"score": "1"}',
        '{"score": 1.0}',
        '{"score": true}',
        '{"score": 2}',
        '{"score": -1}',
        '{"score": null}',
        '{"score": [1]}',
        '{"Score": 1}',
        '{"reason": "score 1"}',
        '{"score": 1',
        '<think>{"score": 1}',
        "[" * 100_000,
        '{"score": ' + "1" * 5000 + "}",
    ],
)
def test_anything_else_is_no_score(reply: str) -> None:
    with pytest.raises(ValueError):
        read_score(reply)


@pytest.mark.parametrize(("answer", "value"), [("yes", 1.0), ("no", 0.0)])
def test_a_yes_or_no_is_read(answer: str, value: float) -> None:
    assert read_answer(f'{{"answer": "{answer}"}}').value == value


@pytest.mark.parametrize("reply", ["yes", '{"answer": "Yes"}', '{"answer": "yes and no"}', '{"answer": true}', "{}"])
def test_anything_else_is_no_answer(reply: str) -> None:
    with pytest.raises(ValueError):
        read_answer(reply)


@pytest.mark.parametrize("consistency", [0, 1, 2])
@pytest.mark.parametrize("realism", [0, 1, 2])
@pytest.mark.parametrize("quality", [0, 1, 2])
def test_wiscore_weighs_the_three_axes(consistency: int, realism: int, quality: int) -> None:
    reply = f'{{"consistency": {consistency}, "realism": {realism}, "aesthetic_quality": {quality}}}'
    verdict = read_wise(reply)
    assert verdict.value == pytest.approx(0.35 * consistency + 0.1 * realism + 0.05 * quality, abs=1e-9)
    assert verdict.parts == {"consistency": consistency, "realism": realism, "aesthetic_quality": quality}


@pytest.mark.parametrize(
    "reply",
    [
        "Consistency: 2\nRealism: 1\nAesthetic Quality: 0",
        '{"consistency": 2, "realism": 1}',
        '{"consistency": 3, "realism": 1, "aesthetic_quality": 0}',
        '{"consistency": 2, "realism": 0.5, "aesthetic_quality": 0}',
        '{"consistency": 2, "realism": "1", "aesthetic_quality": 0}',
    ],
)
def test_a_wiscore_needs_all_three_grades(reply: str) -> None:
    with pytest.raises(ValueError):
        read_wise(reply)


def test_the_judges_words_come_with_the_verdict() -> None:
    assert read_score('{"reason": "no carnation", "score": 0}').reason == "no carnation"
    assert read_score('{"reason": ["no"], "score": 0}').reason == ""


def test_a_question_quotes_the_prompt_and_what_it_means() -> None:
    for preset in PRESETS.values():
        question = preset.question(ROW)
        assert ROW.text in question
        assert ("a carnation" in question) == preset.explained == preset.name.startswith("wise")


def test_a_judge_that_repeats_the_form_has_said_nothing() -> None:
    for preset in PRESETS.values():
        with pytest.raises(ValueError, match="not one JSON object"):
            preset.read(preset.question(ROW).splitlines()[-1])


def test_a_prompt_cannot_fill_in_for_its_explanation() -> None:
    question = PRESETS["wise"].question(Prompt("costs $explanation", metadata={"explanation": "$prompt"}))
    assert "Prompt: costs $explanation\nExplanation: $prompt\n" in question


@pytest.mark.parametrize(
    ("metadata", "explanation"),
    [
        ({"explanation": " a carnation "}, "a carnation"),
        ({"Explanation": "a carnation"}, "a carnation"),
        ({"explanation": " "}, ""),
        ({"explanation": 3}, ""),
        ({}, ""),
    ],
)
def test_an_explanation_is_spelt_either_way(metadata: dict[str, object], explanation: str) -> None:
    assert explanation_of(Prompt("a flower", metadata=metadata)) == explanation


def test_a_version_changes_with_the_question() -> None:
    versions = {preset.version for preset in PRESETS.values()}
    versions.add(replace(PRESETS["wise"], template="Is $prompt there?").version)
    assert len(versions) == len(PRESETS) + 1

"""The critic `soft-tifa`: which questions are asked, which answers count, and how they are averaged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from milr.errors import PromptError, UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import load_reward
from milr_rewards.language.vocabulary import NUMBERS
from milr_rewards.networks import vision_language
from milr_rewards.networks.checkpoints import Weights
from milr_rewards.networks.vision_language import VisionLanguageModel
from milr_rewards.soft_tifa import Atom, SoftTifa, atoms_of, score_atoms, spellings
from tests.rewards.tiny_vision_language import scripted_llava_folder, tiny_qwen3_folder, tiny_tokenizer

OFFICIAL = Path(__file__).parents[3] / "shared/data/geneval2/geneval2_data.jsonl"
PICTURES = [Image.new("RGB", (40, 40), "red"), Image.radial_gradient("L"), Image.new("RGB", (64, 48), "blue")]
TWO_TOYS = Prompt(
    "two metal toys",
    metadata={
        "vqa_list": [
            ["How many toys are in the image?", "two"],
            ["Are the toys metal?", "Yes"],
            ["Are there any toys in the image?", "Yes"],
        ],
        "skills": ["count", "attribute", "object"],
    },
)
PROMPTS = [TWO_TOYS, Prompt("a photo of a red apple"), TWO_TOYS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen3_folder(tmp_path_factory.mktemp("qwen3"))


def test_the_geometric_mean_of_known_probabilities() -> None:
    atoms = [Atom("How many cats?", "two", "count"), Atom("Is it red?", "yes"), Atom("Any dog?", "no")]
    chances = [math.log(0.5), math.log(0.9), math.log(0.6)]
    score = score_atoms(atoms, chances, "gm")
    assert score.value == pytest.approx((0.5 * 0.9 * 0.6) ** (1 / 3))
    assert score.parts == pytest.approx(
        {
            "gm": (0.5 * 0.9 * 0.6) ** (1 / 3),
            "am": 2 / 3,
            "count: How many cats?": 0.5,
            "Is it red?": 0.9,
            "Any dog?": 0.6,
        }
    )
    assert score.reason == "How many cats? two: 50%"


def test_the_arithmetic_mean_of_known_probabilities() -> None:
    atoms = [Atom("Is it red?", "yes"), Atom("Any dog?", "yes")]
    assert score_atoms(atoms, [math.log(0.2), math.log(0.6)], "am").value == pytest.approx(0.4)


def test_one_hopeless_answer_makes_the_geometric_mean_small_but_not_zero() -> None:
    atoms = [Atom("Is it red?", "yes"), Atom("Any dog?", "yes")]
    assert score_atoms(atoms, [-100.0, 0.0], "gm").value == pytest.approx(math.exp(-50))


def test_the_right_answer_counts_in_all_its_spellings() -> None:
    assert sorted(spellings("yes")) == [" Yes", " yes", "Yes", "yes"]
    assert sorted(spellings("seven")) == [" 7", " Seven", " seven", "7", "Seven", "seven"]


@pytest.mark.parametrize("aggregate", ["gm", "am"])
def test_a_model_of_known_answers_gives_a_known_score(tmp_path: Path, aggregate: str) -> None:
    logits = {"Yes": 5.0, " yes": 2.0, "two": 3.0, "2": 4.0, "seven": 6.0}
    folder = scripted_llava_folder(tmp_path, logits)
    total = sum(map(math.exp, logits.values())) + len(tiny_tokenizer()) - len(logits)
    yes = (math.exp(5) + math.exp(2) + 2) / total  # the spellings that no logit was given for have the logit 0
    two = (math.exp(3) + math.exp(4) + 3) / total
    expected = (two * yes * yes) ** (1 / 3) if aggregate == "gm" else (two + 2 * yes) / 3
    reward = SoftTifa(model=str(folder), aggregate=aggregate)
    score = reward.score(PICTURES[:1], [TWO_TOYS])[0]
    assert score.value == pytest.approx(expected, rel=1e-4)
    assert score.parts["count: How many toys are in the image?"] == pytest.approx(two, rel=1e-4)


def test_every_question_is_asked_alone_in_the_official_words(folder: Path) -> None:
    model = VisionLanguageModel(Weights("soft-tifa", str(folder)))
    asked = [f"{question} Answer in one word." for question, _ in TWO_TOYS.metadata["vqa_list"]]
    yes, two = spellings("yes"), spellings("two")
    chances = model.answer_log_probabilities([PICTURES[2]] * 3, asked, [yes, two])
    expected = ((chances[0, 1] + chances[1, 0] + chances[2, 0]) / 3).exp().item()
    scores = SoftTifa(model=str(folder)).score(PICTURES, PROMPTS)
    assert scores[2].value == pytest.approx(expected, rel=1e-3)
    assert scores[0].value != pytest.approx(expected, rel=1e-3)


def test_batches_of_any_size_give_the_same_scores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = SoftTifa(model=str(folder))
    whole = [score.value for score in reward.score(PICTURES, PROMPTS)]
    assert all(0 <= value <= 1 for value in whole)
    monkeypatch.setattr(vision_language, "BATCH", 2)
    assert [score.value for score in reward.score(PICTURES, PROMPTS)] == pytest.approx(whole, rel=1e-3)
    assert reward.score([], []) == []


def test_a_prompt_of_geneval_2_is_asked_its_own_questions() -> None:
    assert atoms_of(TWO_TOYS)[:2] == [
        Atom("How many toys are in the image?", "two", "count"),
        Atom("Are the toys metal?", "yes", "attribute"),
    ]


def test_skills_that_do_not_fit_the_questions_are_left_out() -> None:
    prompt = Prompt("a cat", metadata={"vqa_list": [["Is it a cat?", "Yes"]], "skills": ["object", "count"]})
    assert atoms_of(prompt) == [Atom("Is it a cat?", "yes")]


def test_a_sentence_is_asked_about_clause_by_clause() -> None:
    assert atoms_of(Prompt("a photo of two red apples and a dog")) == [
        Atom("Are there two apples?", "yes"),
        Atom("Are there two red apples?", "yes"),
        Atom("Is there a dog?", "yes"),
    ]


def test_what_must_not_be_there_is_asked_for_a_no() -> None:
    include, exclude = [{"class": "cat", "count": 1}], [{"class": "dog", "count": 1}]
    prompt = Prompt("a cat, no dog", metadata={"include": include, "exclude": exclude})
    assert atoms_of(prompt) == [Atom("Is there a cat?", "yes"), Atom("Is there a dog?", "no")]


@pytest.mark.parametrize(
    "questions", [[], "no list", [["no answer"]], [["Is it?", 3]], [["Is it?", " "]], [["Is it?", "Yes", "No"]]]
)
def test_questions_that_cannot_be_read_are_refused(questions: object) -> None:
    with pytest.raises(PromptError, match="cannot read the 'vqa_list' of 'a cat'"):
        SoftTifa().check(Prompt("a cat", metadata={"vqa_list": questions}))


def test_a_prompt_that_cannot_be_asked_about_is_refused_before_any_weights_are_loaded() -> None:
    with pytest.raises(PromptError, match="the meaning of life"):
        SoftTifa(model="./nowhere/at/all").check(Prompt("the meaning of life"))


def test_a_number_without_a_word_is_refused() -> None:
    metadata = {"include": [{"class": "cat", "count": 11}], "exclude": []}
    with pytest.raises(PromptError, match="has no word for 11"):
        SoftTifa().check(Prompt("eleven cats", metadata=metadata))


def test_words_that_go_unasked_are_warned_of_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reward = SoftTifa(model=str(folder))
    for _ in range(2):
        reward.check(Prompt("a photo of a shiny apple"))
    assert [record.getMessage() for record in caplog.records] == [
        "soft-tifa does not ask about 'shiny' in 'a photo of a shiny apple'"
    ]


def test_an_unknown_aggregate_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown aggregate of reward 'soft-tifa': 'hm'"):
        SoftTifa(aggregate="hm")


def test_the_aggregate_and_the_weights_make_the_version(folder: Path) -> None:
    assert SoftTifa(model=str(folder)).version != SoftTifa(model=str(folder), aggregate="am").version


def test_missing_weights_are_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reward 'soft-tifa' cannot load"):
        SoftTifa(model=str(tmp_path)).check(TWO_TOYS)


def test_it_is_found_by_name_with_its_options(folder: Path) -> None:
    reward = load_reward("soft-tifa", options={"soft-tifa": {"model": str(folder), "aggregate": "am"}})
    assert isinstance(reward, SoftTifa)


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="GenEval 2's data (CC-BY-NC) is not on this machine")
def test_every_prompt_of_geneval_2_can_be_asked_about() -> None:
    rows = [json.loads(line) for line in OFFICIAL.read_text("utf-8").splitlines()]
    atoms = [atoms_of(Prompt(row.pop("prompt"), metadata=row)) for row in rows]
    assert len(atoms) == 800
    assert [len(some) for some in atoms] == [len(row["vqa_list"]) for row in rows]
    assert {atom.skill for some in atoms for atom in some} == {"count", "object", "attribute", "position", "verb"}
    assert {atom.answer for some in atoms for atom in some} == {"yes", *NUMBERS[1:8]}

"""The critic `blip-vqa`: P(yes) of a real BLIP against a plain computation, products, and clear refusals."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from transformers import BlipForQuestionAnswering, BlipProcessor

from milr.errors import PromptError, UsageError
from milr.prompts import Prompt
from milr_rewards.compbench import blip_vqa
from milr_rewards.compbench.blip_vqa import BlipVqa, question, score_phrases
from tests.rewards.tiny_compbench import BLIP_RESOLUTION, PICTURES

PROMPTS = [Prompt("a red book and a green vase"), Prompt("the cat"), Prompt("a blue dog, a cat and a red coat rack")]


@pytest.fixture
def critic(blip_folder: Path) -> BlipVqa:
    return BlipVqa(model=str(blip_folder), resolution=BLIP_RESOLUTION)


def test_a_phrase_scores_how_probable_yes_is_against_no(critic: BlipVqa, blip_folder: Path) -> None:
    processor = BlipProcessor.from_pretrained(blip_folder)
    model = BlipForQuestionAnswering.from_pretrained(blip_folder).eval()
    pixels = processor.image_processor(PICTURES[0], size={"height": 32, "width": 32}, return_tensors="pt")
    words = processor.tokenizer.get_vocab()
    tokens = torch.tensor([[31, words["a"], words["red"], words["book"], words["?"], words["[SEP]"]]])  # 31 is [ENC]
    with torch.inference_mode():
        seen = model.vision_model(pixels["pixel_values"], interpolate_pos_encoding=True).last_hidden_state
        asked = model.text_encoder(input_ids=tokens, encoder_hidden_states=seen).last_hidden_state
        logits = model.text_decoder(input_ids=torch.tensor([[30]]), encoder_hidden_states=asked).logits[0, -1]
    probabilities = logits.softmax(-1)
    expected = probabilities[words["yes"]] / (probabilities[words["yes"]] + probabilities[words["no"]])
    [score] = critic.score(PICTURES[:1], [Prompt("a red book")])
    assert score.value == pytest.approx(expected.item(), abs=1e-5)


def test_a_score_is_the_product_over_the_phrases(critic: BlipVqa) -> None:
    for picture, prompt in zip(PICTURES, PROMPTS, strict=False):
        [score] = critic.score([picture], [prompt])
        assert score.value == pytest.approx(math.prod(score.parts.values()))
        assert 0 <= score.value <= 1
        for phrase, probability in score.parts.items():
            [single] = critic.score([picture], [Prompt(phrase)])
            assert single.value == pytest.approx(probability, abs=1e-5)


def test_batches_of_any_size_give_the_same_scores(critic: BlipVqa, monkeypatch: pytest.MonkeyPatch) -> None:
    together = [score.value for score in critic.score(PICTURES[:3], PROMPTS)]
    assert len({round(value, 6) for value in together}) == 3
    monkeypatch.setattr(blip_vqa, "BATCH", 1)
    assert [score.value for score in critic.score(PICTURES[:3], PROMPTS)] == pytest.approx(together, abs=1e-5)
    assert critic.score([], []) == []


def test_metadata_names_the_phrases(critic: BlipVqa) -> None:
    prompt = Prompt("still life", metadata={"noun_phrases": ["a red book", "a cat"]})
    [score] = critic.score(PICTURES[:1], [prompt])
    assert list(score.parts) == ["a red book", "a cat"]


def test_the_reason_is_the_weakest_phrase() -> None:
    score = score_phrases([("a red book", 0.9), ("a cat", 0.25), ("a cat", 0.5)])
    assert score.value == pytest.approx(0.9 * 0.25 * 0.5)
    assert score.parts == {"a red book": 0.9, "a cat": 0.25}
    assert score.reason == "weakest: 'a cat' (0.25)"


def test_a_question_is_written_as_blip_was_trained() -> None:
    assert question('The "Red" Book (large)') == "the red book large?"


def test_pictures_of_any_mode_are_scored(critic: BlipVqa) -> None:
    assert critic.score([PICTURES[0].convert("LA")], PROMPTS[:1])[0].value is not None


def test_the_resolution_is_a_choice_and_part_of_the_version(blip_folder: Path) -> None:
    critics = [BlipVqa(model=str(blip_folder), resolution=size) for size in (16, 32)]
    assert critics[0].version != critics[1].version
    values = [critic.score(PICTURES[:1], PROMPTS[:1])[0].value for critic in critics]
    assert values[0] != pytest.approx(values[1], abs=1e-4)


def test_a_resolution_is_a_positive_number() -> None:
    with pytest.raises(UsageError, match="expected a resolution in pixels, such as 480, not 0"):
        BlipVqa(resolution=0)


def test_a_prompt_is_refused_before_weights_are_loaded() -> None:
    with pytest.raises(PromptError, match="there is nothing to ask about"):
        BlipVqa(model="no/where").check(Prompt("running"))


def test_damaged_weights_are_an_error_before_anything_starts(blip_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(blip_folder, tmp_path / "blip")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match="reward 'blip-vqa' cannot load") as refused:
        BlipVqa(model=str(folder)).check(PROMPTS[0])
    assert "\n" not in str(refused.value)

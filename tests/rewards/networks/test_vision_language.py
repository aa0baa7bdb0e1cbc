"""Vision-language models behind critics: probabilities of answers and written replies, alike alone and in batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from milr.errors import UsageError
from milr_rewards.networks import vision_language
from milr_rewards.networks.checkpoints import Weights
from milr_rewards.networks.vision_language import VisionLanguageModel, first_tokens
from tests.rewards.tiny_vision_language import (
    scripted_llava_folder,
    tiny_llava_folder,
    tiny_qwen3_folder,
    tiny_qwen_folder,
    tiny_tokenizer,
)

KINDS = {"qwen2.5-vl": tiny_qwen_folder, "qwen3-vl": tiny_qwen3_folder, "llava": tiny_llava_folder}
PICTURES = [
    Image.new("RGB", (40, 40), "red"),
    Image.radial_gradient("L").resize((50, 90)),
    Image.new("RGBA", (64, 64), (0, 0, 255, 128)),
]
QUESTIONS = ["Is there a dog?", "Does this figure show three cats and a red zebra?", "Yes?"]
ANSWERS = [("Yes",), ("No", "no"), ("seven", "7")]


def model_of(folder: Path) -> VisionLanguageModel:
    return VisionLanguageModel(Weights("vqascore", str(folder)))


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS[request.param](tmp_path_factory.mktemp("model"))


def reply_of(folder: Path, picture: Image.Image, text: str, tokens: int) -> Any:
    """What the plain library generates for one pair, and the spread of its first token."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    off = {"enable_thinking": False} if "enable_thinking" in processor.chat_template else {}
    prompt = processor.apply_chat_template([message], add_generation_prompt=True, **off)
    inputs = processor(text=prompt, images=picture.convert("RGB"), return_tensors="pt")
    with torch.inference_mode():
        spread = model.eval()(**inputs).logits[0, -1].softmax(-1)
        written = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return spread, processor.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_probabilities_are_those_of_the_first_token_over_the_whole_vocabulary(folder: Path) -> None:
    found = model_of(folder).answer_log_probabilities(PICTURES, QUESTIONS, ANSWERS).exp()
    place = tiny_tokenizer().convert_tokens_to_ids
    tokens = [[place("Yes")], [place("No"), place("no")], [place("seven"), place("7")]]
    for row, (picture, question) in enumerate(zip(PICTURES, QUESTIONS, strict=True)):
        spread, _ = reply_of(folder, picture, question, 1)
        assert found[row].tolist() == pytest.approx([spread[these].sum().item() for these in tokens], rel=1e-3)
    assert len({round(value, 5) for value in found.flatten().tolist()}) == 9


def test_replies_are_those_of_the_library_for_each_pair_alone(folder: Path) -> None:
    written = model_of(folder).write(PICTURES, QUESTIONS, 6)
    assert written == [reply_of(folder, *pair, 6)[1] for pair in zip(PICTURES, QUESTIONS, strict=True)]
    assert len(set(written)) == 3


def test_batches_of_any_size_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(folder)
    whole, texts = model.answer_log_probabilities(PICTURES, QUESTIONS, ANSWERS), model.write(PICTURES, QUESTIONS, 4)
    monkeypatch.setattr(vision_language, "BATCH", 1)
    alone = model.answer_log_probabilities(PICTURES, QUESTIONS, ANSWERS)
    assert alone.tolist() == [pytest.approx(row, abs=1e-4) for row in whole.tolist()]
    assert model.write(PICTURES, QUESTIONS, 4) == texts


def test_the_same_is_said_twice(folder: Path) -> None:
    model = model_of(folder)
    first, again = (model.answer_log_probabilities(PICTURES, QUESTIONS, ANSWERS) for _ in range(2))
    assert torch.equal(first, again)


def test_the_picture_is_seen(folder: Path) -> None:
    found = model_of(folder).answer_log_probabilities(PICTURES, ["Is there a dog?"] * 3, [("Yes",)]).exp()
    assert len({round(value, 5) for value in found[:, 0].tolist()}) == 3


def test_known_logits_give_known_probabilities(tmp_path: Path) -> None:
    model = model_of(scripted_llava_folder(tmp_path, {"Yes": 3.0, "yes": 1.0, "No": 2.0}))
    found = model.answer_log_probabilities(PICTURES[:1], QUESTIONS[:1], [("Yes", "yes"), ("No",)])
    yes, no = math.exp(3) + math.exp(1), math.exp(2)
    total = yes + no + len(tiny_tokenizer()) - 3
    assert found.exp()[0].tolist() == pytest.approx([yes / total, no / total], rel=1e-4)


def test_a_sure_answer_is_not_more_than_certain(tmp_path: Path) -> None:
    model = model_of(scripted_llava_folder(tmp_path, {"Yes": 40.0, "yes": 42.1, " yes": 39.0}))
    assert model.answer_log_probabilities(PICTURES[:1], QUESTIONS[:1], [("Yes", "yes", " yes")]).item() <= 0


def test_a_reply_ends_where_the_model_ends_it(tmp_path: Path) -> None:
    lines = ["It is a dog.\n", "It is red."]
    model = model_of(scripted_llava_folder(tmp_path, {lines[0]: 20.0}, lines))
    assert model.write(PICTURES[:2], QUESTIONS[:2], 30) == ["It is a dog.\nIt is red."] * 2


def test_nothing_asked_is_nothing_answered(tmp_path: Path) -> None:
    model = model_of(tiny_llava_folder(tmp_path))
    assert model.answer_log_probabilities([], [], [("Yes",), ("No",)]).shape == (0, 2)
    assert model.write([], [], 4) == []


def test_a_token_that_two_spellings_share_counts_once() -> None:
    tokenizer = tiny_tokenizer()
    place = tokenizer.convert_tokens_to_ids
    assert first_tokens(tokenizer, ["Yes", "Yes!", "yes"]) == [place("Yes"), place("yes")]


def test_a_spelling_that_begins_with_a_bare_space_says_nothing() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.tokenize(" 7") == ["Ġ", "7"]
    assert first_tokens(tokenizer, ["7", " 7"]) == [tokenizer.convert_tokens_to_ids("7")]


def test_an_answer_that_begins_with_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot tell the answer ' ' by its first token"):
        model_of(tiny_llava_folder(tmp_path)).answer_log_probabilities(PICTURES[:1], QUESTIONS[:1], [("Yes",), (" ",)])


def test_answers_that_begin_alike_are_as_likely(tmp_path: Path) -> None:
    model = model_of(tiny_llava_folder(tmp_path))
    first, second = model.answer_log_probabilities(PICTURES[:1], QUESTIONS[:1], [("Yes",), ("Yes!",)])[0].tolist()
    assert first == second


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no chat template, so it cannot be asked"):
        model_of(tiny_llava_folder(tmp_path, chat_template=None)).load()


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'),
        lambda folder: (folder / "tokenizer.json").write_text("{"),
    ],
    ids=["truncated", "no weights", "another kind", "broken tokenizer"],
)
def test_unusable_weights_are_one_clear_error(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(tiny_llava_folder(tmp_path))
    with pytest.raises(UsageError, match=r"^reward 'vqascore' cannot load .*another kind of model\.$") as refused:
        model_of(tmp_path).load()
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"there is no folder '\./nowhere/at/all'"):
        VisionLanguageModel(Weights("vqascore", "./nowhere/at/all")).load()


def test_half_precision_changes_little(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model_of(folder).answer_log_probabilities(PICTURES, QUESTIONS, ANSWERS).exp()
    monkeypatch.setattr(vision_language, "half_on_gpu", lambda _: torch.bfloat16)
    half = model_of(folder).answer_log_probabilities(PICTURES, QUESTIONS, ANSWERS).exp()
    assert not torch.equal(half, whole)
    assert half.tolist() == [pytest.approx(row, rel=0.5) for row in whole.tolist()]


def test_what_a_checkpoint_says_of_sampling_is_silently_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = model_of(tiny_llava_folder(tmp_path)).write(PICTURES, QUESTIONS, 6)
    options = '{"do_sample": true, "temperature": 3.0, "top_k": 5, "top_p": 0.5, "max_length": 9, "eos_token_id": 2}'
    (tmp_path / "generation_config.json").write_text(options)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert model_of(tmp_path).write(PICTURES, QUESTIONS, 6) == plain
    assert caplog.records == []

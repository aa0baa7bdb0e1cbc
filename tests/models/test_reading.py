"""Reading with a Janus: what transformers computes, whatever the batch, and nothing of the model changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import JanusProcessor
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from milr.decoding import Engine, describe
from milr.errors import ModelError
from milr.models import load_model
from milr.models.eyes import JANUS_PRO_PICTURES, Preprocessing, pixel_values
from milr.models.janus import JANUS_PRO_QUESTION, Janus
from tests.tiny import tiny_janus_folder

QUESTIONS = ["is there a dog?", "are there two red apple?", "is the dog left of the cup?", "yes?", "is there a cat?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Janus:
    return load_model(str(tiny_janus_folder(tmp_path_factory.mktemp("janus"))), device="cpu")  # type: ignore[return-value]


def pictures(count: int, size: tuple[int, int] = (8, 8)) -> list[Image.Image]:
    generator = torch.Generator().manual_seed(count)
    width, height = size
    pixels = torch.randint(256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in pixels]


def own_inputs(model: Janus, image: Image.Image, text: str) -> dict[str, torch.Tensor]:
    ids = model.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixel_values([image], model.facts.resolution, JANUS_PRO_PICTURES),
    }


def test_an_answer_is_what_transformers_own_forward_says(model: Janus) -> None:
    (image,) = pictures(1)
    text = "<bos><boi>" + "<image>" * 16 + "<eoi>is there a dog?<think>"
    with torch.no_grad():
        logits = model.network(**own_inputs(model, image, text)).logits[0, -1]
    yes, no = model.tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = logits[[yes, no]].softmax(-1)[0].item()
    assert model.answer([image], ["is there a dog?"]) == pytest.approx([expected], abs=1e-5)


def test_a_description_is_what_transformers_own_generation_writes(model: Janus) -> None:
    images = pictures(2)
    text = "<bos><boi>" + "<image>" * 16 + "<eoi><think>"
    expected = []
    for image in images:
        inputs = own_inputs(model, image, text)
        ends = sorted(model.stop_ids | {model.tokenizer.eos_token_id})
        limit = model.facts.max_reasoning_tokens
        written = model.network.generate(**inputs, do_sample=False, max_new_tokens=limit, eos_token_id=ends)
        expected.append(model.decode_text(written[0, inputs["input_ids"].shape[1] :].tolist()))
    assert describe(Engine(model), images) == expected


@pytest.fixture(scope="module")
def token_reader(tmp_path_factory: pytest.TempPathFactory) -> Janus:
    folder = tiny_janus_folder(tmp_path_factory.mktemp("reader"))
    facts = json.loads((folder / "milr.json").read_text())
    (folder / "milr.json").write_text(json.dumps(facts | {"reads_tokens": True}))
    return load_model(str(folder), device="cpu")  # type: ignore[return-value]


def test_a_model_that_reads_tokens_answers_from_those_of_its_own_pictures(token_reader: Janus) -> None:
    tokens = torch.randint(24, (2, 16), generator=torch.Generator().manual_seed(1))
    images = token_reader.pixels(tokens)
    ids = token_reader.tokenizer("<bos><boi><eoi>is there a dog?<think>", add_special_tokens=False).input_ids
    expected = []
    for row in tokens:
        text = token_reader.embed_text(torch.tensor([ids]))
        whole = torch.cat([text[:, :2], token_reader.embed_image(row[None]), text[:, 2:]], dim=1)  # [1, T, H]
        hidden = token_reader.network.model.language_model(inputs_embeds=whole).last_hidden_state[0, -1]
        yes, no = token_reader.tokenizer.convert_tokens_to_ids(["yes", "no"])
        expected.append(token_reader.text_head(hidden)[[yes, no]].softmax(-1)[0].item())
    assert token_reader.answer(images, ["is there a dog?"] * 2) == pytest.approx(expected, abs=1e-5)


def test_pictures_from_elsewhere_are_read_by_their_pixels(token_reader: Janus, model: Janus) -> None:
    own = token_reader.pixels(torch.zeros(1, 16, dtype=torch.long))
    images = [*pictures(1), *own]
    questions = ["is there a dog?"] * 2
    assert token_reader.answer(images, questions) == pytest.approx(model.answer(images, questions), abs=1e-5)
    assert token_reader.answer(own, questions[:1]) != pytest.approx(model.answer(own, questions[:1]), abs=1e-5)


def test_a_picture_that_was_painted_over_is_read_by_its_pixels(token_reader: Janus, model: Janus) -> None:
    (own,) = token_reader.pixels(torch.zeros(1, 16, dtype=torch.long))
    edited = own.copy()
    edited.paste((0, 0, 255), (0, 0, *edited.size))
    question = ["is there a dog?"]
    assert token_reader.answer([edited], question) == pytest.approx(model.answer([edited], question), abs=1e-5)


def test_questions_of_all_lengths_in_one_batch_get_the_answers_that_they_get_alone(model: Janus) -> None:
    images = [*pictures(3), *pictures(2, (20, 11))]
    together = model.answer(images, QUESTIONS)
    alone = [model.answer([image], [question])[0] for image, question in zip(images, QUESTIONS, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 5
    assert all(0 < p < 1 for p in together)


def test_answers_depend_on_the_picture(model: Janus) -> None:
    first, second = model.answer(pictures(2), ["is there a dog?"] * 2)
    assert first != second


def test_reading_leaves_the_model_as_it_was(model: Janus) -> None:
    before = model.fingerprint()
    model.answer(pictures(2), QUESTIONS[:2])
    describe(Engine(model), pictures(2))
    assert model.fingerprint() == before
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_special_tokens_in_a_question_stay_text(model: Janus) -> None:
    (image,) = pictures(1)
    assert model.answer([image], ["is there <image> a dog?"]) == model.answer([image], ["is there a dog?"])


@pytest.mark.parametrize("size", [(96, 96), (200, 120), (31, 77), (400, 10)])
def test_pixels_are_those_of_transformers_own_processor(size: tuple[int, int]) -> None:
    (image,) = pictures(1, size)
    processor = JanusImageProcessorPil(
        size={"height": 96, "width": 96}, image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.6, 0.7]
    )
    expected = processor([image], return_tensors="pt")["pixel_values"]
    own = pixel_values([image], 96, Preprocessing.from_config(processor.to_dict()))
    torch.testing.assert_close(own, expected.float(), atol=1e-5, rtol=0)


def test_no_pictures_are_no_answers(model: Janus) -> None:
    assert model.answer([], []) == []
    assert describe(Engine(model), []) == []


def test_a_checkpoint_that_does_not_say_how_it_is_asked_does_not_read(tmp_path: Path) -> None:
    folder = tiny_janus_folder(tmp_path)
    facts = json.loads((folder / "milr.json").read_text())
    del facts["question_prompt"], facts["describe_prompt"]
    (folder / "milr.json").write_text(json.dumps(facts))
    mute = load_model(str(folder), device="cpu")
    assert not mute.facts.reads
    with pytest.raises(ModelError, match="does not read"):
        mute.answer(pictures(1), ["is there a dog?"])
    with pytest.raises(ModelError, match="does not read"):
        describe(Engine(mute), pictures(1))


def test_janus_pro_is_asked_as_its_processor_would_ask(tmp_path: Path) -> None:
    folder = tiny_janus_folder(tmp_path)
    (folder / "milr.json").unlink()
    pro: Janus = load_model(str(folder), device="cpu")  # type: ignore[assignment]
    assert pro.facts.reads
    processor = JanusProcessor(JanusImageProcessorPil(), pro.tokenizer, num_image_tokens=16)
    asked = "<bos><|User|>: <image>\nis there a dog?\nAnswer yes or no.\n\n<|Assistant|>:"
    expected = processor(text=asked, images=pictures(1), return_tensors="pt").input_ids[0].tolist()
    assert pro._reading_ids(JANUS_PRO_QUESTION, "is there a dog?") == expected
    assert 0 < pro.answer(pictures(1), ["is there a dog?"])[0] < 1


def test_every_spelling_of_an_answer_counts(model: Janus) -> None:
    assert model._answer_ids(True) == [model.tokenizer.convert_tokens_to_ids("yes")]
    assert model._answer_ids(False) == [model.tokenizer.convert_tokens_to_ids("no")]

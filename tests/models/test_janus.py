"""The Janus backend: frozen, honest about words and length, and equal to transformers' own generation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from milr.decoding import Engine, Sampling
from milr.decoding.tokens import guide
from milr.errors import ModelError, PromptError, UnknownNameError, UsageError
from milr.latents import stack_prefixes
from milr.models import load_model
from milr.models.janus import Janus
from milr.noise import NoiseRows, NoiseSource
from tests.tiny import tiny_janus_folder

PROMPT = "a photo of a red apple left of a dog"
REASONING = "two dog, above red apple."


@pytest.fixture(scope="module", params=["tiny", "mini"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Janus:
    if request.param == "mini":
        return load_model("mini", device="cpu")  # type: ignore[return-value]
    return load_model(str(tiny_janus_folder(tmp_path_factory.mktemp("janus"))), device="cpu")  # type: ignore[return-value]


def greedy(model: Janus, guidance: float) -> Sampling:
    return Sampling(guidance, 0.0, 0.0, model.facts.max_reasoning_tokens)


def no_noise(rows: int) -> NoiseRows:
    return NoiseRows([NoiseSource.of(0, "")] * rows, [0] * rows, [0] * rows, torch.device("cpu"))


def draw(model: Janus, prompts: list[list[int]], guidance: float) -> torch.Tensor:
    prefixes = stack_prefixes([None] * len(prompts), 2, model.facts.hidden_size, model.device)
    return Engine(model).draw(prompts, prefixes, no_noise(len(prompts)), greedy(model, guidance), 0).tokens


@pytest.mark.parametrize("guidance", [3.0, 5.0])
def test_greedy_pictures_equal_transformers_generate(model: Janus, guidance: float) -> None:
    ids = model.image_ids(PROMPT, REASONING)
    reference = model.network.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        generation_mode="image",
        guidance_scale=guidance,
        do_sample=False,
    )
    assert draw(model, [ids], guidance).tolist() == reference.tolist()


def test_greedy_pictures_at_guidance_one_equal_a_plain_uncached_loop(model: Janus) -> None:
    ids = model.image_ids(PROMPT, REASONING)
    pair = torch.tensor([ids, model.unconditional_ids(ids)])
    embeddings, tokens = model.embed_text(pair), []
    for _ in range(model.facts.image_tokens):
        hidden = model.network.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1]
        logits = model.image_head(hidden)
        tokens.append(guide(logits[:1], logits[1:], 1.0).argmax(dim=-1))
        embeddings = torch.cat([embeddings, model.embed_image(tokens[-1][:, None]).repeat(2, 1, 1)], dim=1)
    assert draw(model, [ids], 1.0).tolist() == torch.stack(tokens, dim=1).tolist()


def test_greedy_reasoning_equals_transformers_generate(model: Janus) -> None:
    ids = model.reasoning_ids(PROMPT)
    reference = model.network.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        generation_mode="text",
        do_sample=False,
        max_new_tokens=model.facts.max_reasoning_tokens,
        eos_token_id=sorted(model.stop_ids),
    )[0, len(ids) :]
    prefixes = stack_prefixes([None], 1, model.facts.hidden_size, model.device)
    (written,) = Engine(model).write([ids], prefixes, no_noise(1), greedy(model, 3.0))
    assert written.ids.tolist() == reference.tolist()


def test_ragged_prompts_in_one_batch_draw_what_they_draw_alone(model: Janus) -> None:
    prompts = [model.image_ids(PROMPT, REASONING), model.image_ids("a red cup", ""), model.image_ids("two cat", ".")]
    together = draw(model, prompts, 3.0)
    assert [together[i].tolist() for i in range(3)] == [draw(model, [ids], 3.0)[0].tolist() for ids in prompts]


def test_no_parameter_requires_a_gradient(model: Janus) -> None:
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert not model.network.training


def test_the_fingerprint_tells_whether_any_weight_changed(tmp_path: Path) -> None:
    model = load_model(str(tiny_janus_folder(tmp_path)), device="cpu")
    before = model.fingerprint()
    assert model.fingerprint() == before
    with torch.no_grad():
        next(iter(model.network.parameters())).view(-1)[0].add_(1e-3)  # type: ignore[attr-defined]
    assert model.fingerprint() != before


def test_unknown_words_are_named_in_order(model: Janus) -> None:
    assert model.unknown_words("a Red zeppelin and a qwertz") == ["zeppelin", "qwertz"]


def test_special_tokens_in_a_prompt_stay_out_of_the_model(model: Janus) -> None:
    assert model.image_ids("a red <boi> apple", "") == model.image_ids("a red apple", "")


def test_a_prompt_longer_than_the_context_is_refused(model: Janus) -> None:
    with pytest.raises(PromptError, match="tokens too long"):
        model.check_prompt("red apple " * model.facts.context_length)


def test_the_unconditional_prompt_keeps_only_its_frame(model: Janus) -> None:
    ids = model.image_ids("a red apple", "")
    assert model.unconditional_ids(ids) == [ids[0], *[model.pad_id] * (len(ids) - 2), ids[-1]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_janus_folder(tmp_path / "janus")


def test_truncated_weights_are_named_as_such(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="truncated or damaged"):
        load_model(str(folder), device="cpu")


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_model(str(folder), device="cpu")


def test_missing_tensors_are_refused_and_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        load_model(str(folder), device="cpu")


def test_another_architecture_is_refused_by_name(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="'llama' model"):
        load_model(str(folder), device="cpu")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(str(tmp_path))


def test_a_damaged_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError):
        load_model(str(folder), device="cpu")


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    shutil.move(folder / "tokenizer.json", folder / "elsewhere.json")
    with pytest.raises(ModelError):
        load_model(str(folder), device="cpu")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mini'"):
        load_model("mimi")


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="available: cpu"):
        load_model("mini", device="cuda:99")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UsageError, match="float32"):
        load_model("mini", dtype="float7")

"""Decoding follows its prefix, records what the heads read, and equals a plain loop without cache."""

from __future__ import annotations

import pytest
import torch

from milr.decoding import Engine, Proposal, Request, Rollout, Sampling
from milr.decoding.tokens import guide, log_prob
from milr.latents import Prefix, prefix_length
from milr.models import load_model
from milr.models.janus import Janus
from milr.noise import NoiseSource
from milr.prompts import Prompt
from tests.tiny import tiny_janus_folder

PROMPTS = [Prompt("a red apple"), Prompt("a photo of a dog left of three blue cat")]
SAMPLING = Sampling(guidance=3.0, temperature=1.0, reasoning_temperature=1.0, max_reasoning_tokens=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Janus:
    return load_model(str(tiny_janus_folder(tmp_path_factory.mktemp("janus"))), device="cpu")  # type: ignore[return-value]


def decode(model: Janus, prompt: Prompt, proposal: Proposal, sampling: Sampling = SAMPLING) -> Rollout:
    request = Request(prompt, NoiseSource.of(0, prompt.id), proposal)
    return Engine(model).decode([request], sampling, keep_image_states=4)[0]


def test_recorded_states_give_the_recorded_log_probabilities(model: Janus) -> None:
    rollout = decode(model, PROMPTS[0], Proposal(0, 0))
    text = log_prob(model.text_head(rollout.text_states), rollout.reasoning_ids)
    torch.testing.assert_close(text, rollout.text_log_probs)
    logits = model.image_head(rollout.image_states)
    image = log_prob(guide(logits[:, 0], logits[:, 1], 3.0), rollout.image_tokens[:4])
    torch.testing.assert_close(image, rollout.image_log_probs[:4])


def test_replacing_latents_are_what_the_head_reads(model: Janus) -> None:
    latents = torch.randn(4, 2, model.facts.hidden_size)
    rollout = decode(model, PROMPTS[0], Proposal(0, 0, image=Prefix(latents, "replace")))
    assert torch.equal(rollout.image_states, latents)


def test_the_models_own_states_as_replacement_change_nothing(model: Janus) -> None:
    own = decode(model, PROMPTS[0], Proposal(0, 0))
    text, image = Prefix(own.text_states[:3], "replace"), Prefix(own.image_states, "replace")
    again = decode(model, PROMPTS[0], Proposal(0, 0, text=text, image=image))
    assert again.reasoning_ids.tolist() == own.reasoning_ids.tolist()
    assert again.image_tokens.tolist() == own.image_tokens.tolist()


def test_a_shift_moves_only_the_positions_it_covers(model: Janus) -> None:
    own = decode(model, PROMPTS[0], Proposal(0, 0))
    head = model.network.model.generation_head
    shift = torch.zeros(2, 2, model.facts.hidden_size)
    shift[:, 0] = 3.0
    moved = decode(model, PROMPTS[0], Proposal(0, 0, reasoning_ids=own.reasoning_ids, image=Prefix(shift, "shift")))
    torch.testing.assert_close(moved.image_states[0], own.image_states[0] + shift[0])
    assert head(moved.image_states[0]).shape == (2, model.facts.image_vocabulary)
    zero = decode(model, PROMPTS[0], Proposal(0, 0, image=Prefix(torch.zeros_like(shift), "shift")))
    assert zero.image_tokens.tolist() == own.image_tokens.tolist()


def test_rows_with_and_without_latents_share_a_batch(model: Janus) -> None:
    noise = NoiseSource.of(0, PROMPTS[0].id)
    shift = Prefix(torch.full((3, 2, model.facts.hidden_size), 0.5), "shift")
    proposals = [Proposal(0, 0), Proposal(0, 1, image=shift), Proposal(0, 2)]
    batch = Engine(model).decode([Request(PROMPTS[0], noise, proposal) for proposal in proposals], SAMPLING)
    alone = [decode(model, PROMPTS[0], proposal) for proposal in proposals]
    assert [r.image_tokens.tolist() for r in batch] == [r.image_tokens.tolist() for r in alone]


def test_a_kept_reasoning_is_not_written_again(model: Janus) -> None:
    own = decode(model, PROMPTS[0], Proposal(0, 0))
    kept = decode(model, PROMPTS[0], Proposal(5, 1, reasoning_ids=own.reasoning_ids))
    assert kept.reasoning == own.reasoning
    assert kept.text_states.shape == (0, model.facts.hidden_size)


def test_an_empty_reasoning_draws_from_the_prompt_alone(model: Janus) -> None:
    rollout = decode(model, PROMPTS[0], Proposal(0, 0, reasoning_ids=torch.zeros(0, dtype=torch.long)))
    assert rollout.reasoning == ""


def test_a_reasoning_that_does_not_end_is_cut(model: Janus) -> None:
    short = Sampling(3.0, 1.0, 1.0, max_reasoning_tokens=2)
    assert len(decode(model, PROMPTS[0], Proposal(0, 0), short).reasoning_ids) <= 2


@pytest.mark.parametrize(
    ("ratio", "tokens", "expected"),
    [(0.2, 60, 12), (0.02, 576, 11), (0.001, 576, 1), (0.0, 576, 0), (1.0, 7, 7), (0.5, 0, 0)],
)
def test_prefix_lengths(ratio: float, tokens: int, expected: int) -> None:
    assert prefix_length(ratio, tokens) == expected

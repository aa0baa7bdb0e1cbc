"""MILR proposes what its order allows, learns along the policy gradient, and can be put to sleep and woken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from milr.decoding import Engine, Request, Rollout, Sampling
from milr.errors import UnknownNameError, UsageError
from milr.methods.best_of_n import BestOfN
from milr.methods.controls import random_direction, resample
from milr.methods.milr import Milr, active_streams
from milr.models import load_model
from milr.models.janus import Janus
from milr.noise import NoiseSource
from milr.policy import policy_of
from milr.presets import PAPER
from milr.prompts import Prompt
from tests.tiny import tiny_janus_folder

PROMPT = Prompt("a red apple left of a dog")
NOISE = NoiseSource.of(0, PROMPT.id)
SAMPLING = Sampling(guidance=3.0, temperature=1.0, reasoning_temperature=1.0, max_reasoning_tokens=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Janus:
    return load_model(str(tiny_janus_folder(tmp_path_factory.mktemp("janus"))), device="cpu")  # type: ignore[return-value]


def make(model: Janus, make_method: Any = Milr, steps: int = 4, samples: int = 3, **options: Any) -> Any:
    return make_method(policy=policy_of(model, SAMPLING), steps=steps, samples=samples, noise=NOISE, **options)


def decode(model: Janus, method: Any) -> list[Rollout]:
    return Engine(model).decode([Request(PROMPT, NOISE, proposal) for proposal in method.ask()], SAMPLING, 4)


def advance(model: Janus, method: Any, rewards: list[float | None]) -> list[Rollout]:
    rollouts = decode(model, method)
    method.tell(rollouts, rewards)
    return rollouts


def tokens(rollouts: list[Rollout]) -> list[list[int]]:
    return [rollout.image_tokens.tolist() for rollout in rollouts]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("joint", ["ti"] * 6),
        ("alternate", ["ti", "t", "i", "t", "i", "t"]),
        ("text-then-image", ["ti", "t", "t", "t", "i", "i"]),
        ("image-then-text", ["ti", "i", "i", "i", "t", "t"]),
        ("text", ["t"] * 6),
        ("image", ["i"] * 6),
    ],
)
def test_each_order_moves_its_streams(order: Any, expected: list[str]) -> None:
    turns = [active_streams(order, step, steps=5) for step in range(6)]
    assert ["".join(name[0] for name in ("text", "image") if name in turn) for turn in turns] == expected


@pytest.mark.parametrize("order", ["joint", "alternate", "text-then-image", "image-then-text", "text", "image"])
@pytest.mark.parametrize("perturb", ["token", "gaussian"])
@pytest.mark.parametrize("prefix", ["shift", "replace"])
def test_only_the_latents_of_the_order_move(model: Janus, order: Any, perturb: Any, prefix: Any) -> None:
    method = make(model, order=order, perturb=perturb, prefix=prefix, lr=0.1)
    advance(model, method, [0.0, 1.0, 0.5])
    for step in range(1, 5):
        before = {name: latents.detach().clone() for name, latents in method.latents.items()}
        advance(model, method, [0.0, 1.0, 0.5])
        moved = {name for name, latents in method.latents.items() if not torch.equal(latents, before[name])}
        assert moved == active_streams(order, step, 4)


def test_step_zero_is_the_model_as_it_is_for_every_method(model: Janus) -> None:
    pictures = [tokens(decode(model, make(model, method))) for method in (Milr, BestOfN, resample, random_direction)]
    assert all(picture == pictures[0] for picture in pictures)


def test_the_reasoning_stays_when_only_the_picture_is_searched(model: Janus) -> None:
    method = make(model, order="image")
    first = advance(model, method, [0.0, 1.0, 0.5])
    second = decode(model, method)
    assert {rollout.reasoning for rollout in second} == {first[1].reasoning}  # of the best of step 0


def test_a_zero_shift_draws_what_best_of_n_draws(model: Janus) -> None:
    frozen, fresh = make(model, lr=0.0), make(model, BestOfN)
    for method in (frozen, fresh):
        advance(model, method, [0.0, 1.0, 0.5])
    assert tokens(decode(model, frozen)) == tokens(decode(model, fresh))


def test_resample_draws_its_prefix_from_the_latents_of_the_best_first_rollout(model: Janus) -> None:
    method = make(model, resample)
    first = advance(model, method, [0.0, 1.0, 0.5])
    for _ in range(2):
        for rollout in advance(model, method, [1.0, 0.0, 0.5]):
            torch.testing.assert_close(rollout.image_states, first[1].image_states)


def test_tell_steps_along_the_policy_gradient_of_the_tokens_taken(model: Janus) -> None:
    method = make(model, lr=0.5, scale=False, clip=0.0)
    rewards = [0.0, 1.0, 0.5]
    rollouts = decode(model, method)
    method.tell(rollouts, rewards)
    advantage = [-0.75, 0.75, 0.0]
    expected = torch.zeros_like(method.latents["image"])
    for rollout, gain in zip(rollouts, advantage, strict=True):
        states = rollout.image_states.clone().requires_grad_()
        log_probs = method.policy.image_logits(states).log_softmax(-1)
        log_probs.gather(-1, rollout.image_tokens[: len(states), None]).sum().backward()
        expected -= gain * states.grad / 3
    torch.testing.assert_close(method.latents["image"].grad, expected, atol=1e-5, rtol=1e-4)
    # Adam's first step is lr x the sign of the gradient.
    clear = expected.abs() > 1e-4
    torch.testing.assert_close(
        method.latents["image"].detach()[clear], -0.5 * expected.sign()[clear], atol=1e-2, rtol=0
    )


def test_learning_makes_a_rewarded_first_image_token_likely(model: Janus) -> None:
    method = make(model, order="image", steps=60, samples=8, lr=0.3)
    wanted = int(decode(model, method)[0].image_tokens[0])
    shares = []
    for _ in range(60):
        rollouts = decode(model, method)
        hits = [float(rollout.image_tokens[0] == wanted) for rollout in rollouts]
        method.tell(rollouts, hits)
        shares.append(sum(hits) / 8)
    assert sum(shares[-10:]) / 10 > 0.9 > sum(shares[:5]) / 5


def test_a_failed_sample_is_left_out_of_the_update(model: Janus) -> None:
    method = make(model)
    rollouts = decode(model, method)
    facts = method.tell(rollouts, [None, 1.0, 0.5])
    assert facts["grad_norm"] > 0
    assert len(method.rewards) == 2


def test_a_step_in_which_every_sample_failed_changes_nothing(model: Janus) -> None:
    method = make(model)
    advance(model, method, [0.0, 1.0, 0.5])
    before = method.latents["image"].detach().clone()
    advance(model, method, [None, None, None])
    assert torch.equal(method.latents["image"], before)


def test_kl_pulls_the_latents_back_to_their_start(model: Janus) -> None:
    distances = []
    for kl in (0.0, 50.0):
        method = make(model, kl=kl, lr=0.1, steps=8)
        for _ in range(8):
            rollouts = decode(model, method)
            method.tell(rollouts, [float(rollout.image_tokens[0]) for rollout in rollouts])
        distances.append(float((method.latents["image"].detach() - method.start["image"]).norm()))
    assert distances[1] < distances[0]


def test_random_direction_steps_as_far_as_milr_but_elsewhere(model: Janus) -> None:
    learned, random = make(model, clip=0.0), make(model, random_direction)
    for method in (learned, random):
        advance(model, method, [0.0, 1.0, 0.5])
    ours, theirs = learned.latents["image"].grad, random.latents["image"].grad
    assert float(theirs.norm()) == pytest.approx(min(1.0, float(theirs.norm())), rel=1e-3)
    assert abs(float(torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0))) < 0.5


@pytest.mark.parametrize("options", [{}, {"perturb": "gaussian"}, {"prefix": "replace"}, {"order": "alternate"}])
def test_a_restored_method_goes_on_exactly(model: Janus, options: dict[str, Any]) -> None:
    rewards = [0.2, 1.0, 0.5]
    straight = make(model, **options)
    interrupted = make(model, **options)
    for _ in range(2):
        advance(model, straight, rewards)
        advance(model, interrupted, rewards)
    woken = make(model, **options)
    saved = interrupted.state()
    advance(model, interrupted, rewards)  # what the interrupted one goes on to do must not reach the snapshot
    woken.restore(saved, step=2)
    for _ in range(2):
        assert tokens(advance(model, straight, rewards)) == tokens(advance(model, woken, rewards))


def test_the_published_recipe_pushes_down_what_the_model_wanted(model: Janus) -> None:
    options = {
        key.removeprefix("method.milr."): value for key, value in PAPER.items() if key.startswith("method.milr.")
    }
    options |= {"image_ratio": 0.25}
    method = make(model, samples=1, **options)
    first = advance(model, method, [0.0])
    states = first[0].image_states
    torch.testing.assert_close(method.latents["image"].detach(), states)
    favourite = method.policy.image_logits(states).argmax(dim=-1)
    before = method.policy.image_logits(states).log_softmax(-1).gather(-1, favourite[:, None]).sum()
    advance(model, method, [0.0])  # a reward of 0 is -1 after the shift
    after = method.policy.image_logits(method.latents["image"]).log_softmax(-1).gather(-1, favourite[:, None]).sum()
    assert float(after.detach()) < float(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "jiont"}, "Did you mean 'joint'"),
        ({"perturb": "tokens"}, "Did you mean 'token'"),
        ({"text_ratio": 1.5}, "from 0 to 1"),
        ({"lr": -1.0}, "must not be negative"),
        ({"lr": float("nan")}, "must not be negative"),
        ({"sigma": 0.0}, "above 0"),
    ],
)
def test_bad_options_are_refused(model: Janus, options: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownNameError, UsageError), match=message):
        make(model, **options)

"""REINFORCE against closed forms: gradients, unbiasedness, baselines."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from milr.decoding.tokens import log_prob
from milr.policy import Policy, gaussian_log_density
from milr.reinforce import advantages, clipped_step, divergence, policy_gradient_loss

HIDDEN, VOCABULARY = 5, 7


def tiny_head(seed: int = 0) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(HIDDEN, VOCABULARY, dtype=torch.float64).requires_grad_(False)


def test_the_gradient_with_respect_to_a_text_latent_is_the_analytic_policy_gradient() -> None:
    head = tiny_head()
    policy = Policy(head, head, reasoning_temperature=1.5)
    latent = torch.randn(3, HIDDEN, dtype=torch.float64, requires_grad=True)
    tokens, advantage = torch.tensor([1, 4, 6]), torch.tensor([0.7], dtype=torch.float64)
    logits = policy.text_logits(latent)
    policy_gradient_loss(log_prob(logits, tokens).sum()[None], advantage).backward()
    # d log p(t) / dz = W^T (onehot(t) - p) / temperature
    residual = torch.nn.functional.one_hot(tokens, VOCABULARY) - torch.softmax(logits, dim=-1)
    torch.testing.assert_close(latent.grad, -0.7 * residual @ head.weight / 1.5, atol=1e-12, rtol=0)


def test_guidance_scales_the_image_gradient_by_g_and_one_minus_g() -> None:
    head = tiny_head()
    policy = Policy(head, head, guidance=3.0, temperature=1.5)
    latent = torch.randn(2, 2, HIDDEN, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([0, 5])
    logits = policy.image_logits(latent)
    policy_gradient_loss(log_prob(logits, tokens).sum()[None], torch.ones(1)).backward()
    residual = torch.nn.functional.one_hot(tokens, VOCABULARY) - torch.softmax(logits, dim=-1)
    conditional = -3.0 * residual @ head.weight / 1.5
    torch.testing.assert_close(latent.grad[:, 0], conditional, atol=1e-12, rtol=0)
    torch.testing.assert_close(latent.grad[:, 1], conditional * (1 - 3.0) / 3.0, atol=1e-12, rtol=0)


def test_the_gaussian_policy_gradient_is_analytic() -> None:
    mean = torch.randn(4, HIDDEN, dtype=torch.float64, requires_grad=True)
    action = mean.detach() + 0.3 * torch.randn(4, HIDDEN, dtype=torch.float64)
    policy_gradient_loss(gaussian_log_density(action, mean, 0.3).sum()[None], torch.tensor([2.0])).backward()
    torch.testing.assert_close(mean.grad, -2.0 * (action - mean.detach()) / 0.3**2, atol=1e-12, rtol=0)


DRAWS = 20_000


def gradient_estimates(action: str, baseline: bool) -> tuple[Tensor, Tensor]:
    """20,000 single-step estimates [draws, H] of the ascent direction with a known reward, and the exact one [H]."""
    head = tiny_head(1)
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(HIDDEN, dtype=torch.float64, generator=generator)
    reward = torch.linspace(-1, 2, VOCABULARY, dtype=torch.float64).flip(0) ** 2  # of each token
    probabilities = torch.softmax(head(latent), dim=-1)
    scores = torch.eye(VOCABULARY, dtype=torch.float64) - probabilities  # d log p(t) / d logits
    exact = (probabilities * reward) @ scores @ head.weight
    samples = 4
    tokens = torch.multinomial(probabilities, DRAWS * samples, True, generator=generator).view(DRAWS, samples)
    graded = tokens if action == "sampled" else torch.full_like(tokens, int(probabilities.argmax()))
    gain = torch.stack([advantages(row, baseline=baseline, scale=False) for row in reward[tokens]])
    # One backward pass for all draws: each has a copy of the latent to itself.
    copies = latent.expand(DRAWS, HIDDEN).clone().requires_grad_()
    log_probs = log_prob(head(copies)[:, None].expand(-1, samples, -1), graded)
    (policy_gradient_loss(log_probs, gain) * DRAWS).backward()
    return -copies.grad, exact


@pytest.mark.parametrize("baseline", [True, False])
def test_the_estimator_is_unbiased_for_sampled_actions(baseline: bool) -> None:
    estimates, exact = gradient_estimates("sampled", baseline)
    error = estimates.std(dim=0) / math.sqrt(DRAWS)
    assert ((estimates.mean(dim=0) - exact).abs() < 3 * error).all()


def test_the_papers_argmax_variant_is_biased() -> None:
    estimates, exact = gradient_estimates("argmax", baseline=False)
    error = estimates.std(dim=0) / math.sqrt(DRAWS)
    assert ((estimates.mean(dim=0) - exact).abs() > 30 * error).any()
    cosine = torch.cosine_similarity(estimates.mean(dim=0), exact, dim=0)
    assert cosine < 0.5  # it does not even point the right way


def test_leave_one_out_lowers_the_variance() -> None:
    with_baseline, _ = gradient_estimates("sampled", True)
    without, _ = gradient_estimates("sampled", False)
    assert with_baseline.var(dim=0).sum() < without.var(dim=0).sum()


def test_advantages_are_rewards_minus_the_mean_of_the_others() -> None:
    expected = torch.tensor([1 - 3.0, 2 - 2.5, 4 - 1.5])
    torch.testing.assert_close(advantages(torch.tensor([1.0, 2.0, 4.0]), scale=False), expected)


def test_one_sample_is_compared_with_the_rewards_before_it() -> None:
    assert advantages(torch.tensor([3.0]), [1.0, 2.0], scale=False).tolist() == [1.5]
    assert advantages(torch.tensor([3.0]), [], scale=False).tolist() == [0.0]


def test_equal_rewards_teach_nothing() -> None:
    assert advantages(torch.tensor([0.4, 0.4, 0.4])).tolist() == [0.0, 0.0, 0.0]


def test_scaled_advantages_do_not_depend_on_the_critics_unit() -> None:
    rewards = torch.tensor([0.1, 0.5, 0.2])
    torch.testing.assert_close(advantages(rewards), advantages(rewards * 100))


def test_divergence_is_the_kl_of_the_start_from_now() -> None:
    start, now = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[math.log(3.0), 0.0]]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert float(divergence(start, now)) == pytest.approx(expected, abs=1e-6)
    assert float(divergence(now, now)) == pytest.approx(0.0, abs=1e-7)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    latent = torch.zeros(2, requires_grad=True)
    latent.grad = torch.tensor([float("nan"), 1.0])
    clipped_step(torch.optim.SGD([latent], lr=1.0), [latent], 1.0)
    assert latent.tolist() == [0.0, 0.0]


def test_the_gradient_is_clipped_and_its_full_norm_reported() -> None:
    latent = torch.zeros(2, requires_grad=True)
    latent.grad = torch.tensor([3.0, 4.0])
    assert clipped_step(torch.optim.SGD([latent], lr=1.0), [latent], 1.0) == pytest.approx(5.0)
    torch.testing.assert_close(latent.detach(), torch.tensor([-0.6, -0.8]))

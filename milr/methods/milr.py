"""MILR: REINFORCE on the latents behind the first reasoning and image tokens (arXiv 2509.22761).

Step 0 draws from the model as it is. From then on each step samples the prefix tokens from the latents, decodes the
rest, and moves the latents along advantage x grad log p of the tokens that were taken. Which latents a step may touch
is its order's choice: joint, alternate, text-then-image, image-then-text, text, image.

Accepted differences from the published code, each of which a switch undoes (`--preset paper` sets them all): the
log-probability is that of the sampled token, not of the most likely one; rewards have a baseline; several samples
share a step; the latents shift the model's fresh states where the published ones replace them and go stale; the best
picture is returned, not the last. With `--order image` the reasoning of step 0 is kept; the published code drops it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from milr.decoding import Proposal, Rollout
from milr.decoding.tokens import log_prob
from milr.errors import UnknownNameError, UsageError
from milr.latents import Mode, Prefix, prefix_length
from milr.methods.base import Method, State
from milr.noise import NoiseSource, Stream
from milr.policy import Policy, gaussian_log_density
from milr.reinforce import advantages, clipped_step, divergence, policy_gradient_loss

Order = Literal["joint", "alternate", "text-then-image", "image-then-text", "text", "image"]
Perturb = Literal["token", "gaussian"]
Action = Literal["sampled", "argmax"]
Gradient = Literal["reinforce", "random"]
StreamName = Literal["text", "image"]
STREAMS: tuple[StreamName, StreamName] = ("text", "image")

_LATENT_NOISE = {"text": Stream.TEXT_LATENT, "image": Stream.IMAGE_LATENT}
_NO_SAMPLE = 2**31  # the sample index of noise that belongs to a whole step


def active_streams(order: Order, step: int, steps: int) -> frozenset[StreamName]:
    """Which latents a step may touch; a two-phase order splits steps 1..`steps` in halves (Algorithm 2).

    Step 0, which draws from the model as it is, teaches all latents that the order ever moves.
    """
    if order == "joint" or (step == 0 and order not in STREAMS):
        return frozenset(STREAMS)
    first_half = step <= (steps + 1) // 2
    text_turn = {
        "text": True,
        "image": False,
        "alternate": step % 2 == 1,
        "text-then-image": first_half,
        "image-then-text": not first_half,
    }
    return frozenset({"text"}) if text_turn[order] else frozenset({"image"})


class Milr(Method):
    """Learns latents by policy gradient.

    Args:
        order: which latents each step moves.
        perturb: "token" samples tokens from the latents; "gaussian" samples latents from N(z, sigma^2), the action
            then being the latent itself, which also works for backends without token heads.
        prefix: "shift" adds the latents to the model's fresh states; "replace" lets them stand in, as published.
        lr: of Adam, in units of the latents; 0 only re-samples. 0.01 did best of 0.01, 0.03 and 0.1 on an earlier
            `mini` with a seed that no table reports (within noise).
        text_ratio, image_ratio: shares of the tokens whose latents move; the model's own where not given.
        sigma: of the gaussian perturbation, in units of the latents.
        baseline: compare rewards with the other samples (or, for one, with earlier ones).
        scale: measure rewards in their own standard deviation.
        offset: added to each reward; the published code shifts rewards to <= 0.
        action: whose log-probability is used: the token that was "sampled", or, as published, the "argmax".
        kl: weight of KL(start || now).
        clip: greatest norm of the gradient; 0 for none.
        gradient: "random" replaces each gradient by a random direction of the same length: a control.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        steps: int,
        samples: int,
        noise: NoiseSource,
        order: Order = "joint",
        perturb: Perturb = "token",
        prefix: Mode = "shift",
        lr: float = 0.01,
        text_ratio: float | None = None,
        image_ratio: float | None = None,
        sigma: float = 0.1,
        baseline: bool = True,
        scale: bool = True,
        offset: float = 0.0,
        action: Action = "sampled",
        kl: float = 0.0,
        clip: float = 1.0,
        gradient: Gradient = "reinforce",
    ) -> None:
        super().__init__(policy=policy, steps=steps, samples=samples, noise=noise)
        _check_choice("order", order, get_args(Order))
        _check_choice("perturb", perturb, get_args(Perturb))
        _check_choice("prefix", prefix, get_args(Mode))
        _check_choice("action", action, get_args(Action))
        _check_choice("gradient", gradient, get_args(Gradient))
        self.text_ratio = policy.text_ratio if text_ratio is None else text_ratio
        self.image_ratio = policy.image_ratio if image_ratio is None else image_ratio
        for name, value in [("text_ratio", self.text_ratio), ("image_ratio", self.image_ratio)]:
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}; it is a share, from 0 to 1.")
        for name, value in [("lr", lr), ("kl", kl), ("clip", clip)]:
            if not value >= 0:
                raise UsageError(f"{name} is {value}; it must not be negative.")
        if not sigma > 0:
            raise UsageError(f"sigma is {sigma}; it must be above 0.")
        self.order, self.perturb, self.prefix, self.lr, self.sigma = order, perturb, prefix, lr, sigma
        self.baseline, self.scale, self.offset, self.action = baseline, scale, offset, action
        self.kl, self.clip, self.gradient = kl, clip, gradient
        self.rewards: list[float] = []
        self.reasoning_ids = torch.zeros(0, dtype=torch.long)  # of the best rollout that last wrote one
        self.latents: dict[StreamName, Tensor] = {}  # what Adam moves; zeros for "shift"
        self.start: dict[StreamName, Tensor] = {}  # where it began

    # Ask

    def ask(self) -> list[Proposal]:
        if not self.latents:
            return [Proposal(self.step, sample) for sample in range(self.samples)]
        active = active_streams(self.order, self.step, self.steps)
        return [
            Proposal(
                step=self.step,
                sample=sample,
                reasoning_ids=None if "text" in active else self.reasoning_ids,
                text=self._prefix("text", sample, active) if "text" in active else None,
                image=None if self.order == "text" else self._prefix("image", sample, active),
            )
            for sample in range(self.samples)
        ]

    def _prefix(self, stream: StreamName, sample: int, active: frozenset[StreamName]) -> Prefix | None:
        values = self.latents[stream].detach()
        if not len(values):
            return None
        if self.perturb == "gaussian" and stream in active:
            noise = self.noise.normal(tuple(values.shape), self.step, sample, _LATENT_NOISE[stream], values.device)
            values = values + self.sigma * noise
        return Prefix(values, self.prefix)

    # Tell

    def tell(self, rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> dict[str, float]:
        pairs = zip(rollouts, rewards, strict=True)
        scored = [(rollout, reward + self.offset) for rollout, reward in pairs if reward is not None]
        facts: dict[str, float] = {}
        if scored:
            best = max(scored, key=lambda pair: pair[1])[0]
            if best.proposal.reasoning_ids is None:
                self.reasoning_ids = best.reasoning_ids
            first = not self.latents
            if first:
                self._begin(best)
            # Plain rollouts are samples of a zero shift, but not of latents that replace the model's states.
            if not first or (self.prefix == "shift" and self.perturb == "token"):
                facts = self._learn(scored)
            self.rewards += [reward for _, reward in scored]
        self.step += 1
        return facts

    def _begin(self, rollout: Rollout) -> None:
        """Latents of the best rollout of step 0."""
        text = rollout.text_states[: prefix_length(self.text_ratio, len(rollout.reasoning_ids))]
        image = rollout.image_states[: prefix_length(self.image_ratio, len(rollout.image_tokens))]
        for stream, states in zip(STREAMS, (text, image), strict=True):
            values = torch.zeros_like(states) if self.prefix == "shift" else states
            self.start[stream] = values.detach().clone()
            self.latents[stream] = values.detach().clone().requires_grad_()
        self._adam = torch.optim.Adam([self.latents["text"], self.latents["image"]], lr=self.lr)

    def _learn(self, scored: Sequence[tuple[Rollout, float]]) -> dict[str, float]:
        """One policy gradient step on the streams that this step sampled."""
        active = active_streams(self.order, self.step, self.steps)
        rollouts = [rollout for rollout, _ in scored]
        rewards = torch.tensor([reward for _, reward in scored])
        advantage = advantages(rewards, self.rewards, self.baseline, self.scale).to(rollouts[0].image_states.device)
        total_log_prob = torch.zeros_like(advantage)  # [K]
        total_divergence = torch.zeros_like(advantage[0])
        for stream in STREAMS:
            if stream in active and len(self.latents[stream]):
                log_probs, kl = self._terms(stream, rollouts)
                total_log_prob = total_log_prob + log_probs
                total_divergence = total_divergence + kl
        loss = policy_gradient_loss(total_log_prob, advantage) + self.kl * total_divergence
        self._adam.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()
        if self.gradient == "random":
            self._randomise_gradients()
        norm = clipped_step(self._adam, list(self.latents.values()), self.clip)
        return {
            "loss": float(loss.detach()),
            "grad_norm": norm,
            "log_prob": float(total_log_prob.detach().mean()),
            "kl": float(total_divergence.detach()),
        }

    def _terms(self, stream: StreamName, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
        """Log-probability [K] of what each rollout did with the latents of a stream, and their divergence []."""
        latents, start = self.latents[stream], self.start[stream]
        if self.perturb == "gaussian":
            prefixes = [rollout.proposal.text if stream == "text" else rollout.proposal.image for rollout in rollouts]
            actions = torch.stack([prefix.values for prefix in prefixes if prefix is not None])  # [K, L, ...]
            log_density = gaussian_log_density(actions, latents, self.sigma).flatten(1).sum(dim=1)
            return log_density, ((latents - start) ** 2).sum() / (2 * self.sigma**2)
        moved = latents - latents.detach()  # zero, with the gradient of the latents
        offset = (latents - start).detach()
        states, tokens = zip(*(_stream(rollout, stream, len(latents)) for rollout in rollouts), strict=True)
        lengths = [len(row) for row in tokens]
        shifts = torch.cat([moved[:length] for length in lengths])
        offsets = torch.cat([offset[:length] for length in lengths])
        before = torch.cat(states)  # [sum of lengths, ...], what the heads read
        logits_of = self.policy.text_logits if stream == "text" else self.policy.image_logits
        logits = logits_of(before + shifts)
        taken = torch.cat(tokens) if self.action == "sampled" else logits.argmax(dim=-1)
        log_probs = torch.stack([row.sum() for row in log_prob(logits, taken).split(lengths)])
        if not self.kl:
            return log_probs, log_probs.new_zeros(())
        with torch.no_grad():
            start_logits = logits_of(before - offsets)
        return log_probs, divergence(start_logits[None], logits[None]) / len(rollouts)

    def _randomise_gradients(self) -> None:
        """Replaces each latent's gradient by a random direction of the same length."""
        for name in STREAMS:
            gradient = self.latents[name].grad
            if gradient is not None:
                noise = self.noise.normal(
                    tuple(gradient.shape), self.step, _NO_SAMPLE, _LATENT_NOISE[name], gradient.device
                )
                gradient.copy_(noise * gradient.norm() / noise.norm())

    # State

    def state(self) -> State:
        if not self.latents:
            return {}
        saved = {"rewards": torch.tensor(self.rewards, dtype=torch.float64), "reasoning_ids": self.reasoning_ids}
        for name in STREAMS:
            saved[f"latents.{name}"] = self.latents[name].detach()
            saved[f"start.{name}"] = self.start[name]
            for key, value in self._adam.state.get(self.latents[name], {}).items():
                saved[f"adam.{name}.{key}"] = value
        return {key: value.clone() for key, value in saved.items()}  # a snapshot: Adam moves its tensors in place

    def restore(self, state: State, step: int) -> None:
        self.step = step
        if not state:
            return
        self.rewards = state["rewards"].tolist()
        self.reasoning_ids = state["reasoning_ids"]
        for name in STREAMS:
            self.latents[name] = state[f"latents.{name}"].requires_grad_()
            self.start[name] = state[f"start.{name}"]
        self._adam = torch.optim.Adam([self.latents["text"], self.latents["image"]], lr=self.lr)
        for name in STREAMS:
            keys = [key for key in state if key.startswith(f"adam.{name}.")]
            if keys:
                self._adam.state[self.latents[name]] = {key.rpartition(".")[2]: state[key] for key in keys}
                self._adam.state[self.latents[name]]["step"] = state[f"adam.{name}.step"].cpu()  # where Adam keeps it


def _stream(rollout: Rollout, stream: StreamName, length: int) -> tuple[Tensor, Tensor]:
    """States and tokens of a rollout's first positions, at most `length` of them."""
    if stream == "text":
        return rollout.text_states[:length], rollout.reasoning_ids[:length]
    return rollout.image_states[:length], rollout.image_tokens[:length]


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(name, str(value), known)

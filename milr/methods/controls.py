"""Controls: MILR with one thing taken away, so that a gain can be told from its machinery."""

from __future__ import annotations

from typing import Any

from milr.latents import Mode
from milr.methods.milr import Action, Milr, Order, Perturb
from milr.noise import NoiseSource
from milr.policy import Policy


def resample(
    *,
    policy: Policy,
    steps: int,
    samples: int,
    noise: NoiseSource,
    order: Order = "joint",
    perturb: Perturb = "token",
    prefix: Mode = "replace",
    text_ratio: float | None = None,
    image_ratio: float | None = None,
    sigma: float = 0.1,
) -> Milr:
    """The latents of the best rollout of step 0 stay in place, as published, and the rest is drawn again.

    Learning rate zero: with `prefix=shift` this would be best-of-n, tokens for tokens.
    """
    given: dict[str, Any] = {"policy": policy, "steps": steps, "samples": samples, "noise": noise}
    latents: dict[str, Any] = {"text_ratio": text_ratio, "image_ratio": image_ratio, "sigma": sigma}
    return Milr(**given, **latents, order=order, perturb=perturb, prefix=prefix, lr=0.0)


def random_direction(
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
) -> Milr:
    """Steps of the length that MILR takes, in random directions: what moving at all is worth.

    Baseline, scale, offset, action, kl and clip decide when and how far it steps, as they do for MILR.
    """
    return Milr(
        policy=policy,
        steps=steps,
        samples=samples,
        noise=noise,
        order=order,
        perturb=perturb,
        prefix=prefix,
        lr=lr,
        text_ratio=text_ratio,
        image_ratio=image_ratio,
        sigma=sigma,
        baseline=baseline,
        scale=scale,
        offset=offset,
        action=action,
        kl=kl,
        clip=clip,
        gradient="random",
    )

"""Controls: MILR with one thing taken away, so that a gain can be told from its machinery."""

from __future__ import annotations

from typing import Any

from milr.latents import Mode
from milr.methods.milr import Action, Milr, Order
from milr.noise import NoiseSource
from milr.policy import Policy


def resample(
    *,
    policy: Policy,
    steps: int,
    samples: int,
    noise: NoiseSource,
    order: Order = "joint",
    prefix: Mode = "replace",
    text_ratio: float | None = None,
    image_ratio: float | None = None,
) -> Milr:
    """The same latents throughout, fresh noise: learning rate zero.

    With `prefix=shift` this would be best-of-n; the default holds the latents of the best rollout of step 0.
    """
    given: dict[str, Any] = {"policy": policy, "steps": steps, "samples": samples, "noise": noise}
    return Milr(**given, order=order, prefix=prefix, text_ratio=text_ratio, image_ratio=image_ratio, lr=0.0)


def random_direction(
    *,
    policy: Policy,
    steps: int,
    samples: int,
    noise: NoiseSource,
    order: Order = "joint",
    prefix: Mode = "shift",
    lr: float = 0.01,
    text_ratio: float | None = None,
    image_ratio: float | None = None,
    baseline: bool = True,
    scale: bool = True,
    offset: float = 0.0,
    action: Action = "sampled",
    clip: float = 1.0,
) -> Milr:
    """Steps of the length that MILR takes, in random directions: what moving at all is worth.

    Baseline, scale, offset, action and clip decide when and how far it steps, as they do for MILR.
    """
    return Milr(
        policy=policy,
        steps=steps,
        samples=samples,
        noise=noise,
        order=order,
        prefix=prefix,
        lr=lr,
        text_ratio=text_ratio,
        image_ratio=image_ratio,
        baseline=baseline,
        scale=scale,
        offset=offset,
        action=action,
        clip=clip,
        gradient="random",
    )

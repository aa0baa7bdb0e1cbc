"""What each critic makes of a search: of the same pictures of a prompt it chooses the one it likes best.

Best-of-n is where critics differ most: a critic's blind spots are found by looking at many pictures. All critics choose
among the same pictures, so they are compared pair by pair; who reports is a judge that none of them has to do with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milr.decoding import Engine, Proposal, Request
from milr.models.base import UnifiedModel
from milr.noise import NoiseSource
from milr.prompts import Prompt
from milr.rewards import Reward, score_safely
from milr.search import default_sampling

from .figures import BOOTSTRAPS, Values

Correct = NDArray[np.bool_]

FIRST = "none: the first picture"
ANY = "the judge itself (oracle)"


def draw_pictures(model: UnifiedModel, prompts: Sequence[Prompt], count: int, seed: int) -> list[list[Image.Image]]:
    """`count` pictures of each prompt, as the model draws them when nobody searches."""
    engine = Engine.of(model)
    requests = [
        Request(prompt, NoiseSource.of(seed, prompt.id), Proposal(0, sample))
        for prompt in prompts
        for sample in range(count)
    ]
    images = [rollout.image for rollout in engine.decode(requests, default_sampling(model))]
    return [images[start : start + count] for start in range(0, len(images), count)]


def score_pictures(reward: Reward, prompts: Sequence[Prompt], pictures: Sequence[Sequence[Image.Image]]) -> Values:
    """[prompts, pictures] of what a critic says; least where it fails."""
    images = [image for row in pictures for image in row]
    wanted = [prompt for prompt, row in zip(prompts, pictures, strict=True) for _ in row]
    scores = score_safely(reward, images, wanted)
    values = np.array([-np.inf if score.value is None else score.value for score in scores])
    return values.reshape(len(prompts), -1)


def choices(values: Mapping[str, Values], correct: Correct) -> dict[str, dict[str, Any]]:
    """Per critic, the share of prompts whose chosen picture the judge calls right, and what it is worth.

    Args:
        values: [seeds, prompts, pictures] by critic.
        correct: [seeds, prompts, pictures] the judge's verdicts.

    `right` and `gain` over the first picture come with 95 % bootstrap intervals over prompts.
    """
    chosen: dict[str, Correct] = {FIRST: correct[..., 0]}  # [seeds, prompts] each
    chosen |= {
        name: np.take_along_axis(correct, value.argmax(-1)[..., None], -1)[..., 0] for name, value in values.items()
    }
    chosen[ANY] = correct.max(-1)
    prompts = correct.shape[1]
    draws = np.random.default_rng(0).integers(prompts, size=(BOOTSTRAPS, prompts))
    table: dict[str, dict[str, Any]] = {}
    for name, right in chosen.items():
        share, first = right.mean(0), chosen[FIRST].mean(0)  # [prompts]
        table[name] = {"right": _interval(share, draws), "gain": _interval(share - first, draws)}
    return table


def _interval(shares: Values, draws: NDArray[np.int64]) -> list[float]:
    low, high = np.quantile(shares[draws].mean(1), [0.025, 0.975])
    return [round(float(value), 4) for value in (shares.mean(), low, high)]

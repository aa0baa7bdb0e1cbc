"""One prompt, one call: the search of `milr.search` without its events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from milr import search
from milr.decoding import Sampling
from milr.errors import RunError, UsageError
from milr.events import Failed, Finished, Step, Stepped
from milr.models.base import UnifiedModel
from milr.prompts import Prompt, as_prompt
from milr.rewards import Reward, load_reward


@dataclass(frozen=True)
class Result:
    """The best picture of a search and how it was found.

    Attributes:
        initial_reward: of the model's own first picture; None when its critic failed on it.
        history: every step, step 0 first.
        images_decoded: whole pictures that the search cost.
    """

    image: Image.Image
    reasoning: str
    reward: float
    initial_reward: float | None
    history: list[Step]
    images_decoded: float


def refine(
    model: UnifiedModel,
    prompt: str | Prompt,
    reward: str | list[str] | Reward | None = None,
    *,
    method: str = "milr",
    steps: int = 20,
    samples: int = 4,
    seed: int = 0,
    sampling: Sampling | None = None,
    target: float | None = None,
    budget: float | None = None,
    method_options: Mapping[str, Any] | None = None,
) -> Result:
    """Searches the latents of one prompt and returns the best picture seen.

    Args:
        reward: a critic, its name as on the command line, a list of weighted names, or nothing for the model's own
            default critic. The other arguments are those of `milr.search.refine`.

    Raises:
        UsageError: something asked for does not exist or does not fit; nothing was computed.
        RunError: the critic could score none of the pictures.
    """
    if reward is None:
        if model.facts.default_reward is None:
            raise UsageError(f"model {model.facts.name!r} has no default critic; name one, e.g. reward='clip'.")
        reward = model.facts.default_reward
    if not isinstance(reward, str | list | Reward):
        raise UsageError(f"reward is {reward!r}; give a critic, its name, or a list of names.")
    critic = reward if isinstance(reward, Reward) else load_reward(reward, model, device=str(model.device))
    history: list[Step] = []
    for event in search.refine(
        model,
        [as_prompt(prompt)],
        critic,
        method,
        steps=steps,
        samples=samples,
        seed=seed,
        sampling=sampling,
        target=target,
        budget=budget,
        method_options=method_options,
    ):
        if isinstance(event, Stepped):
            history.append(event.step)
        elif isinstance(event, Failed):
            raise RunError(f"no picture could be scored: {event.error}")
        elif isinstance(event, Finished):
            best = event.progress.best
            return Result(
                best.image,
                best.reasoning,
                best.reward if best.reward is not None else math.nan,
                event.progress.initial_reward,
                history,
                event.progress.images_decoded,
            )
    raise AssertionError("a search ends with Finished or Failed")

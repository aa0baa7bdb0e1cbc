"""One whole MILR step (ask, reason, draw, pixels, tell) by the real method and engine; and a whole search on a CPU.

The critic costs nothing: rewards are random numbers given to `tell`, so that what is timed is the step.
"""

from __future__ import annotations

import math
import random
import statistics
from functools import partial
from typing import Any

import torch

import milr
from milr.latents import prefix_length
from milr.methods.milr import Milr
from milr.models.janus import Janus
from milr.policy import policy_of
from milr.prompts import read_prompts
from milr.rewards import load_reward
from milr.search import default_sampling, refine

from ..scenes.benchmark import PROMPTS
from . import plain
from .engines import fresh_engine
from .subjects import fixed_sampling, never_stopping, requests, source
from .timing import peak_memory_gb, timed

_WARM_STEPS = 2  # step 0 draws from the model as it is, step 1 is the first with latents: each captures its own

SEARCH_STEPS, SEARCH_SAMPLES, SINGLE_DECODES = 20, 4, 80
OVERLAP_PROMPTS = 64


def time_steps(model: Janus, prompt: str, samples: int, repeats: int) -> dict[str, Any]:
    """The median step of `repeats`, in parts, with a reasoning of fixed length."""
    view, device, sampling = never_stopping(model), model.device, fixed_sampling(model)
    rewards = random.Random(0)
    method = Milr(policy=policy_of(view, sampling), steps=SEARCH_STEPS, samples=samples, noise=source())
    keep = prefix_length(method.image_ratio, model.facts.image_tokens)
    parts: list[dict[str, float]] = []
    with fresh_engine(view, rows=samples) as engine:
        for _ in range(_WARM_STEPS + repeats):
            asked, ask = timed(device, method.ask)
            rollouts, decode = timed(device, partial(engine.decode, requests(prompt, asked), sampling, keep))
            _, tell = timed(device, partial(method.tell, rollouts, [rewards.random() for _ in rollouts]))
            parts.append({"update_seconds": ask + tell, "decode_seconds": decode, "seconds": ask + decode + tell})
        peak = peak_memory_gb(device)
    _, pixels = timed(device, lambda: view.pixels(torch.stack([rollout.image_tokens for rollout in rollouts])))
    steady = sorted(parts[_WARM_STEPS:], key=lambda part: part["seconds"])
    median = steady[len(steady) // 2]
    return {
        "samples": samples,
        "reasoning_tokens": statistics.mean(len(rollout.reasoning_ids) for rollout in rollouts),
        **median,
        "pixel_seconds": pixels,
        "seconds_per_sample": median["seconds"] / samples,
        "first_step_seconds": parts[0]["seconds"],
        "repeats": repeats,
        "peak_memory_gb": peak,
    }


def time_search(model: Janus, prompt: str, single_decodes: int) -> dict[str, Any]:
    """A 20-step search with four samples, critic included, against 80 pictures decoded one by one by the plain loop.

    Args:
        single_decodes: how many of the 80 are timed; the rest is their mean.
    """
    sampling = default_sampling(model)
    plain.picture(model, prompt, sampling)
    singles = [plain.picture(model, prompt, sampling, sample)[1]["seconds"] for sample in range(single_decodes)]
    result, seconds = timed(
        model.device,
        lambda: milr.refine(model, prompt, steps=SEARCH_STEPS, samples=SEARCH_SAMPLES, target=math.nan),
    )
    rollouts = [rollout for step in result.history for rollout in step.rollouts]
    critic = load_reward(model.facts.default_reward or "", model, device=str(model.device))
    _, judging = timed(
        model.device,
        lambda: critic.score([rollout.image for rollout in rollouts], [rollout.prompt for rollout in rollouts]),
    )
    alone = statistics.mean(singles) * SINGLE_DECODES
    return {
        "steps": SEARCH_STEPS,
        "samples": SEARCH_SAMPLES,
        "pictures": result.images_decoded,
        "seconds": seconds,
        "critic_seconds": judging,  # of the same pictures, loading aside
        "plain_cached_decodes": SINGLE_DECODES,
        "plain_cached_decodes_timed": single_decodes,
        "plain_cached_seconds_each": statistics.mean(singles),
        "plain_cached_seconds": alone,
        "speed_up": alone / seconds,
    }


def time_overlap(model: Janus) -> dict[str, Any]:
    """Searches of many prompts with the model's own critic: scored after decoding, and beside it."""
    prompts = read_prompts(PROMPTS)[:OVERLAP_PROMPTS]
    critic = load_reward(model.facts.default_reward or "", model, device=str(model.device))

    def search(overlap: bool) -> None:
        events = refine(
            model, prompts, critic, "best-of-n", steps=2, samples=SEARCH_SAMPLES, target=math.nan, overlap=overlap
        )
        for _ in events:
            pass

    seconds = {}
    for overlap in (False, True):
        search(overlap)
        seconds[overlap] = timed(model.device, partial(search, overlap))[1]
    return {
        "prompts": len(prompts),
        "pictures": 3 * SEARCH_SAMPLES * len(prompts),
        "seconds": seconds[False],
        "overlapping_seconds": seconds[True],
        "speed_up": seconds[False] / seconds[True],
    }

"""What is drawn and written in a measurement: prompts of real lengths, their noise, their sampling.

A draw is timed behind prompts of 62 tokens, as a prompt and its reasoning give; a reasoning is 60 tokens, none of
which may end it. N rows have N different prompts, so that an engine gains nothing from equal ones.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from milr.decoding import Proposal, Request, Sampling
from milr.latents import PrefixBatch, stack_prefixes
from milr.models.janus import Janus
from milr.models.weights import Precision
from milr.noise import NoiseRows, NoiseSource
from milr.prompts import Prompt
from milr.search import default_sampling

IMAGE_PROMPT_TOKENS = 62
REASONING_TOKENS = 60
_SEED = 0
_NEVER_DRAWN = frozenset({-1})


@dataclass(frozen=True)
class Rows:
    """What `draw` takes: N prompts of ids, no latents, their noise."""

    prompts: list[list[int]]
    prefixes: PrefixBatch
    noise: NoiseRows


def image_rows(model: Janus, rows: int, first: int = 0) -> Rows:
    """N image prompts of random words."""
    special = set(model.tokenizer.all_special_ids) | {model.pad_id}
    words = torch.tensor([token for token in range(len(model.tokenizer)) if token not in special])
    generator = torch.Generator().manual_seed(_SEED + 1)
    picks = torch.randint(len(words), (first + rows, IMAGE_PROMPT_TOKENS - 2), generator=generator)
    bos, boi = model.tokenizer.convert_tokens_to_ids([model.bos, model.boi])
    return Rows(
        [[bos, *row, boi] for row in words[picks[first:]].tolist()],
        stack_prefixes([None] * rows, 2, model.facts.hidden_size, model.device),
        noise_rows(model, rows, first),
    )


def reasoning_rows(model: Janus, prompt: str, rows: int) -> Rows:
    """N times one reasoning prompt, each with noise of its own."""
    return Rows(
        [model.reasoning_ids(prompt)] * rows,
        stack_prefixes([None] * rows, 1, model.facts.hidden_size, model.device),
        noise_rows(model, rows),
    )


def noise_rows(model: Janus, rows: int, first: int = 0) -> NoiseRows:
    """Noise of samples `first`, `first` + 1, ... of step 0."""
    return NoiseRows([source()] * rows, [0] * rows, list(range(first, first + rows)), model.device)


def source() -> NoiseSource:
    return NoiseSource.of(_SEED, "speed")


def requests(prompt: str, proposals: Sequence[Proposal]) -> list[Request]:
    """What `decode` takes for one prompt."""
    return [Request(Prompt(prompt), source(), proposal) for proposal in proposals]


def fixed_sampling(model: Janus) -> Sampling:
    """The model's own sampling with a reasoning of fixed length; for a model whose reasonings do not end."""
    return replace(default_sampling(model), max_reasoning_tokens=REASONING_TOKENS)


def never_stopping(model: Janus) -> Janus:
    """The same weights under a model whose reasonings never end by themselves."""
    view = copy.copy(model)
    view.stop_ids = _NEVER_DRAWN
    return view


def shortened(model: Janus, image_tokens: int) -> Janus:
    """The same weights under a model that draws only the first tokens of a picture; it has no pixels."""
    view = copy.copy(model)
    view.facts = replace(model.facts, image_tokens=min(image_tokens, model.facts.image_tokens))
    return view


def copied(model: Janus, dtype: torch.dtype | None = None, precision: Precision | None = None) -> Janus:
    """A model with weights of its own, on the same device; in another dtype or precision where one is given."""
    network = copy.deepcopy(model.network)
    network = network if dtype is None else network.to(dtype)
    return Janus(network, model.tokenizer, model.facts, model.templates, model.stop_ids, precision=precision)


def equal_share(one: Tensor, other: Tensor) -> tuple[float, int | None]:
    """Share of equal tokens of [N, T] pictures, and the first position at which any two differ."""
    equal = one == other
    wrong = (~equal).any(dim=0).nonzero()
    return float(equal.float().mean()), (int(wrong[0]) if len(wrong) else None)

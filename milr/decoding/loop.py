"""The token loop: N rows of one stream in lockstep over static buffers.

Every tensor that a step reads or writes is allocated before the first one, and where a step is written is known to the
device alone. So a step is the same work each time: it runs as it is on a CPU, and is captured once as a CUDA graph on a
GPU. Rows are independent: each has its own prompt, latents, noise and end; one that has ended goes on until all have,
and what it wrote after its end is for its reader to cut. N rows, P paths, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milr import kernels
from milr.decoding.prompt_store import ReadPrompt
from milr.decoding.streams import TokenStream
from milr.decoding.tokens import choose, log_prob
from milr.latents import PrefixBatch
from milr.models.base import Backbone
from milr.models.key_values import KeyValueCache
from milr.noise import NoiseRows, NoiseSource

_LOGITS_AT_ONCE = 2**26  # numbers: bounds the memory of a long prefix over a large vocabulary


@dataclass(frozen=True)
class LoopSize:
    """What a loop's buffers are made for.

    Attributes:
        rows: N.
        room: columns for prompts, all of which end at the last of them.
        early: of the first positions, that latents may reach and whose states are kept.
    """

    rows: int
    room: int
    early: int


class TokenLoop:
    """The buffers of one batch and the step that fills them.

    Args:
        memory: flat numbers over which the cache is laid.
        ragged: whether prompts may differ in length.

    Attributes:
        tokens: [limit, N] int64.
        log_probs: [limit, N] fp32.
        states: [early, N, P, H] fp32, what the head read.
        all_ended: [1] bool.
    """

    def __init__(
        self, backbone: Backbone, stream: TokenStream, size: LoopSize, memory: Tensor, ragged: bool = True
    ) -> None:
        device, paths, width, rows = memory.device, stream.paths, backbone.hidden_size, size.rows
        self.backbone, self.stream, self.size = backbone, stream, size
        self._clock = torch.zeros(2, dtype=torch.int64, device=device)
        self.position, self.column = self._clock.split(1)
        start = torch.zeros(paths * rows, dtype=torch.int32, device=device)
        self.cache = KeyValueCache.over(memory, backbone.key_values, start, size.room + stream.limit, ragged)
        # Paths are outermost: all conditional rows, then all unconditional ones.
        self.hidden = torch.zeros(paths * rows, width, dtype=memory.dtype, device=device)
        self.latents = torch.zeros(size.early, rows, paths, width, device=device)
        self.replaced = torch.zeros(size.early, rows, 1, 1, dtype=torch.bool, device=device)
        self.tokens = torch.zeros(stream.limit, rows, dtype=torch.int64, device=device)
        self.log_probs = torch.zeros(stream.limit, rows, device=device)
        self.states = torch.zeros(size.early, rows, paths, width, device=device)
        self.stops = torch.tensor(sorted(stream.stops), dtype=torch.int64, device=device)
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self.all_ended = torch.zeros(1, dtype=torch.bool, device=device)
        self.noise = NoiseRows([NoiseSource((0, 0))] * rows, [0] * rows, [0] * rows, device)
        self.uses_kernels = kernels.available(device)  # which make their noise where they choose
        sampled = stream.temperature > 0 and not self.uses_kernels
        block = NoiseRows.block(rows, stream.vocabulary) if sampled else 0
        self.gumbel = torch.zeros(block, rows, stream.vocabulary, device=device)

    # Between steps, by the host

    def begin(self, prompts: Sequence[ReadPrompt], prefixes: PrefixBatch, noise: NoiseRows) -> int:
        """Puts a batch into the buffers and enters what its latents settle; returns the first position left to decode.

        Args:
            prompts: P x N, paths outermost.
            prefixes: latents of N rows.
        """
        lengths = [prompt.keys.shape[2] for prompt in prompts]
        starts = [self.size.room - length for length in lengths]
        self.cache.start.copy_(torch.tensor(starts, dtype=torch.int32))
        for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
            self.cache.keys[:, row, :, start : self.size.room] = prompt.keys
            self.cache.values[:, row, :, start : self.size.room] = prompt.values
        self.hidden.copy_(torch.stack([prompt.hidden for prompt in prompts]))
        self.latents.zero_()
        self.latents[: len(prefixes)] = prefixes.values.transpose(0, 1)
        self.replaced.zero_()
        self.replaced[: len(prefixes)] = prefixes.replace.t()[..., None, None]
        self.ended.zero_()
        for kept, given in zip(self.noise.tensors, noise.tensors, strict=True):
            kept.copy_(given)
        settled = min(prefixes.settled, self.stream.limit - 1)  # the last token needs a state, but gives none
        if settled:
            self._enter(settled)
        self.position.fill_(settled)
        self.column.fill_(self.size.room + settled)
        return settled

    def make_noise(self, position: int) -> None:
        """Before a step at `position`: the noise of this position and some that follow."""
        block = len(self.gumbel)
        if block and position % block == 0:
            count = min(block, self.stream.limit - position)
            made = self.noise.gumbel(self.stream.noise, position, count, self.stream.vocabulary)  # [N, count, V]
            self.gumbel[:count] = made.transpose(0, 1)

    def _enter(self, settled: int) -> None:
        """The tokens of the first positions, which depend on the latents alone, and one prefill of them."""
        stream, rows = self.stream, self.size.rows
        at_once = max(1, _LOGITS_AT_ONCE // (rows * stream.paths * stream.vocabulary))
        for first in range(0, settled, at_once):
            places = slice(first, min(settled, first + at_once))
            logits = stream.logits(self.latents[places])  # [T, N, V]
            gumbel = None
            if stream.temperature > 0:
                gumbel = self.noise.gumbel(stream.noise, first, places.stop - first, stream.vocabulary).transpose(0, 1)
            self.tokens[places] = choose(logits, gumbel)
            self.log_probs[places] = log_prob(logits, self.tokens[places])
        self.states[:settled] = self.latents[:settled]
        embeddings = stream.embed(self.tokens[:settled].t()).repeat(stream.paths, 1, 1)  # [P x N, T, H]
        self.hidden.copy_(self.backbone.prefill(embeddings, self.cache, self.size.room)[:, -1])
        self.ended |= self._is_stop(self.tokens[:settled]).any(dim=0)
        # Noise is made in blocks; this one is entered in its middle.
        block = len(self.gumbel)
        if block and settled % block:
            self.make_noise(settled - settled % block)

    # The step, by the device

    def pick(self, early: bool) -> Tensor:
        """The tokens [N] at the current position, from the states that stand before it.

        Args:
            early: apply latents (zeros, where a row has none) and keep the states.
        """
        rows, stream = self.size.rows, self.stream
        states = self.hidden.view(stream.paths, rows, -1).transpose(0, 1)  # [N, P, H]
        if early:
            kept = ~self.replaced.index_select(0, self.position)[0]
            states = self.latents.index_select(0, self.position)[0] + states * kept
            self.states.index_copy_(0, self.position, states[None])
        token, chance = self._choose(states)  # [N] each
        self.tokens.index_copy_(0, self.position, token[None])
        self.log_probs.index_copy_(0, self.position, chance[None])
        if len(self.stops):
            self.ended |= self._is_stop(token)
            self.all_ended.copy_(self.ended.all()[None])
        return token

    def _choose(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [N] and their log-probabilities, from states [N, P, H]."""
        stream = self.stream
        if self.uses_kernels:
            from milr.kernels.sampling import choose_image, choose_text

            key, step, sample = self.noise.tensors
            logits = stream.head(states)  # [N, P, V]
            if stream.paths == 2:
                return choose_image(logits, key, step, sample, self.position, stream.guidance, stream.temperature)
            return choose_text(logits[:, 0], key, step, sample, self.position, stream.temperature)
        logits = stream.logits(states)  # [N, V]
        gumbel = self.gumbel.index_select(0, self.position % len(self.gumbel))[0] if len(self.gumbel) else None
        token = choose(logits, gumbel)
        return token, log_prob(logits, token)

    def advance(self, token: Tensor, length: int) -> None:
        """The states after the tokens at the current position.

        Args:
            token: from `pick`.
            length: columns that attention may look at; see `Backbone.step`.
        """
        embeddings = self.stream.embed(token[:, None])[:, 0].repeat(self.stream.paths, 1)  # [P x N, H]
        self.hidden.copy_(self.backbone.step(embeddings, self.cache, self.column, length))
        self._clock += 1

    def _is_stop(self, tokens: Tensor) -> Tensor:
        return (tokens[..., None] == self.stops).any(dim=-1)

"""The engine: from proposals to rollouts (reason, draw, pixels) for prompts x samples in one batch.

A rollout depends on its own request alone: what else is in the batch, how large it is and what came before change no
more than the last bit of a sum. The engine keeps between calls what does not change: one block of memory for keys and
values, prompts it has read, and on CUDA the captured steps of each batch size.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from milr.decoding.capture import CapturedLoop, plain_step, run_loop
from milr.decoding.loop import LoopSize, TokenLoop
from milr.decoding.memory import BATCHES, prompt_store_bytes, rows_that_fit
from milr.decoding.prompt_store import PromptStore, ReadPrompt
from milr.decoding.rollout import Drawn, Request, Rollout, Sampling, Undeveloped, Written
from milr.decoding.streams import TokenStream, image_stream, text_stream
from milr.latents import PrefixBatch, stack_prefixes
from milr.models.base import UnifiedModel
from milr.noise import NoiseRows

log = logging.getLogger(__name__)

_ROOM_STEP = 64  # captured caches have room for prompts in multiples of this


class Engine:
    """Decodes rollouts of one model.

    Args:
        rows: the most rollouts decoded at once; None takes what fits into the memory that is free now. Halved, with a
            line in the log, whenever the device runs out of memory.
        capture: replay each step as a CUDA graph; None does so on CUDA. Slower without, not different.
    """

    def __init__(self, model: UnifiedModel, rows: int | None = None, capture: bool | None = None) -> None:
        self.model = model
        self.rows = rows_that_fit(model) if rows is None else rows
        self.captures = model.device.type == "cuda" if capture is None else capture
        self.prompts = PromptStore(model, prompt_store_bytes(model))
        self._memory = torch.empty(0, dtype=model.dtype, device=model.device)
        self._loops: dict[tuple[object, ...], CapturedLoop] = {}
        self._pool: Any = None  # memory that the captured steps share: no two of them run at once

    @staticmethod
    def of(model: UnifiedModel) -> Engine:
        """The engine that all users of a model share, with what it keeps between calls; of the latest model only."""
        return _engine_of(model)

    def decode(self, requests: Sequence[Request], sampling: Sampling, keep_image_states: int = 0) -> list[Rollout]:
        """A rollout for each request; arguments and errors as in `decode_tokens`."""
        return self.develop(self.decode_tokens(requests, sampling, keep_image_states))

    def decode_tokens(
        self, requests: Sequence[Request], sampling: Sampling, keep_image_states: int = 0
    ) -> list[Undeveloped]:
        """Reasons and draws for each request.

        Args:
            keep_image_states: for how many of the first image positions a rollout carries its states.

        Raises:
            torch.OutOfMemoryError: not even one rollout fits.
        """
        done: list[Undeveloped] = []
        while len(done) < len(requests):
            left = requests[len(done) :]
            size = math.ceil(len(left) / math.ceil(len(left) / self.rows))  # even parts, not one full and one tiny
            try:
                done += self._decode(left[:size], sampling, keep_image_states)
                continue
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            # Only here has the error let go of what it was holding.
            self.rows = size // 2
            self.release()
            log.warning("out of memory with %d rollouts at once; going on with %d.", size, self.rows)
        return done

    def develop(self, drawn: Sequence[Undeveloped]) -> list[Rollout]:
        """The pictures of rollouts; may run beside the next decode, on another stream."""
        if not drawn:
            return []
        images = self.model.pixels(torch.stack([one.image_tokens for one in drawn]))
        return [
            Rollout(
                prompt=one.request.prompt,
                proposal=one.request.proposal,
                reasoning=one.reasoning,
                reasoning_ids=one.written.ids,
                text_states=one.written.states,
                text_log_probs=one.written.log_probs,
                image_tokens=one.image_tokens,
                image_states=one.image_states,
                image_log_probs=one.image_log_probs,
                image=image,
            )
            for one, image in zip(drawn, images, strict=True)
        ]

    def write(
        self, prompts: Sequence[Sequence[int]], prefixes: PrefixBatch, noise: NoiseRows, sampling: Sampling
    ) -> list[Written]:
        """The reasoning after each prompt, up to its stop token (which is kept) or `max_reasoning_tokens`.

        Args:
            prompts: N rows of token ids.
        """
        stream = text_stream(self.model, sampling)
        read = self.prompts.fetch(prompts, [True] * len(prompts))
        return self.write_after(read, prefixes, noise, stream)

    def write_after(
        self, prompts: Sequence[ReadPrompt], prefixes: PrefixBatch, noise: NoiseRows, stream: TokenStream
    ) -> list[Written]:
        """The text after prompts that are read already; they may hold pictures."""
        loop, filled = self._run(stream, prompts, prefixes, noise, stream.limit)
        tokens = loop.tokens[:filled, : len(prompts)]  # [T, N]
        ends = torch.isin(tokens, loop.stops).int()
        lengths = torch.where(ends.any(dim=0), ends.argmax(dim=0) + 1, filled).tolist()
        return [
            Written(
                tokens[:length, row].clone(), loop.states[:length, row, 0].clone(), loop.log_probs[:length, row].clone()
            )
            for row, length in enumerate(lengths)
        ]

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        prefixes: PrefixBatch,
        noise: NoiseRows,
        sampling: Sampling,
        keep: int,
        recurring: Sequence[bool] | None = None,
    ) -> Drawn:
        """The image tokens after each prompt, a conditional and an unconditional sequence side by side.

        Args:
            prompts: N rows of image prompt ids.
            keep: for how many of the first positions the states are returned.
            recurring: which prompts will be asked for again; the unconditional ones always may.
        """
        rows = len(prompts)
        stream = image_stream(self.model, sampling)
        pairs = [*prompts, *(self.model.unconditional_ids(prompt) for prompt in prompts)]
        read = self.prompts.fetch(pairs, [*(recurring or [False] * rows), *[True] * rows])
        loop, _ = self._run(stream, read, prefixes, noise, keep)
        return Drawn(
            loop.tokens[:, :rows].t().clone(),
            loop.states[:keep, :rows].transpose(0, 1).clone(),
            loop.log_probs[:, :rows].t().clone(),
        )

    def release(self) -> None:
        """Gives back the memory that is kept between calls."""
        self._loops.clear()
        self.prompts.clear()
        self._memory = torch.empty(0, dtype=self.model.dtype, device=self.model.device)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    # One batch

    def _decode(self, requests: Sequence[Request], sampling: Sampling, keep_image_states: int) -> list[Undeveloped]:
        model, device = self.model, self.model.device
        written = self._reasonings(requests, sampling)
        reasonings = [model.decode_text(row.ids.tolist()) for row in written]
        drawn = self.draw(
            [model.image_ids(request.prompt.text, text) for request, text in zip(requests, reasonings, strict=True)],
            stack_prefixes([request.proposal.image for request in requests], 2, model.facts.hidden_size, device),
            _noise_rows(requests, device),
            sampling,
            keep_image_states,
            [request.proposal.reasoning_ids is not None for request in requests],
        )
        return [
            Undeveloped(
                request, reasonings[row], written[row], drawn.tokens[row], drawn.states[row], drawn.log_probs[row]
            )
            for row, request in enumerate(requests)
        ]

    def _reasonings(self, requests: Sequence[Request], sampling: Sampling) -> list[Written]:
        """A reasoning per request: written where the proposal leaves it open, kept as it is elsewhere."""
        model, device, width = self.model, self.model.device, self.model.facts.hidden_size
        left_open = [request for request in requests if request.proposal.reasoning_ids is None]
        written: Iterator[Written] = iter(())
        if left_open:
            prefixes = stack_prefixes([request.proposal.text for request in left_open], 1, width, device)
            prompts = [model.reasoning_ids(request.prompt.text) for request in left_open]
            written = iter(self.write(prompts, prefixes, _noise_rows(left_open, device), sampling))
        nothing = torch.zeros(0, width, device=device)
        return [
            next(written)
            if request.proposal.reasoning_ids is None
            else Written(request.proposal.reasoning_ids.to(device), nothing, nothing[:, 0])
            for request in requests
        ]

    def _run(
        self, stream: TokenStream, prompts: Sequence[ReadPrompt], prefixes: PrefixBatch, noise: NoiseRows, keep: int
    ) -> tuple[TokenLoop, int]:
        """A loop that has decoded a batch, and how many of its positions are filled."""
        rows = len(prompts) // stream.paths
        lengths = [prompt.keys.shape[2] for prompt in prompts]
        size = LoopSize(rows, max(lengths), max(len(prefixes), keep))
        if not self.captures:
            memory = self._memory_for(stream, size)
            loop = TokenLoop(self.model.backbone, stream, size, memory, ragged=min(lengths) < size.room)
            first = loop.begin(prompts, prefixes, noise)
            return loop, run_loop(loop, first, plain_step(loop))
        size = _captured_size(size)
        extra = size.rows - rows
        if extra:  # a bucket's spare rows repeat the first one
            paths = [prompts[start : start + rows] for start in range(0, len(prompts), rows)]
            prompts = list(chain.from_iterable([*path, *[path[0]] * extra] for path in paths))
            prefixes, noise = prefixes.padded(extra), noise.padded(extra)
        captured = self._captured(stream, size)
        first = captured.loop.begin(prompts, prefixes, noise)
        return captured.loop, run_loop(captured.loop, first, captured.step)

    def _captured(self, stream: TokenStream, size: LoopSize) -> CapturedLoop:
        """The captured loop that is large enough, made where there is none."""
        key = (stream.noise, stream.limit, stream.temperature, stream.guidance, stream.stops, size.rows)
        loop = self._loops.get(key)
        if loop is not None:
            had = loop.loop.size
            if size.room <= had.room and size.early <= had.early:
                return loop
            size = LoopSize(size.rows, max(size.room, had.room), max(size.early, had.early))
            del self._loops[key], loop
        memory = self._memory_for(stream, size)
        if not self._loops:  # a pool does not outlive its last graph
            self._pool = torch.cuda.graph_pool_handle()
        self._loops[key] = CapturedLoop(TokenLoop(self.model.backbone, stream, size, memory), self._pool)
        return self._loops[key]

    def _memory_for(self, stream: TokenStream, size: LoopSize) -> Tensor:
        """The block of numbers that all loops lay their cache over, grown where it is too small."""
        shape = self.model.backbone.key_values
        needed = shape.numbers(stream.paths * size.rows, size.room + stream.limit)
        if needed > len(self._memory):
            self._loops.clear()  # they stand on the old one
            self._memory = torch.empty(0, dtype=shape.dtype, device=self.model.device)
            # Zeros, since columns that are masked out still meet a weight of zero, and zero times NaN is NaN.
            self._memory = torch.zeros(needed, dtype=shape.dtype, device=self.model.device)
        return self._memory


@lru_cache(maxsize=1)
def _engine_of(model: Any) -> Engine:
    return Engine(model)


def _captured_size(size: LoopSize) -> LoopSize:
    """The next size up that graphs are captured for, so that few are."""
    larger = (batch for batch in BATCHES if batch >= size.rows)
    return LoopSize(
        rows=next(larger, _up_to_multiple(size.rows, 64)),
        room=_up_to_multiple(size.room, _ROOM_STEP),
        early=_up_to_multiple(size.early, 16),
    )


def _up_to_multiple(number: int, step: int) -> int:
    return math.ceil(number / step) * step


def _noise_rows(requests: Sequence[Request], device: torch.device) -> NoiseRows:
    return NoiseRows(
        [request.noise for request in requests],
        [request.proposal.step for request in requests],
        [request.proposal.sample for request in requests],
        device,
    )

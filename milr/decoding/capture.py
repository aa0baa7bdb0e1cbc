"""Running a token loop: step by step on any device, or as replayed CUDA graphs.

A captured step is the whole of it: backbone, head, guidance, choice, the next embedding. One graph serves every
position, prompt and batch of its loop; it is captured without compilation at the first step of its kind. The host
queues replays and waits for nothing, except that it looks, some steps late, whether all rows have ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from milr.decoding.loop import TokenLoop

Step = Callable[[bool, int], None]  # picks a token and advances; told whether it is early, and its position

_STEPS_AHEAD = 8  # replays that are queued before the host looks whether all rows have ended


def run_loop(loop: TokenLoop, first: int, step: Step) -> int:
    """Decodes from position `first` to the end; returns how many positions are filled."""
    limit = loop.stream.limit
    ends = _Ends(loop)
    for position in range(first, limit):
        loop.make_noise(position)
        if position + 1 == limit:
            loop.pick(position < loop.size.early)
            break
        step(position < loop.size.early, position)
        if ends.seen_after(position):
            return position + 1
    return limit


def plain_step(loop: TokenLoop) -> Step:
    """A step that runs as it is, and reads only the columns that are filled."""

    def step(early: bool, position: int) -> None:
        loop.advance(loop.pick(early), loop.size.room + position + 1)

    return step


class CapturedLoop:
    """A loop whose steps are CUDA graphs.

    Args:
        pool: memory that the graphs of an engine share; no two of them run at once.
    """

    def __init__(self, loop: TokenLoop, pool: Any) -> None:
        self.loop, self._pool = loop, pool
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}

    def step(self, early: bool, position: int) -> None:
        """Replays the graph of an early or a later step, capturing it first where it is new."""
        if early not in self._graphs:
            self._graphs[early] = self._capture(early)
        self._graphs[early].replay()

    def _work(self, early: bool) -> None:
        self.loop.advance(self.loop.pick(early), self.loop.cache.columns)

    def _capture(self, early: bool) -> torch.cuda.CUDAGraph:
        # Libraries choose and load their kernels in a first step, which is then undone.
        loop = self.loop
        moved = (loop.position, loop.column, loop.hidden, loop.ended, loop.all_ended)
        before = [tensor.clone() for tensor in moved]
        self._work(early)
        for tensor, value in zip(moved, before, strict=True):
            tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        # Only this thread is held to what may be captured: pictures may be scored in another one meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._work(early)
        return graph


class _Ends:
    """Whether all rows have ended, asked without making the device wait."""

    def __init__(self, loop: TokenLoop) -> None:
        self._flag = loop.all_ended
        self._needed = bool(len(loop.stops))
        self._late = _STEPS_AHEAD if self._flag.is_cuda else 0
        places = loop.stream.limit if self._needed and self._late else 0
        self._flags = torch.zeros(places, dtype=torch.bool, pin_memory=places > 0)
        self._events: dict[int, torch.cuda.Event] = {}

    def seen_after(self, position: int) -> bool:
        """True once all rows are known to have ended at this position or before."""
        if not self._needed:
            return False
        if not self._late:
            return bool(self._flag)
        self._flags[position : position + 1].copy_(self._flag, non_blocking=True)
        self._events[position] = torch.cuda.Event()
        self._events[position].record()
        if position - self._late not in self._events:
            return False
        self._events.pop(position - self._late).synchronize()
        return bool(self._flags[position - self._late])

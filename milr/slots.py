"""Which searches are decoded when: a number of slots, refilled between steps, and critics at work beside the decoder.

A search that ends leaves its slot to the next one, so that a run takes as long as its work and not as long as its
slowest prompt. With `overlap` the slots are decoded in two halves: while one half is being decoded, the pictures of the
other are developed and scored in a thread of their own (on CUDA: on a stream of their own). What is decoded together
never depends on how long anything took, so that a run can be repeated.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

Search = TypeVar("Search")
Decoded = TypeVar("Decoded")
Scored = TypeVar("Scored")
Event = TypeVar("Event")


@dataclass(frozen=True)
class Slots(Generic[Search, Decoded, Scored, Event]):
    """What a run of slots does with searches.

    Attributes:
        begin: called when a search takes a slot.
        ending: what to report of a search that is over; None while it is not.
        decode: one step's work of several searches on the device.
        score: the rest of that work, which may run beside the next decode.
        tell: brings the result to the searches, and reports it.
    """

    begin: Callable[[Search], Event]
    ending: Callable[[Search], Event | None]
    decode: Callable[[Sequence[Search]], Decoded]
    score: Callable[[Decoded], Scored]
    tell: Callable[[Sequence[Search], Scored], Iterator[Event]]

    def run(self, searches: Iterator[Search], slots: int, overlap: bool, device: torch.device) -> Iterator[Event]:
        """Brings all searches to their end, `slots` at a time."""
        halves = 2 if overlap else 1
        ready: list[Search] = []
        pending: deque[tuple[list[Search], Future[Scored]]] = deque()
        with ThreadPoolExecutor(1, "milr-score") as executor:
            while True:
                busy = sum(len(group) for group, _ in pending)
                for search in itertools.islice(searches, slots - busy - len(ready)):
                    ready.append(search)
                    yield self.begin(search)
                if not (ready or pending):
                    return
                for search in list(ready):
                    event = self.ending(search)
                    if event is not None:
                        ready.remove(search)
                        yield event
                if ready and len(pending) < halves:
                    size = math.ceil((busy + len(ready)) / halves)
                    group, ready = ready[:size], ready[size:]
                    pending.append((group, self._score_later(executor, self.decode(group), overlap, device)))
                if pending and (len(pending) == halves or not ready):
                    group, scored = pending.popleft()
                    yield from self.tell(group, scored.result())
                    ready += group

    def _score_later(
        self, executor: ThreadPoolExecutor, decoded: Decoded, overlap: bool, device: torch.device
    ) -> Future[Scored]:
        if not overlap:
            done: Future[Scored] = Future()
            done.set_result(self.score(decoded))
            return done
        if device.type != "cuda":
            return executor.submit(self.score, decoded)
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))

        def score() -> Scored:
            with torch.cuda.stream(side):
                return self.score(decoded)

        return executor.submit(score)

"""Which searches are decoded when: a number of slots, refilled between steps, and critics at work beside the decoder.

A search that ends leaves its slot to the next one, so that a run takes as long as its work and not as long as its
slowest prompt. With `overlap` the slots are decoded in two halves: while one half is being decoded, the pictures of the
other are developed and scored in a thread of their own (on CUDA: on a stream of their own). What is decoded together
never depends on how long anything took, so that a run can be repeated.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Generic, TypeVar

import torch

FAREWELL = 5.0  # seconds

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

    def run(
        self, searches: Iterator[Search], slots: int, overlap: bool, device: torch.device
    ) -> Generator[Event, None, None]:
        """Brings all searches to their end, `slots` at a time."""
        halves = 2 if overlap else 1
        ready: list[Search] = []
        pending: deque[tuple[list[Search], Future[Scored]]] = deque()
        scorer = _Scorer(self.score, overlap, device)
        try:
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
                    pending.append((group, scorer.begin(self.decode(group))))
                if pending and (len(pending) == halves or not ready):
                    group, scored = pending.popleft()
                    yield from self.tell(group, scored.result())
                    ready += group
        finally:
            scorer.leave()


class _Scorer(Generic[Decoded, Scored]):
    """Scores at once, or beside whoever asks, in a thread that an interrupted run need not wait for."""

    def __init__(self, score: Callable[[Decoded], Scored], beside: bool, device: torch.device) -> None:
        self._score, self._beside, self._device = score, beside, device
        self._at_work = Lock()  # critics are not made for two threads
        self._threads: list[Thread] = []

    def begin(self, decoded: Decoded) -> Future[Scored]:
        """The scores to come."""
        scored: Future[Scored] = Future()
        if not self._beside:
            scored.set_result(self._score(decoded))
            return scored
        side = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        if side is not None:
            side.wait_stream(torch.cuda.current_stream(self._device))

        def score() -> None:
            try:
                with self._at_work, torch.cuda.stream(side):
                    scored.set_result(self._score(decoded))
            except BaseException as error:
                scored.set_exception(error)

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(Thread(target=score, name="milr-score", daemon=True))
        self._threads[-1].start()
        return scored

    def leave(self) -> None:
        """Wait for a critic at work here, not for one behind a network, which may take minutes."""
        end = time.monotonic() + FAREWELL
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

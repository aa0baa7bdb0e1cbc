"""Answers of servers that one does not control, read no longer and no further than one is ready to.

httpx times single reads, not the whole, and reads whatever comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class TooLongError(Exception):
    """An answer of more bytes than were to be read."""


def read_bounded(
    answer: httpx.Response, most: int, deadline: float, clock: Callable[[], float] = time.monotonic
) -> bytes:
    """The body of an answer that is being streamed.

    Args:
        most: bytes.
        deadline: the time by `clock` after which no more is read.

    Raises:
        TooLongError: it is longer.
        httpx.ReadTimeout: it comes too slowly; other errors of httpx as they come.
    """
    import httpx

    received = bytearray()
    for chunk in answer.iter_bytes():
        received += chunk
        if clock() > deadline:
            raise httpx.ReadTimeout("the answer came too slowly")
        if len(received) > most:
            raise TooLongError
    return bytes(received)

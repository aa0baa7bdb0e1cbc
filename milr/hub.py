"""The Hugging Face hub where there is no network: what is cached is used at once, what is not is refused at once.

Its libraries try again and again, for half a minute a load, before they look into their cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_PATIENCE = 5.0  # seconds until the hub has answered
_PAUSE = 60.0  # seconds until one that has not is asked again
_loading = RLock()  # the libraries' switch is the process's own
_known: dict[str, tuple[bool, float]] = {}  # by address: whether it answers, and until when that is believed


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Whatever is loaded from the hub within the block comes from its cache alone where the hub does not answer.

    Raises:
        ConnectionError: it does not answer, and the cache lacks something; instead of what a library says of that.
    """
    from huggingface_hub import constants

    with _loading:
        switched_off = constants.HF_HUB_OFFLINE
        there = not switched_off and answers(constants.ENDPOINT)
        constants.HF_HUB_OFFLINE = not there
        try:
            yield
        except Exception as error:
            if there or not _is_of_the_hub(error):
                raise
            why = "HF_HUB_OFFLINE is set" if switched_off else f"{constants.ENDPOINT} does not answer"
            raise ConnectionError(f"{why}, and the cache here lacks some of its files") from error
        finally:
            constants.HF_HUB_OFFLINE = switched_off


def answers(endpoint: str) -> bool:
    """Whether a hub says anything at all; one that does is asked once, one that does not again after a minute."""
    from huggingface_hub import get_session

    known, until = _known.get(endpoint, (False, 0.0))
    if time.monotonic() < until:
        return known
    try:
        get_session().head(endpoint, timeout=_PATIENCE)
        _known[endpoint] = True, math.inf
    except Exception:  # of whichever HTTP library this release is built on
        _known[endpoint] = False, time.monotonic() + _PAUSE
    return _known[endpoint][0]


def _is_of_the_hub(error: BaseException | None) -> bool:
    """Whether an error began with a file that only the hub has."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    while error is not None and not isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error is not None

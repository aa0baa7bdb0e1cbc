"""The Hugging Face hub where there is no network: what is cached is used at once, what is not is refused at once.

Its libraries try each file again and again, half a minute for each, before they look into their cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock

_PATIENCE = 5.0  # seconds until the hub has answered
_loading = RLock()  # the libraries' switch is the process's own


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
            if there or not _is_of_files(error):
                raise
            why = "HF_HUB_OFFLINE is set" if switched_off else f"{constants.ENDPOINT} does not answer"
            raise ConnectionError(f"{why}, and the cache here lacks some of its files") from error
        finally:
            constants.HF_HUB_OFFLINE = switched_off


@cache
def answers(endpoint: str) -> bool:
    """Whether a hub says anything at all; asked once in a process."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=_PATIENCE)
    except Exception:  # of whichever HTTP library this release is built on
        return False
    return True


def _is_of_files(error: BaseException | None) -> bool:
    """Whether an error began with a file that could not be had."""
    return error is not None and (isinstance(error, OSError) or _is_of_files(error.__cause__ or error.__context__))

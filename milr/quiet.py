"""Libraries that load models, kept from talking: what matters in what they say is raised, once, by who called them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_loading = RLock()  # what is silenced is the process's own: two that silence it at once would not restore it


@contextmanager
def quiet() -> Iterator[None]:
    """No logged retries, no reports of unused weights, no bars of loading; downloads take minutes and keep theirs."""
    with _loading:
        before = logging.root.manager.disable
        bars = sys.modules.get("transformers.utils.logging")
        shown = bars is not None and bars.is_progress_bar_enabled()
        logging.disable(logging.ERROR)
        if bars and shown:
            _hide(bars)
        try:
            yield
        finally:
            logging.disable(before)
            if bars and shown:
                bars.enable_progress_bar()


def _hide(bars: object) -> None:
    """Those of transformers, which would take the downloads' with them."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars

    downloads = not are_progress_bars_disabled()
    bars.disable_progress_bar()  # type: ignore[attr-defined]
    if downloads:
        enable_progress_bars()

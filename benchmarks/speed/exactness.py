"""Which tokens stay the same: captured or not, alone or together, by the engine or by the plain loop.

All four draw the same pictures under the same noise. Tokens feed back, so that after a first token that differs by a
rounding most others differ too: where the share is below one, the place of the first difference says more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from milr.models.janus import Janus
from milr.search import default_sampling

from . import plain
from .engines import drawn_tokens
from .subjects import copied, equal_share, image_rows, noise_rows, shortened

_ROWS = 4


def compare(model: Janus, dtype: torch.dtype, tokens: int, plain_pictures: int) -> dict[str, Any]:
    """Shares of equal tokens in a dtype.

    Args:
        tokens: the first of each picture that are compared.
        plain_pictures: how many the plain loop draws.
    """
    other = model if model.dtype == dtype else copied(model, dtype)
    view = shortened(other, tokens)
    together, _ = drawn_tokens(view, _ROWS, None)
    alone, _ = drawn_tokens(view, 1, None)
    subject, sampling = image_rows(view, _ROWS), default_sampling(view)
    one_by_one = torch.stack(
        [
            plain.image_tokens(view, subject.prompts[row], noise_rows(view, 1, row), sampling, view.facts.image_tokens)
            for row in range(min(plain_pictures, _ROWS))
        ]
    )
    figures = {
        "engine_and_plain_cached": _share(together[: len(one_by_one)], one_by_one),
        "batch_of_4_and_alone": _share(together[:1], alone),
    }
    if model.device.type == "cuda":
        uncaptured, _ = drawn_tokens(view, _ROWS, False)
        figures["captured_and_uncaptured"] = _share(together, uncaptured)
    return figures


def _share(one: Tensor, other: Tensor) -> dict[str, Any]:
    share, first = equal_share(one, other)
    return {"equal": share, "first_difference": first, "pictures": len(one), "tokens": one.shape[1]}

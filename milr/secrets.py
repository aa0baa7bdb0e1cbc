"""Keys that users paste where they do not belong: recognised, so that no message repeats them.

Keys belong into environment variables; no option of milr takes one.
"""

from __future__ import annotations

import re
from typing import Any

from milr.errors import UsageError

# What keys of several providers begin with. Folders may look so too ("hf_models_here"), and are not refused for it.
LIKE_A_KEY = re.compile(r"(?<![A-Za-z0-9])(sk-|gsk_|hf_|xai-)[A-Za-z0-9_-]{8}|AIza[A-Za-z0-9_-]{20}")


def checked_variable(name: str, option: str) -> str:
    """The name of an environment variable that holds a key or a token.

    Raises:
        UsageError: it is no such name. It is not shown: people paste the key where its name belongs.
    """
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise UsageError(
            f"{option} is the NAME of an environment variable, in capitals, such as MILR_REWARD_TOKEN; the key itself "
            "belongs into that variable and into no option."
        )
    return name


def shown(value: Any) -> str:
    """A value as a message may quote it."""
    return "what looks like a key (not shown)" if LIKE_A_KEY.search(str(value)) else repr(value)

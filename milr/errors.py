"""Every error that milr raises on purpose.

    MilrError                 anything a caller may want to catch
    ├── UsageError            the request is wrong; nothing was started, nothing written  (exit code 2)
    │   ├── UnknownNameError  no plugin, option or key of that name; carries the nearest known names
    │   ├── PromptError       an empty, unreadable or too long prompt, or one without needed metadata
    │   ├── ModelError        weights that are missing, truncated or of another architecture
    │   └── ResumeError       the run folder belongs to another run, or to a running process
    └── RunError              something failed after the work began; what was done is kept  (exit code 1)

A message says what was given, what was expected and what to do about it, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MilrError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class UsageError(MilrError):
    """The request is wrong: nothing was started and nothing was written."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that nobody registered.

    Args:
        kind: what was looked up, singular: "reward", "model", "option".
        name: what was given.
        known: the names that exist.
        hint: a last sentence, such as "See 'milr list rewards'."
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        message = f"unknown {kind} {name!r}."
        if near:
            message += f" Did you mean {near[0]!r}?"
        elif names:
            message += f" Available: {', '.join(names)}."
        super().__init__(f"{message} {hint}".strip())


class PromptError(UsageError):
    """A prompt that is empty, unreadable, too long, or lacks the metadata a critic needs."""


class ModelError(UsageError):
    """Weights that are missing, truncated or of another architecture."""


class ResumeError(UsageError):
    """A run folder that belongs to another run, or to a process that is still at work."""


class RunError(MilrError):
    """A failure after the work began; what was done is on disk."""

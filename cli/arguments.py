"""Values that users type: numbers and `--set KEY=VALUE`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from milr.errors import UnknownNameError, UsageError

SET_KINDS = {"method": "methods", "reward": "rewards", "judge": "rewards"}


class Whole(click.IntRange):
    """A whole number; its message says so."""

    name = "whole number"

    def __init__(self, least: int = 0, most: int = 1_000_000) -> None:
        super().__init__(least, most)


class Number(click.FloatRange):
    """A finite number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Without bounds, click would write "x<=None" into --help."""
        return "" if self.min is None and self.max is None else super()._describe_range()


class Target(Number):
    """A number, or none: no reward is enough to stop."""

    name = "number or none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "none" else super().convert(value, param, ctx)


def user_path(text: str, option: str) -> Path:
    """The path that a user typed, `~` expanded.

    Raises:
        UsageError: it is empty, as a variable is that nobody has set, or no system has such a path: an unknown home, a
            NUL, a name that is too long.
    """
    if not text:
        raise UsageError(f"{option} is empty; give a path, such as . for the folder in which you are.")
    try:
        path = Path(text).expanduser()
        path.exists()
    except (RuntimeError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{option} {text[:60]!r} is no usable path: {reason}.") from None
    return path


def parse_set(text: str) -> tuple[str, Any]:
    """("method.milr.lr", 0.01) of "method.milr.lr=0.01".

    Raises:
        UsageError: no "=", or a key that is not KIND.PLUGIN.OPTION.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text!r} has no value; write e.g. --set method.milr.lr=0.01.")
    split_key(key)
    return key, parse_value(value)


def parse_value(text: Any) -> Any:
    """Numbers, true, false and null as such; anything else is a text."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def split_key(key: str) -> tuple[str, str, str]:
    """("method", "milr", "lr") of "method.milr.lr".

    Raises:
        UsageError: it has another form.
    """
    kind, plugin, option = [*key.split("."), "", ""][:3]
    if kind not in SET_KINDS:
        raise UnknownNameError("kind of --set key", kind, SET_KINDS)
    if key.count(".") != 2 or not plugin or not option:
        raise UsageError(f"--set key {key!r} is not KIND.PLUGIN.OPTION; write e.g. method.milr.lr=0.01.")
    return kind, plugin, option

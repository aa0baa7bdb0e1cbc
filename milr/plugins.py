"""One registry for models, rewards, methods and benchmarks: lazy entry points, nothing imported until used.

A plugin is a class or function that a package names in `setup.cfg` under the entry point group `milr.rewards` (or
`.models`, `.methods`, `.benchmarks`). milr's own arrive in exactly the same way. A plugin that cannot be imported
costs one warning when the plugins are listed, and an error only when it is asked for by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from milr.errors import UnknownNameError, UsageError

KINDS = ("models", "rewards", "methods", "benchmarks")

# Keyword arguments that milr itself passes to a plugin: not options that a user may set.
GIVEN_BY_MILR = frozenset({"facts", "device", "policy", "steps", "samples", "noise"})


@dataclass(frozen=True)
class Plugin:
    """A registered plugin, not yet imported.

    Attributes:
        kind: one of `KINDS`.
        name: what a user types.
        origin: the distribution that brings it, with its version: "milr 0.1.0".
    """

    kind: str
    name: str
    origin: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """The class or function itself.

        Raises:
            UsageError: the plugin, or something it imports, is not installed or broken.
        """
        try:
            return self.entry_point.load()
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{self.kind[:-1]} {self.name!r} ({self.origin}) needs the package {error.name!r}; "
                f"install it{self._extra_hint()}."
            ) from error
        except Exception as error:
            raise UsageError(
                f"{self.kind[:-1]} {self.name!r} ({self.origin}) is broken: {type(error).__name__}: {error}"
            ) from error

    def _extra_hint(self) -> str:
        extras = self.entry_point.extras
        return f" with: pip install 'milr[{','.join(extras)}]'" if extras else ""


@cache
def plugins(kind: str) -> Mapping[str, Plugin]:
    """All plugins of a kind by name, in alphabetical order.

    Raises:
        UsageError: two packages register the same name.
    """
    found: dict[str, Plugin] = {}
    for entry_point in sorted(entry_points(group=f"milr.{kind}"), key=lambda e: e.name):
        distribution = entry_point.dist
        origin = f"{distribution.name} {distribution.version}" if distribution else "unknown"
        plugin = Plugin(kind, entry_point.name, origin, entry_point)
        other = found.setdefault(entry_point.name, plugin)
        if other.entry_point.value != entry_point.value:
            raise UsageError(
                f"{kind[:-1]} {entry_point.name!r} is registered twice: by {other.origin} "
                f"({other.entry_point.value}) and by {origin} ({entry_point.value}); uninstall one of them."
            )
    return found


def find(kind: str, name: str) -> Plugin:
    """The plugin of that name.

    Raises:
        UnknownNameError: there is none; the message suggests the nearest name.
    """
    known = plugins(kind)
    if name not in known:
        raise UnknownNameError(kind[:-1], name, known, f"See 'milr list {kind}'.")
    return known[name]


def check_options(plugin: Plugin, factory: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that a plugin's constructor does not take.

    Raises:
        UnknownNameError: an option is unknown; the message suggests the nearest one.
    """
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in GIVEN_BY_MILR]
    for name in options:
        if name not in known:
            raise UnknownNameError(f"option of {plugin.kind[:-1]} {plugin.name!r}:", name, known)

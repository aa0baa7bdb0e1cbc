"""One registry for models, rewards, methods and benchmarks: lazy entry points, nothing imported until used.

A plugin is a class or function that a package names in `setup.cfg` under the entry point group `milr.rewards` (or
`.models`, `.methods`, `.benchmarks`). milr's own arrive in exactly the same way. A plugin that cannot be imported
costs one warning when the plugins are listed, and an error only when it is asked for by name.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from milr.errors import UnknownNameError, UsageError
from milr.secrets import LIKE_A_KEY, shown

KINDS = ("models", "rewards", "methods", "benchmarks")

# Keyword arguments that milr itself passes to a plugin: not options that a user may set.
GIVEN_BY_MILR = frozenset({"address", "facts", "reader", "policy", "steps", "samples", "noise"})


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
        except (Exception, SystemExit) as error:
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


def check_options(plugin: Plugin, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that a plugin's constructor does not take, and values of another type than it says.

    Raises:
        UnknownNameError: an option, or a value among named choices, is unknown; the message suggests the nearest one.
        UsageError: a value has the wrong type.
    """
    if not callable(factory):
        raise UsageError(f"{plugin.kind[:-1]} {plugin.name!r} ({plugin.origin}) is broken: it cannot be called.")
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = [option.name for option in options_of(factory)]
    for name, value in options.items():
        if name not in known:
            if takes_any:
                continue
            raise UnknownNameError(f"option of {plugin.kind[:-1]} {plugin.name!r}:", name, known)
        expected = _type_of(factory, name)
        key = f"{plugin.kind[:-1]}.{plugin.name}.{name}"
        known_value = get_origin(expected) is not Literal or value in get_args(expected)
        if isinstance(value, str) and not known_value and not LIKE_A_KEY.search(value):
            raise UnknownNameError(f"value of {key}:", value, get_args(expected))
        if not _fits(value, expected):
            default = parameters[name].default
            raise UsageError(f"{key} takes {_described(expected)}, not {shown(value)}; the default is {default!r}.")


def options_of(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """The options that a user may set: keyword arguments that milr does not give itself."""
    parameters = inspect.signature(factory).parameters.values() if callable(factory) else ()
    return [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in GIVEN_BY_MILR]


def _type_of(factory: Callable[..., Any], parameter: str) -> Any:
    """The annotated type of one parameter; Any where it cannot be known: names that only type checkers import."""
    function: Any = factory.__init__ if inspect.isclass(factory) else factory
    alone = type("Alone", (), {"__annotations__": {parameter: function.__annotations__.get(parameter, Any)}})
    try:
        return get_type_hints(alone, globalns=function.__globals__)[parameter]
    except NameError:
        return Any


def _fits(value: Any, expected: Any) -> bool:
    if expected is Any:
        return True
    if get_origin(expected) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(expected))
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if expected is type(None):
        return value is None
    return not isinstance(expected, type) or isinstance(value, expected)


def _described(expected: Any) -> str:
    if get_origin(expected) in (Union, types.UnionType):
        return " or ".join(_described(part) for part in get_args(expected))
    if get_origin(expected) is Literal:
        return ", ".join(str(choice) for choice in get_args(expected))
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", type(None): "null"}
    return names.get(expected, getattr(expected, "__name__", str(expected)))

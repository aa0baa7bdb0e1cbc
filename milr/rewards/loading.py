"""From what a user types to a critic: names, addresses, weights, options, and how several are combined.

geneval            a plugin of group `milr.rewards`
clip=0.4           with a weight
python:mine:warm   with an address: what stands behind the colon, for plugins that take one
http://host:8000   the same: the address of plugin `http` is "//host:8000"
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from milr import plugins
from milr.errors import MilrError, UnknownNameError, UsageError
from milr.rewards.composition import Combine, Composite, Part, Scale
from milr.rewards.contract import Reward

if TYPE_CHECKING:
    from milr.models.base import ModelFacts


@dataclass(frozen=True)
class Named:
    """A critic as it was typed.

    Attributes:
        label: without the weight.
        plugin: the name of the plugin.
        address: what stands behind the colon; None where there is none.
    """

    label: str
    plugin: str
    address: str | None
    weight: float


def parse_reward(text: str) -> Named:
    """The parts of "clip=0.5", "python:mine:warm" or "http://host:8000=2"; the weight is 1 where none is given.

    Raises:
        UsageError: the weight is not a finite number.
    """
    label, equals, weight = text.rpartition("=")
    if not equals:
        label, weight = text, "1"
    plugin, colon, address = label.partition(":")
    number = _finite(weight)
    if number is None:
        raise UsageError(f"the weight of reward {text!r} is not a number; write NAME or NAME=0.5.")
    return Named(label, plugin, address if colon else None, number)


def parse_settings(texts: Sequence[str], option: str, example: str) -> dict[str, str]:
    """{"clip": "0:1"} of ["clip=0:1"]; `option` names where they were typed.

    Raises:
        UsageError: one has another form, or two are for the same critic.
    """
    settings: dict[str, str] = {}
    for text in texts:
        label, _, value = text.rpartition("=")
        if not label or not value:
            raise UsageError(f"{option} {text!r} is not NAME=VALUE; write e.g. {option} {example}.")
        if label in settings:
            raise UsageError(f"{option} is given twice for {label!r}; leave one out.")
        settings[label] = value
    return settings


def parse_gates(texts: Sequence[str], option: str) -> dict[str, float]:
    """{"geneval": 0.0} of ["geneval=0"]; errors as `parse_settings`, and a UsageError for what is not a number."""
    gates = {}
    for label, text in parse_settings(texts, option, "geneval=0").items():
        least = _finite(text)
        if least is None:
            raise UsageError(f"{option} {label}={text}: {text!r} is not a number; write e.g. {option} geneval=0.")
        gates[label] = least
    return gates


def parse_scale(text: str) -> Scale:
    """ "zscore", or (0.0, 1.0) of "0:1".

    Raises:
        UsageError: it is neither.
    """
    if text == "zscore":
        return "zscore"
    low, colon, high = text.partition(":")
    wrong = f"a critic is normalised by zscore or by its range LOW:HIGH, such as 0:1, not by {text!r}."
    if not colon:
        raise UsageError(wrong)
    ends = (_finite(low), _finite(high))
    if ends[0] is None or ends[1] is None or not ends[0] < ends[1]:
        raise UsageError(wrong)
    return ends[0], ends[1]


def load_reward(
    name: str | Sequence[str],
    model: Any = None,
    device: str = "cpu",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    combine: Combine = "sum",
    normalise: Mapping[str, str] | None = None,
    gates: Mapping[str, float] | None = None,
) -> Reward:
    """A critic by name, or several as one.

    Args:
        name: "geneval", "clip=0.4", "python:mine:warm", or a list of such; one that is named twice has both weights.
        model: the loaded model (or its `ModelFacts`) that will be scored; some critics fit themselves to it.
        device: where critics run, unless an option of theirs says otherwise.
        options: plugin options by plugin name, e.g. {"geneval": {"mode": "binary"}}.
        combine: "sum", "min" or "product".
        normalise: "zscore" or "LOW:HIGH" by critic, e.g. {"clip": "0.1:0.4"}.
        gates: the least value by critic, e.g. {"geneval": 0.0}; a critic that is not in `name` only guards.

    Raises:
        UnknownNameError: no such reward, or no such option.
        UsageError: the reward cannot be loaded here; the message says what to install.
    """
    if combine not in get_args(Combine):
        raise UnknownNameError("combination of critics:", combine, get_args(Combine))
    scales = {label: parse_scale(text) for label, text in (normalise or {}).items()}
    gates = gates or {}
    named = _added_up([parse_reward(text) for text in ([name] if isinstance(name, str) else name)])
    if not named:
        raise UsageError("no critic is named; give one, e.g. 'geneval'.")
    labels = [each.label for each in named]
    guards = [parse_reward(label + "=0") for label in gates if label not in labels]
    for label in scales:
        if label not in labels:
            raise UsageError(f"there is no critic {label!r} to normalise; the critics are {', '.join(labels)}.")
    parts = [
        Part(
            each.label,
            _load(each, model, device, options or {}),
            each.weight,
            scales.get(each.label),
            gates.get(each.label),
        )
        for each in [*named, *guards]
    ]
    if len(parts) == 1 and parts[0].weight == 1.0 and parts[0].scale is None and parts[0].gate is None:
        return parts[0].reward
    return Composite(parts, combine)


def _added_up(named: Sequence[Named]) -> list[Named]:
    """Each critic once, with the weights of all its mentions."""
    once: dict[str, Named] = {}
    for each in named:
        before = once[each.label].weight if each.label in once else 0.0
        once[each.label] = replace(each, weight=before + each.weight)
    return list(once.values())


def _load(named: Named, model: Any, device: str, options: Mapping[str, Mapping[str, Any]]) -> Reward:
    """One critic, its options checked."""
    facts: ModelFacts | None = getattr(model, "facts", model)
    plugin = plugins.find("rewards", named.plugin)
    factory = plugin.load()
    chosen = dict(options.get(named.plugin, {}))
    plugins.check_options(plugin, factory, chosen)
    if "device" in chosen:
        chosen["device"] = _resolved(chosen["device"])
    parameters = inspect.signature(factory).parameters
    given: dict[str, Any] = {"facts": facts, "device": device}
    if "reader" in parameters:
        given["reader"] = model if model is not facts else None
    if named.address is not None:
        if "address" not in parameters:
            raise UsageError(f"reward {named.plugin!r} takes no address; write {named.plugin!r}, not {named.label!r}.")
        given["address"] = named.address
    return _made(plugin, factory, given | chosen)


def _resolved(device: str) -> str:
    from milr.models.loading import resolve_device  # transformers is slow to import

    return str(resolve_device(device))


def _made(plugin: plugins.Plugin, factory: Any, arguments: Mapping[str, Any]) -> Reward:
    """The critic of a plugin; whatever its constructor raises by mistake is a sentence about the plugin."""
    try:
        reward = factory(**arguments)
    except MilrError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"reward {plugin.name!r} ({plugin.origin}) is broken: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(reward, Reward):
        raise UsageError(f"reward {plugin.name!r} ({plugin.origin}) is broken: it is no milr.rewards.Reward.")
    lacking = [name for name in ("name", "version") if not hasattr(reward, name)]
    if lacking:
        raise UsageError(f"reward {plugin.name!r} ({plugin.origin}) is broken: it has no {lacking[0]!r}.")
    return reward


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

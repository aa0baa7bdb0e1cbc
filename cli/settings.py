"""Which value holds: that of the command line, else of --config, of --preset, of the run that is resumed, the default.

All layers are flat mappings from option names ("steps", "keep_steps") and plugin options ("method.milr.lr") to values.
A resumed run lends its values only where nothing else was said; `run_identity` refuses those that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from click.core import ParameterSource

from milr import plugins
from milr.errors import UnknownNameError, UsageError

from .arguments import SET_KINDS, parse_set, parse_value, split_key

Layer = dict[str, Any]

# Options that say how pictures are made; with plugin options, they are a run's configuration.
CONFIGURING = frozenset(
    {"model", "dtype", "quantize", "reward", "method", "steps", "samples", "images", "seed", "target", "budget", "keep"}
    | {"guidance", "temperature", "reasoning_temperature", "combine", "normalise", "gate"}
    | {"benchmark", "protocol", "categories", "limit", "shard"}
)
# What is done beside drawing: remembered, and may change.
_BESIDE = ("judge", "held_out", "controls", "track")
# Those of them that name critics.
_OF_CRITICS = ("reward", "normalise", "gate")
# Options that stand for an option of the chosen method.
METHOD_SHORTHANDS = frozenset({"order", "perturb"})
NOT_IN_A_FILE = frozenset({"config", "set", "help", "resume"})


@dataclass(frozen=True)
class Settings:
    """The values that hold.

    Attributes:
        values: by option name, plugin options among them.
        said: the names of those that the user gave, by whatever means, rather than a resumed run or the defaults.
    """

    values: Mapping[str, Any]
    said: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def configuration(self) -> Layer:
        """All that decides the pictures, by name."""
        deciding = {name: value for name, value in self.values.items() if name in CONFIGURING or _decides(name)}
        return deciding | {name: [without_address(text) for text in deciding.get(name, [])] for name in _OF_CRITICS}

    def incidental(self) -> Layer:
        """What decides no picture, by name: a run remembers it, and may go on with something else.

        Plugin options that say where and how fast, and the critics with the addresses at which they are reached.
        """
        options = {name: value for name, value in self.values.items() if "." in name and not _decides(name)}
        options |= {name: self.values[name] for name in _BESIDE if self.values.get(name)}
        critics = {name: self.values[name] for name in _OF_CRITICS if self.values.get(name)}
        return options | {name: texts for name, texts in critics.items() if any(map(_has_address, texts))}

    def said_configuration(self) -> Layer:
        """The part of `configuration` that the user gave."""
        return {name: value for name, value in self.configuration().items() if name in self.said}

    def given(self, **values: Any) -> Settings:
        """The same with other values; those of another method fall away with it."""
        kept = dict(self.values)
        if values.get("method", kept["method"]) != kept["method"]:
            kept = {name: value for name, value in kept.items() if not name.startswith("method.")}
        return Settings(kept | values, self.said)

    def deciding_options(self) -> Layer:
        """Plugin options that decide a picture or a number, by name: "judge.vqascore.model"."""
        return {name: value for name, value in self.values.items() if "." in name and not _is_incidental(name)}

    def plugin_options(self, kind: str) -> dict[str, dict[str, Any]]:
        """Options of the plugins of a kind ("method", "reward", "judge"), by plugin name."""
        options: dict[str, dict[str, Any]] = {}
        for key, value in self.values.items():
            if "." in key and split_key(key)[0] == kind:
                _, plugin, option = split_key(key)
                options.setdefault(plugin, {})[option] = value
        return options


def command_line_layer(context: click.Context) -> Layer:
    """What was typed."""
    typed = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return typed | dict(parse_set(text) for text in typed.pop("set", []))


def default_layer(context: click.Context) -> Layer:
    """What holds when nobody says anything."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE
    }


def file_layer(context: click.Context, path: Path) -> Layer:
    """The values of a YAML file, checked as if they had been typed.

    Raises:
        UsageError: the file is missing or not a mapping of options, or a value is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read --config {path}: {error.strerror or error}.") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(f"--config {path} is not YAML; write lines such as 'steps: 10'.") from None
    if not isinstance(content, dict):
        raise UsageError(f"--config {path} holds no options; write lines such as 'steps: 10'.")
    named = {str(name): value for name, value in content.items()}
    return checked_layer(context, named, f"--config {path}")


def checked_layer(context: click.Context, values: Mapping[str, Any], source: str) -> Layer:
    """Values from elsewhere, converted and checked by the options of the command.

    Raises:
        UnknownNameError: there is no such option.
        UsageError: a value that the option refuses; `source` names where it stands.
    """
    params = [option for option in context.command.params if option.name not in NOT_IN_A_FILE]
    options = {option.name: option for option in params}
    names = {text.lstrip("-").replace("-", "_"): option.name for option in params for text in option.opts}
    layer: Layer = {}
    for given, value in values.items():
        name = given.replace("-", "_")
        name = names.get(name) or name
        if "." in given:
            split_key(given)
            layer[given] = parse_value(value)
        elif name == "set":
            raise UsageError(f"{source}: write plugin options as keys of their own, such as method.milr.lr: 0.01.")
        elif name not in options:
            known = [option.replace("_", "-") for option in options if option]
            raise UnknownNameError("option", given, known, f"It stands in {source}.")
        elif value is not None:
            layer[name] = _converted(context, options[name], value, source)
    return layer


def _converted(context: click.Context, option: click.Parameter, value: Any, source: str) -> Any:
    texts = [str(item) for item in (value if isinstance(value, list) else [value])]
    if not option.multiple and len(texts) != 1:
        raise UsageError(f"{source}: {option.name} takes one value, not {value!r}.")
    try:
        if option.multiple:
            return [option.type.convert(text, option, context) for text in texts]
        return option.type.convert(texts[0], option, context)
    except click.BadParameter as error:
        raise UsageError(f"{source}: {option.name}: {error.message}") from None


def settle(typed: Layer, file: Layer, preset: Layer, resumed: Layer, defaults: Layer) -> Settings:
    """The values that hold; a preset's options for a method that was not chosen are left out."""
    method = next(layer["method"] for layer in (typed, file, preset, resumed, defaults) if "method" in layer)
    preset = {key: value for key, value in preset.items() if not _is_for_another_method(key, method)}
    said: Layer = {}
    for layer in (preset, file, typed):
        for name, value in layer.items():
            said[f"method.{method}.{name}" if name in METHOD_SHORTHANDS else name] = value
    base = {name: value for name, value in defaults.items() if name not in METHOD_SHORTHANDS} | resumed
    settings = Settings(base | said, frozenset(said))
    for plugin in settings.plugin_options("method"):
        if plugin != method:
            raise UsageError(f"--set method.{plugin}: the method of this run is {method!r}; add --method {plugin}.")
    return settings


def without_address(text: str) -> str:
    """A critic as it enters a run's identity: "http=0.5" of "http://127.0.0.1:8000=0.5", wherever it is reached."""
    label, equals, value = text.rpartition("=") if "=" in text else (text, "", "")
    return f"{label.partition(':')[0]}{equals}{value}" if _has_address(text) else text


def _has_address(text: str) -> bool:
    """Whether an address stands there that says no more than where a critic is."""
    plugin, colon, _ = text.partition(":")
    known = plugins.plugins("rewards")
    return bool(colon) and plugin in known and "address" in known[plugin].load().incidental


def _decides(name: str) -> bool:
    """Whether a plugin option decides pictures."""
    return "." in name and split_key(name)[0] != "judge" and not _is_incidental(name)


def _is_incidental(name: str) -> bool:
    """Whether a plugin option says no more than where and how fast."""
    kind, plugin, option = split_key(name)
    return option in getattr(plugins.find(SET_KINDS[kind], plugin).load(), "incidental", ())


def _is_for_another_method(key: str, method: str) -> bool:
    return key.startswith("method.") and split_key(key)[1] != method

"""The critics of a run: what the options say of them, checked and loaded."""

from __future__ import annotations

from milr import plugins
from milr.errors import UsageError
from milr.models.base import ModelFacts, UnifiedModel
from milr.rewards import Reward, load_reward, parse_gates, parse_reward, parse_scale, parse_settings

from .settings import Settings


def check_critics(settings: Settings) -> None:
    """Names, settings and options of all critics, before a model is loaded.

    Raises:
        UsageError: something that is said of critics cannot be.
    """
    for scale in _normalise(settings).values():
        parse_scale(scale)
    options = settings.plugin_options("reward")
    labels = [*settings["reward"], *_gates(settings)]
    for name in dict.fromkeys([parse_reward(text).plugin for text in labels] + list(options)):
        plugin = plugins.find("rewards", name)
        plugins.check_options(plugin, plugin.load(), options.get(name, {}))


def critic_names(settings: Settings, model: UnifiedModel) -> list[str]:
    """The critics of the run, as they were given, or the model's default one.

    Raises:
        UsageError: there is none, or options are given for one that has no part in the run.
    """
    names = list(settings["reward"]) or [model.facts.default_reward or ""]
    if not names[0]:
        raise UsageError(
            f"model {model.facts.name!r} has no default critic; give --reward NAME, see milr list rewards."
        )
    used = {parse_reward(text).plugin for text in [*names, *_gates(settings)]}
    unused = settings.plugin_options("reward").keys() - used
    if unused:
        name = min(unused)
        raise UsageError(f"--set reward.{name}: the critic of this run is {' + '.join(names)}; add --reward {name}.")
    return names


def load_critics(settings: Settings, names: list[str], model: UnifiedModel) -> Reward:
    """The critics of the run as one.

    Raises:
        UsageError: one cannot be loaded, or they do not fit together.
    """
    return load_reward(
        names,
        model,
        str(model.device),
        settings.plugin_options("reward"),
        combine=settings["combine"],
        normalise=_normalise(settings),
        gates=_gates(settings),
    )


def facts_of_pictures_by(model: str) -> ModelFacts:
    """What critics want to know of a model whose weights are not loaded: who it is.

    Raises:
        UnknownNameError: there is no model of that name.
    """
    known = plugins.find("models", model).load()
    return ModelFacts(
        name=known.name,
        resolution=known.resolution,
        licence=known.licence,
        hidden_size=0,
        image_tokens=0,
        text_vocabulary=0,
        image_vocabulary=0,
        grid=(0, 0),
        context_length=0,
    )


def _normalise(settings: Settings) -> dict[str, str]:
    return parse_settings(settings["normalise"], "--normalise", "clip=0:1")


def _gates(settings: Settings) -> dict[str, float]:
    return parse_gates(settings["gate"], "--gate")

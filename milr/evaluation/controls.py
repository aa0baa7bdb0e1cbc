"""The controls beside every result: the same prompts, noise, critic and image budget, with something taken away.

base               the model draws from the prompt alone: no reasoning, no search
reason-only        the model reasons, then draws: the first picture of every search
best-of-n          fresh pictures, nothing learned, stopping where the method stops
resample           nothing learned: the latents of the best first picture stay in place, the rest is drawn again
random-direction   the method's steps in random directions

Each is a run folder of its own in the folder of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from milr import plugins

CONTROLS_FOLDER = "controls"  # of the run's

_ONE_PICTURE = {"method": "best-of-n", "steps": 0, "samples": 1, "budget": None, "keep": "best"}

CONTROLS: dict[str, Mapping[str, Any]] = {
    "base": {**_ONE_PICTURE, "method.best-of-n.reasoning": False},
    "reason-only": {**_ONE_PICTURE, "method.best-of-n.reasoning": True},
    "best-of-n": {"method": "best-of-n", "keep": "best"},
    "resample": {"method": "resample"},
    "random-direction": {"method": "random-direction"},
}
UNSEARCHED = frozenset({"base", "reason-only"})  # rows in which no critic chooses anything


def control_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a control, by option name: what differs from those of the run, and the options of its method.

    What the run says of its own method ("method.milr.text_ratio") holds for a control's method too, where it takes
    such an option. Rows of one picture a search have as many pictures decoded together as the run has.
    """
    chosen = dict(CONTROLS[name])
    if name in UNSEARCHED and settings.get("batch"):
        chosen["batch"] = settings["batch"] * settings["samples"]
    method, own = chosen["method"], f"method.{settings['method']}."
    known = {option.name for option in plugins.options_of(plugins.find("methods", method).load())}
    if name not in UNSEARCHED:
        for key, value in settings.items():
            option = key.removeprefix(own)
            if key.startswith(own) and option in known:
                chosen[f"method.{method}.{option}"] = value
    return chosen


def most_pictures(settings: Mapping[str, Any]) -> int:
    """The most that one search decodes: step 0 is always drawn, and no further step that would exceed the budget."""
    samples, budget = settings["samples"], settings["budget"]
    steps = 1 + settings["steps"]
    return int(samples * (steps if budget is None else min(steps, max(1, budget // samples))))


def controls_of(method: str) -> list[str]:
    """The controls of a method; it is not its own."""
    return [name for name in CONTROLS if name != method]

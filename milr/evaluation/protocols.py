"""Protocols: all settings of an evaluation under one name, so that two numbers with the same name mean the same.

    paper      as MILR was published (arXiv 2509.22761): its own settings, one picture a prompt, and the critic is the
               judge: an oracle
    official   as the benchmark is meant: its own number of pictures a prompt, and a critic that is no kin of the judge

Options given beside a protocol override it; results name with the protocol all that makes a number another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from milr.evaluation.contract import Benchmark, Role
from milr.presets import PAPER
from milr.prompts import Prompt
from milr.rewards import parse_reward

# What nobody asked for, in either.
_WHOLE: dict[str, Any] = {"limit": None, "categories": None}
_PLAIN: dict[str, Any] = {
    "budget": None,
    "target": None,
    "combine": "sum",
    "normalise": [],
    "gate": [],
    "quantize": None,
}

PROTOCOLS: dict[str, dict[str, Any]] = {"paper": {**PAPER, "images": 1}, "official": {}}


def is_oracle(protocol: str | None) -> bool:
    """Whether the judge itself steers."""
    return protocol == "paper"


def departures(
    protocol: str, settings: Mapping[str, Any], plugin_options: Mapping[str, Any], benchmark: Benchmark, judge: Role
) -> dict[str, Any]:
    """What is not the protocol's, by option name.

    Args:
        settings: of the run, by option name.
        plugin_options: those of methods, critics and judges that decide a number, by name: "method.milr.lr".
        judge: the benchmark's own, which in an oracle's protocol is the critic as well.
    """
    own = {"images": benchmark.images_per_prompt, **_WHOLE, **PROTOCOLS[protocol]}
    kinds = ["judge"]
    if is_oracle(protocol):
        own |= _PLAIN
        kinds += ["method", "reward"]
    changed = {name: settings[name] for name, value in own.items() if settings.get(name, value) != value}
    plugin = parse_reward(judge.critic).plugin
    own |= {f"{kind}.{plugin}.{name}": it for kind in ("judge", "reward") for name, it in judge.options.items()}
    others = {name: value for name, value in plugin_options.items() if name.partition(".")[0] in kinds}
    return changed | {name: value for name, value in others.items() if name not in own or own[name] != value}


def paper_targets(benchmark: Benchmark, prompts: Sequence[Prompt]) -> Mapping[str, float]:
    """The score from which a search is done, by prompt id, as far as the published protocol has its own."""
    targets = benchmark.paper_targets
    return {prompt.id: targets[prompt.metadata["tag"]] for prompt in prompts if prompt.metadata["tag"] in targets}

"""Protocols: all settings of an evaluation under one name, so that two numbers with the same name mean the same.

    paper      as MILR was published (arXiv 2509.22761): its own settings, one picture a prompt, and the critic is the
               judge: an oracle
    official   as the benchmark is meant: its own number of pictures a prompt, and a critic that is no kin of the judge

Options given beside a protocol override it; results name them with the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from milr.evaluation.contract import Benchmark
from milr.presets import PAPER
from milr.prompts import Prompt

PROTOCOLS: dict[str, dict[str, Any]] = {"paper": {**PAPER, "images": 1}, "official": {}}


def is_oracle(protocol: str | None) -> bool:
    """Whether the judge itself steers."""
    return protocol == "paper"


def departures(protocol: str, settings: Mapping[str, Any], benchmark: Benchmark) -> dict[str, Any]:
    """The settings that are not the protocol's, by option name."""
    own = {"images": benchmark.images_per_prompt, **PROTOCOLS[protocol]}
    return {name: settings[name] for name, value in own.items() if settings.get(name, value) != value}


def paper_targets(benchmark: Benchmark, prompts: Sequence[Prompt]) -> Mapping[str, float]:
    """The score from which a search is done, by prompt id, as far as the published protocol has its own."""
    targets = benchmark.paper_targets
    return {prompt.id: targets[prompt.metadata["tag"]] for prompt in prompts if prompt.metadata["tag"] in targets}

"""Who judges and who steers: roles that can be filled, and never by kin."""

from __future__ import annotations

import inspect
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest

from milr.evaluation.contract import Benchmark, Role
from milr.rewards import Reward
from milr_benchmarks.geneval import GenEval
from milr_benchmarks.geneval2 import GenEval2
from milr_benchmarks.scenes.plugin import Scenes
from milr_benchmarks.t2i_compbench import T2ICompBench
from milr_benchmarks.wise import Wise, WiseVerified
from milr_rewards import geneval
from milr_rewards.compbench.blip_vqa import BlipVqa
from milr_rewards.compbench.by_category import ByCategory
from milr_rewards.judge import Judge
from milr_rewards.mixed import Mixed
from milr_rewards.soft_tifa import SoftTifa
from milr_rewards.unified_reward import UnifiedReward
from milr_rewards.vqascore import VqaScore

CLASSES = (
    *(geneval.GenEval, geneval.ScenesJudge, geneval.ScenesThird, BlipVqa, ByCategory, Judge, Mixed, SoftTifa),
    *(UnifiedReward, VqaScore),
)
PLUGINS: dict[str, Any] = {plugin.name: plugin for plugin in CLASSES}


def made(role: Role, facts: Any) -> Reward:
    """The critic of a role, whose weights are not loaded."""
    name, _, address = role.critic.partition(":")
    options = dict(role.options) | ({"address": address, "cache": "none"} if address else {})
    assert options.keys() <= inspect.signature(PLUGINS[name]).parameters.keys()
    return PLUGINS[name](facts=facts, **options)


@pytest.mark.parametrize("model", [None, "mini", "janus-pro-7b"])
@pytest.mark.parametrize("kind", [GenEval, GenEval2, Scenes, T2ICompBench, Wise, WiseVerified])
def test_no_two_roles_are_kin(kind: type[Benchmark], model: str | None) -> None:
    facts: Any = model and SimpleNamespace(name=model)
    roles = kind().roles(facts)
    critics = [made(role, facts) for role in (roles.judge, roles.critic, roles.held_out)]
    for one, other in combinations(critics, 2):
        assert not one.kin & other.kin, f"{one.name} and {other.name} both look with {one.kin & other.kin}"

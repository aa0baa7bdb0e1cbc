"""The critics of an evaluation in their roles: who steers where nobody says so, who judges, who is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from milr.errors import UsageError
from milr.evaluation.contract import Benchmark, Role, Roles
from milr.evaluation.judging import Judge
from milr.evaluation.protocols import is_oracle
from milr.models.base import ModelFacts, UnifiedModel
from milr.models.loading import resolve_device
from milr.prompts import Prompt
from milr.rewards import Reward, check_prompt, load_reward, parse_reward

from .settings import Settings, without_address


@dataclass(frozen=True)
class Judges:
    """Who reports.

    Attributes:
        held_out: None where nobody but the judge does.
    """

    judge: Judge
    held_out: Judge | None

    @property
    def all(self) -> list[Judge]:
        """The judge first."""
        return [self.judge, *([self.held_out] if self.held_out else [])]


def with_critic(settings: Settings, facts: ModelFacts, benchmark: Benchmark) -> Settings:
    """The settings, with the critic that the benchmark and the protocol say where none is named."""
    if settings["reward"]:
        return settings
    roles = benchmark.roles(facts)
    role = roles.judge if is_oracle(settings["protocol"]) else roles.critic
    plugin = parse_reward(role.critic).plugin
    options = {f"reward.{plugin}.{name}": value for name, value in role.options.items()}
    return settings.given(reward=[role.critic], **{name: settings.values.get(name, options[name]) for name in options})


def load_judges(
    settings: Settings, roles: Roles, model: UnifiedModel | ModelFacts | None, device: str, critic: Reward | None
) -> Judges:
    """The judges of an evaluation.

    Args:
        model: whose pictures they judge, or its facts; None when nobody knows.
        critic: that steers; None for pictures made elsewhere.

    Raises:
        UsageError: one cannot be loaded, or the two are one.
    """
    judge = _load("judge", roles.judge, settings, model, device)
    wanted = settings["held_out"]
    where_it_matters = settings.values.get("controls") or (critic is not None and is_kin(critic, judge))
    if wanted == "none" or not (wanted or where_it_matters):
        return Judges(judge, None)
    held_out = _load("held_out", roles.held_out, settings, model, device)
    if held_out.name == judge.name:
        raise UsageError(f"{judge.name} is the judge already; name another --held-out, or none.")
    return Judges(judge, held_out)


def is_kin(critic: Reward, judge: Judge) -> bool:
    """Whether a critic looks with what a judge looks with."""
    return bool(critic.kin & judge.reward.kin)


def check_judges(judges: Sequence[Judge], prompts: Sequence[Prompt]) -> None:
    """Refuse, before anything starts, prompts that a judge cannot judge; errors as `check_prompt`."""
    for judge in judges:
        for prompt in prompts:
            check_prompt(judge.reward, prompt)


def _load(option: str, usual: Role, settings: Settings, model: UnifiedModel | ModelFacts | None, device: str) -> Judge:
    role = Role(settings[option]) if settings[option] else usual
    named = parse_reward(role.critic)
    if named.weight != 1:
        raise UsageError(f"--{option.replace('_', '-')} {role.critic}: a judge has no weight; write {named.label}.")
    options = {**role.options, **settings.plugin_options("judge").get(named.plugin, {})}
    return Judge(
        role.title or without_address(role.critic),
        load_reward(role.critic, model, str(resolve_device(device)), {named.plugin: options}),
    )

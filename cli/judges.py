"""The critics of an evaluation in their roles: who steers where nobody says so, who judges, who is held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click

from milr import plugins
from milr.errors import UsageError
from milr.evaluation.contract import Benchmark, Role, Roles
from milr.evaluation.judgements import Judgement
from milr.evaluation.judging import Judge
from milr.evaluation.protocols import is_oracle
from milr.models import check_name
from milr.models.base import ModelFacts, UnifiedModel
from milr.models.loading import resolve_device
from milr.prompts import Prompt
from milr.rewards import Reward, check_prompt, load_reward, parse_reward

from .critics import facts_of_pictures_by
from .settings import Settings, without_address


@dataclass(frozen=True)
class Judges:
    """Who reports.

    Attributes:
        held_out: None where nobody but the judge does.
        unasked: nobody has named the held-out one.
    """

    judge: Judge
    held_out: Judge | None
    unasked: bool = False

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


@contextmanager
def origin_of_critic(asked: Settings, settings: Settings, benchmark: Benchmark) -> Iterator[None]:
    """Says where a critic comes from that nobody has named, and that cannot be had.

    Args:
        asked, settings: before and after `with_critic`.

    Raises:
        UsageError: the critic's, with that.
    """
    try:
        yield
    except UsageError as error:
        (critic, *_) = settings["reward"]
        if not asked["reward"] and str(error).startswith(f"reward {parse_reward(critic).plugin!r}"):
            error.args = (
                f"{error} It steers {benchmark.name} where nobody says otherwise: --reward NAME takes another.",
            )
        raise


def names_of_judges(settings: Settings, benchmark: Benchmark) -> list[str]:
    """Who would judge, as far as names tell: which weights a critic shares with a judge is not known before they load.

    Raises:
        UsageError: no such model or judge, or the two judges are one.
    """
    check_name(settings["model"])
    known = settings["model"] in plugins.plugins("models")
    roles = benchmark.roles(facts_of_pictures_by(settings["model"]) if known else None)
    judge = _name(settings["judge"], roles.judge)
    steers = parse_reward(judge).plugin in [parse_reward(text).plugin for text in settings["reward"]]
    expected = settings["held_out"] or settings["controls"] or is_oracle(settings["protocol"]) or steers
    if not expected or settings["held_out"] == "none":
        return [judge]
    held_out = _name(settings["held_out"], _other_judge(roles, judge))
    _check_other(judge, held_out)
    return [judge, held_out]


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
    where_it_matters = settings.values.get("controls") or (critic is not None and is_kin(critic.kin, judge))
    if wanted == "none" or not (wanted or where_it_matters):
        return Judges(judge, None)
    held_out = _load("held_out", _other_judge(roles, judge.name), settings, model, device)
    _check_other(judge.name, held_out.name)
    return Judges(judge, held_out, unasked=not wanted)


def _other_judge(roles: Roles, judge: str) -> Role:
    """Who is held out where nobody is named."""
    return roles.judge if judge == roles.held_out.name else roles.held_out


def _name(given: str | None, usual: Role) -> str:
    if given:
        plugins.find("rewards", parse_reward(given).plugin)
    return without_address(given) if given else usual.name


def _check_other(judge: str, held_out: str) -> None:
    if held_out == judge:
        raise UsageError(f"{judge} is the judge already; name another --held-out, or none.")


def is_kin(critic: Iterable[str], judge: Judge) -> bool:
    """Whether a judge looks with something of what a critic looks with, by the critic's `kin`."""
    return not judge.reward.kin.isdisjoint(critic)


def check_judges(judges: Judges, prompts: Sequence[Prompt]) -> None:
    """Refuse, before anything starts, prompts that a judge cannot judge; errors as `check_prompt`."""
    for judge in judges.all:
        with _in_the_role_of_judge(unasked=judge is judges.held_out and judges.unasked):
            for prompt in prompts:
                check_prompt(judge.reward, prompt)


def tell_failures(judgements: Iterable[Judgement]) -> None:
    """Say why each judge could not judge, by the first of its failures."""
    first: dict[str, Judgement] = {}
    for each in judgements:
        if each.value is None:
            first.setdefault(each.judge, each)
    for name, each in first.items():
        click.echo(f"milr: {name} could not judge {each.id}: {each.error}", err=True)


def _load(option: str, usual: Role, settings: Settings, model: UnifiedModel | ModelFacts | None, device: str) -> Judge:
    role = Role(settings[option]) if settings[option] else usual
    named = parse_reward(role.critic)
    if named.weight != 1:
        raise UsageError(f"--{option.replace('_', '-')} {role.critic}: a judge has no weight; write {named.label}.")
    options = {**role.options, **settings.plugin_options("judge").get(named.plugin, {})}
    with _in_the_role_of_judge(unasked=option == "held_out" and not settings[option]):
        reward = load_reward(role.critic, model, str(resolve_device(device)), {named.plugin: options})
    return Judge(role.title or without_address(role.critic), reward)


@contextmanager
def _in_the_role_of_judge(unasked: bool = False) -> Iterator[None]:
    """A critic advises `--set reward.NAME`, which does not reach a judge; an unasked held-out judge can be left out."""
    try:
        yield
    except UsageError as error:
        without = " It is the held-out judge: --held-out none does without, --held-out NAME takes another."
        error.args = (str(error).replace("--set reward.", "--set judge.") + (without if unasked else ""),)
        raise

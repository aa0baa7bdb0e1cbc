"""The search: ask, decode, score, tell; until the steps, the budget or the target of each prompt is reached.

`refine` is a generator of events and touches no file: progress bars, run folders and reports listen to it. Up to
`batch` searches (one per prompt and image) travel in one decode; a search that ends leaves its slot to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from milr import plugins
from milr.decoding import Engine, Request, Rollout, Sampling, Undeveloped
from milr.errors import UnknownNameError, UsageError
from milr.events import Best, Event, Failed, Finished, Progress, Started, Step, Stepped
from milr.latents import prefix_length
from milr.methods.base import Method
from milr.models.base import UnifiedModel
from milr.noise import NoiseSource
from milr.policy import policy_of
from milr.prompts import Prompt
from milr.rewards import CachedReward, Memory, Reward, Score, check_prompt, score_safely, settle_safely, total_cost
from milr.slots import Slots


@dataclass
class _Search:
    """The mutable state of one prompt and image while it holds a slot."""

    prompt: Prompt
    image_index: int
    noise: NoiseSource
    method: Method
    progress: Progress | None
    steps_done: int = 0
    seconds: float = 0.0
    memory: Memory = field(default_factory=dict)  # the critic's


def refine(
    model: UnifiedModel,
    prompts: Sequence[Prompt],
    reward: Reward,
    method: str = "milr",
    *,
    steps: int = 20,
    samples: int = 4,
    images: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    batch: int | None = None,
    overlap: bool = False,
    target: float | Mapping[str, float] | None = None,
    budget: float | None = None,
    keep: str = "best",
    method_options: Mapping[str, Any] | None = None,
    skip: frozenset[tuple[str, int]] = frozenset(),
    resume: Mapping[tuple[str, int], Progress] | None = None,
) -> Generator[Event, None, None]:
    """Searches the latents of each prompt, and tells what happens as it happens.

    A search decodes `samples` x (1 + `steps`) pictures at most: step 0 is the model as it is.

    Args:
        images: pictures wanted per prompt, each from a search of its own.
        sampling: how tokens are drawn; the model's defaults when not given.
        batch: searches that travel together; what fits into memory when not given.
        overlap: score one half of them while the other half is decoded. Worth it with critics that take longer than
            decoding, such as one behind a network: two halves take longer to decode than one whole.
        target: the reward at which a search is done, or one by prompt id; the critic's own where none is given. NaN for
            none at all.
        budget: pictures that one search may decode; a step that would exceed it is not begun.
        keep: "best" returns the best picture seen; "last" the latest one, as the published code does.
        skip: (prompt id, image index) pairs that are done already.
        resume: where interrupted searches stand.

    Raises:
        UsageError: a prompt that the model or the critic cannot take, an unknown method or option; before any work.
    """
    for name, value, least in (
        ("steps", steps, 0),
        ("samples", samples, 1),
        ("images", images, 1),
        ("batch", 1 if batch is None else batch, 1),
    ):
        if type(value) is not int or value < least:
            raise UsageError(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    if keep not in ("best", "last"):
        raise UnknownNameError("keep", str(keep), ("best", "last"))
    if budget is not None and not budget >= 1:
        raise UsageError(f"budget is {budget!r}; it must be at least 1 picture.")
    reward = CachedReward(reward)
    sampling = sampling or default_sampling(model)
    for prompt in prompts:
        model.check_prompt(prompt.text)
        check_prompt(reward, prompt)
    make_method = method_factory(model, method, sampling, steps, samples, method_options or {})
    waiting = [(prompt, index) for prompt in prompts for index in range(images) if (prompt.id, index) not in skip]
    searches = (
        _Search(prompt, index, noise, make_method(noise), (resume or {}).get((prompt.id, index)))
        for prompt, index in waiting
        for noise in [NoiseSource.of(seed, prompt.id, index)]
    )

    engine = Engine.of(model)
    batch = batch or searches_at_once(engine, samples)

    def begin(search: _Search) -> Event:
        if search.progress is not None:
            _continue(search, search.progress, model.device)
        return Started(search.prompt, search.image_index, search.steps_done)

    def ending(search: _Search) -> Event | None:
        wanted = target.get(search.prompt.id) if isinstance(target, Mapping) else target
        why = _reason_to_stop(search, steps, samples, reward.target if wanted is None else wanted, budget)
        return None if why is None else _ending(search, why)

    slots = Slots(
        begin,
        ending,
        decode=lambda group: _decode(engine, group, sampling),
        score=lambda decoded: _score(engine, decoded, reward),
        tell=lambda group, scored: _tell_all(group, scored, reward, keep),
    )
    return slots.run(searches, batch, overlap, model.device)


def searches_at_once(engine: Engine, samples: int) -> int:
    """How many searches of so many samples an engine decodes together."""
    return max(1, engine.rows // samples)


def default_sampling(model: UnifiedModel) -> Sampling:
    """How the model likes to be sampled."""
    facts = model.facts
    return Sampling(facts.guidance, facts.temperature, facts.reasoning_temperature, facts.max_reasoning_tokens)


def method_factory(
    model: UnifiedModel, name: str, sampling: Sampling, steps: int, samples: int, options: Mapping[str, Any]
) -> Callable[[NoiseSource], Method]:
    """A maker of methods, one per search, whose options have been checked.

    Raises:
        UsageError: an unknown method or option, or a value that the method refuses.
    """
    plugin = plugins.find("methods", name)
    factory = plugin.load()
    plugins.check_options(plugin, factory, options)
    policy = policy_of(model, sampling)

    def make(noise: NoiseSource) -> Method:
        return factory(policy=policy, steps=steps, samples=samples, noise=noise, **options)

    make(NoiseSource.of(0, ""))
    return make


def _continue(search: _Search, progress: Progress, device: torch.device) -> None:
    """Puts a search where it stood when it was interrupted."""
    search.steps_done = progress.steps_done
    search.seconds = progress.seconds
    search.memory = {name: list(values) for name, values in progress.memory.items()}
    state = {name: tensor.to(device) for name, tensor in progress.method_state.items()}
    search.method.restore(state, progress.steps_done)


def _reason_to_stop(
    search: _Search, steps: int, samples: int, target: float | None, budget: float | None
) -> str | None:
    if search.progress is None:
        return None  # step 0 is always drawn
    best = search.progress.best.reward
    if best is not None and target is not None and best >= target:
        return "target"
    if search.steps_done > steps:
        return "steps"
    if budget is not None and search.progress.images_decoded + samples > budget:
        return "budget"
    return None


def _ending(search: _Search, why: str) -> Event:
    assert search.progress is not None
    if search.progress.best.reward is None:
        error = search.progress.best.reason or "no picture could be scored"
        return Failed(search.prompt, search.image_index, error, search.progress)
    return Finished(search.prompt, search.image_index, search.progress, why)


@dataclass(frozen=True)
class _Decoded:
    """One step of some searches, drawn but not developed; `counts` says how many rollouts each search has."""

    drawn: list[Undeveloped]
    counts: list[int]
    seconds: float


@dataclass(frozen=True)
class _Scored:
    """The same with pictures and scores; `seconds` is each search's share of the work."""

    rollouts: list[Rollout]
    scores: list[Score]
    counts: list[int]
    seconds: float


def _decode(engine: Engine, running: Sequence[_Search], sampling: Sampling) -> _Decoded:
    """The next step of searches, decoded as one batch."""
    began = time.perf_counter()
    asked = [search.method.ask() for search in running]
    requests = [
        Request(search.prompt, search.noise, proposal)
        for search, proposals in zip(running, asked, strict=True)
        for proposal in proposals
    ]
    keep_states = max(prefix_length(search.method.image_ratio, engine.model.facts.image_tokens) for search in running)
    drawn = engine.decode_tokens(requests, sampling, keep_states)
    return _Decoded(drawn, [len(proposals) for proposals in asked], time.perf_counter() - began)


def _score(engine: Engine, decoded: _Decoded, reward: Reward) -> _Scored:
    """Pictures and their scores."""
    began = time.perf_counter()
    rollouts = engine.develop(decoded.drawn)
    scores = score_safely(reward, [rollout.image for rollout in rollouts], [rollout.prompt for rollout in rollouts])
    seconds = decoded.seconds + time.perf_counter() - began
    return _Scored(rollouts, scores, decoded.counts, seconds / len(decoded.counts))


def _tell_all(running: Sequence[_Search], scored: _Scored, reward: Reward, keep: str) -> Iterator[Event]:
    first = 0
    for search, count in zip(running, scored.counts, strict=True):
        rows = slice(first, first + count)
        first += count
        scores = settle_safely(reward, scored.scores[rows], search.memory)
        yield _tell(search, scored.rollouts[rows], scores, scored.seconds, keep)


def _tell(search: _Search, rollouts: list[Rollout], scores: list[Score], seconds: float, keep: str) -> Stepped:
    facts = search.method.tell(rollouts, [score.value for score in scores])
    step = Step(search.steps_done, rollouts, scores, facts, seconds)
    search.steps_done += 1
    search.seconds += seconds
    before = search.progress
    best, improved = _better(before.best if before else None, step, keep)
    search.progress = Progress(
        best=best,
        steps_done=search.steps_done,
        images_decoded=(before.images_decoded if before else 0.0) + len(rollouts),
        initial_reward=before.initial_reward if before else scores[0].value,
        seconds=search.seconds,
        cost=total_cost([before.cost if before else {}, *(score.cost for score in scores)]),
        memory={name: list(values) for name, values in search.memory.items()},
        method_state=search.method.state(),
    )
    return Stepped(search.prompt, search.image_index, step, search.progress, improved)


def _better(best: Best | None, step: Step, keep: str) -> tuple[Best, bool]:
    """The best picture after a step, and whether it is a new one."""
    improved = False
    for rollout, score in zip(step.rollouts, step.scores, strict=True):
        reason = score.reason if score.error is None else score.error
        new = Best(rollout.image, rollout.reasoning, score.value, reason, step.index, rollout.proposal.sample)
        if best is None or _beats(new.reward, best.reward, keep):
            best, improved = new, True
    assert best is not None
    return best, improved


def _beats(new: float | None, best: float | None, keep: str) -> bool:
    return new is not None and (best is None or new > best or keep == "last")

"""The search: ask, decode, score, tell; until the steps, the budget or the target of each prompt is reached.

`refine` is a generator of events and touches no file: progress bars, run folders and reports listen to it. Up to
`batch` searches (one per prompt and image) travel in one decode; a search that ends leaves its slot to the next.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from milr import plugins
from milr.decoding import Request, Rollout, Sampling, decode_rollouts
from milr.errors import UnknownNameError, UsageError
from milr.latents import prefix_length
from milr.methods.base import Method, State
from milr.models.base import UnifiedModel
from milr.noise import NoiseSource
from milr.policy import policy_of
from milr.prompts import Prompt
from milr.rewards import Reward, Score, check_prompt, score_safely


@dataclass(frozen=True)
class Step:
    """One step of one search, as it stands in a trace.

    Attributes:
        index: 0 is the model as it is.
        scores: one per rollout.
        facts: what the method wants known: loss, gradient norm, ...
        seconds: of this step, its share of the batch.
    """

    index: int
    rollouts: list[Rollout]
    scores: list[Score]
    facts: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Best:
    """The best picture so far.

    `reward` is None while no picture could be scored; then this is the first picture of step 0.
    """

    image: Image.Image
    reasoning: str
    reward: float | None
    reason: str
    step: int
    sample: int


@dataclass(frozen=True)
class Progress:
    """Where a search stands: all it needs, with its method's state, to go on after a kill.

    Attributes:
        steps_done: steps that are scored and told, step 0 included.
        images_decoded: in image budget, i.e. whole pictures.
        initial_reward: of the first picture of step 0.
        seconds: spent so far.
    """

    best: Best
    steps_done: int
    images_decoded: float
    initial_reward: float | None
    seconds: float
    method_state: State = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """Something happened to the search of one prompt and image index."""

    prompt: Prompt
    image_index: int


@dataclass(frozen=True)
class Started(Event):
    """The search took a slot; `steps_done` is above 0 when it goes on after an interruption."""

    steps_done: int


@dataclass(frozen=True)
class Stepped(Event):
    """A step was decoded, scored and learned from."""

    step: Step
    progress: Progress
    improved: bool


@dataclass(frozen=True)
class Finished(Event):
    """The search is over; `why` is "steps", "target" or "budget"."""

    progress: Progress
    why: str


@dataclass(frozen=True)
class Failed(Event):
    """The search ended without a picture that could be scored; `progress` holds the unscored first one."""

    error: str
    progress: Progress | None


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
    batch: int = 8,
    target: float | None = None,
    budget: float | None = None,
    keep: str = "best",
    method_options: Mapping[str, Any] | None = None,
    skip: frozenset[tuple[str, int]] = frozenset(),
    resume: Mapping[tuple[str, int], Progress] | None = None,
) -> Iterator[Event]:
    """Searches the latents of each prompt, and tells what happens as it happens.

    A search decodes `samples` x (1 + `steps`) pictures at most: step 0 is the model as it is.

    Args:
        images: pictures wanted per prompt, each from a search of its own.
        sampling: how tokens are drawn; the model's defaults when not given.
        batch: searches that travel together.
        target: the reward at which a search is done; the critic's own when not given. NaN for none at all.
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
        ("batch", batch, 1),
    ):
        if type(value) is not int or value < least:
            raise UsageError(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    if keep not in ("best", "last"):
        raise UnknownNameError("keep", str(keep), ("best", "last"))
    if budget is not None and not budget >= 1:
        raise UsageError(f"budget is {budget!r}; it must be at least 1 picture.")
    reward_target = reward.target if target is None else target
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

    def reason_to_stop(search: _Search) -> str | None:
        return _reason_to_stop(search, steps, samples, reward_target, budget)

    def advance(running: Sequence[_Search]) -> Iterator[Event]:
        return _advance(model, running, reward, sampling, keep)

    return _run(searches, batch, model.device, reason_to_stop, advance)


def _run(
    searches: Iterator[_Search],
    batch: int,
    device: torch.device,
    reason_to_stop: Callable[[_Search], str | None],
    advance: Callable[[Sequence[_Search]], Iterator[Event]],
) -> Iterator[Event]:
    """Keeps up to `batch` searches running; one that ends leaves its slot to the next between steps."""
    running: list[_Search] = []
    while True:
        for search in itertools.islice(searches, batch - len(running)):
            if search.progress is not None:
                _continue(search, search.progress, device)
            running.append(search)
            yield Started(search.prompt, search.image_index, search.steps_done)
        if not running:
            return
        for search in list(running):
            why = reason_to_stop(search)
            if why is not None:
                running.remove(search)
                yield _ending(search, why)
        if running:
            yield from advance(running)


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


def _advance(
    model: UnifiedModel, running: Sequence[_Search], reward: Reward, sampling: Sampling, keep: str
) -> Iterator[Event]:
    """One step of every running search, decoded and scored as one batch."""
    began = time.perf_counter()
    asked = [search.method.ask() for search in running]
    requests = [
        Request(search.prompt, search.noise, proposal)
        for search, proposals in zip(running, asked, strict=True)
        for proposal in proposals
    ]
    keep_states = max(prefix_length(search.method.image_ratio, model.facts.image_tokens) for search in running)
    rollouts = decode_rollouts(model, requests, sampling, keep_states)
    scores = score_safely(reward, [rollout.image for rollout in rollouts], [rollout.prompt for rollout in rollouts])
    share = (time.perf_counter() - began) / len(running)
    first = 0
    for search, proposals in zip(running, asked, strict=True):
        rows = slice(first, first + len(proposals))
        first = rows.stop
        yield _tell(search, rollouts[rows], scores[rows], share, keep)


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

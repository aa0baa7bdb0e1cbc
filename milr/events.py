"""What a search tells its listeners: progress bars, run folders, trackers and reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from milr.decoding import Rollout
from milr.methods.base import State
from milr.prompts import Prompt
from milr.rewards import Memory, Score

Key = tuple[str, int]  # prompt id, image index: one search


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
        cost: what the scores took so far, where a critic counts: tokens, dollars.
        memory: what the critic keeps of this search.
    """

    best: Best
    steps_done: int
    images_decoded: float
    initial_reward: float | None
    seconds: float
    cost: dict[str, float] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
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

"""The critic `three-in-one`: T2I-CompBench's score of complex prompts, of the three scores that apply.

The mean of BLIP-VQA for the attributes, the 2-D score for spatial relations and CLIP without adjectives for actions:
attributes always count, and of the others what the prompt is about (`3_in_1_eval/3_in_1.py`, arXiv 2307.06350). The
benchmark tells that by looking prompts up in its own lists; here a rule reads it from the text, and agrees with those
lists on all but one of their 300 prompts:

    attributes and space      "was", "is" and the like, right before one of the benchmark's eight relations
    all three                 one of those relations behind another verb: "The cat sat next to the pillow."
    attributes and action     everything else, "hung above" and "in front of" among it

The metadata {"parts": ["attributes", "space", "action"]} says it where the rule is wrong. Neither case nor a full stop
matters; to compare raw prompts with the cleaned lists, as MILR's reference implementation does, is to use all three
scores for every prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.errors import PromptError
from milr.prompts import Prompt
from milr.rewards import Reward, Score, kin_of

from ..networks import open_vocabulary
from ..networks.checkpoints import as_part_of
from . import blip_vqa, clip_score
from .blip_vqa import BlipVqa
from .clip_score import ClipScore
from .relations import CONFIDENT, NEAR
from .spatial import Spatial

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

PARTS = ("attributes", "space", "action")
RULE = 1

_RELATION = r"(?:on (?:the )?side of|next to|near|on the left of|on the right of|on the bottom of|on (?:the )?top of)\b"
_SPATIAL = re.compile(rf"\b{_RELATION}", re.IGNORECASE)
_MERELY = re.compile(rf"\b(?:is|are|was|were)\s+{_RELATION}", re.IGNORECASE)

_OPTIONS = {"blip-vqa.model": "model", "spatial.model": "detector", "clip-score.model": "clip"}


class ThreeInOne(Reward):
    """Mean of `blip-vqa`, `spatial` and `clip-score`, as far as they apply: complex prompts (T2I-CompBench).

    Metadata can say which apply, {"parts": ["attributes", "action"]}, and what those critics read from it.

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the networks run.
        model: BLIP, as in `blip-vqa`.
        revision: branch, tag or commit of it on the hub.
        resolution: pixels, as in `blip-vqa`.
        detector: as `model` in `spatial`.
        detector_revision: branch, tag or commit of it on the hub.
        threshold: of detections, as in `spatial`.
        near: share of the picture, as in `spatial`.
        cut: as in `spatial`.
        clip: as `model` in `clip-score`.
        pretrained: checkpoint of the CLIP, as in `clip-score`.

    Raises:
        UsageError: as those three critics.
    """

    name = "three-in-one"
    range = (-1.0, 1.0)
    checkpoint = f"{blip_vqa.DEFAULT}, {open_vocabulary.DEFAULT}, {ClipScore.checkpoint}"
    licence = f"{BlipVqa.licence}, {Spatial.licence}, {ClipScore.licence}"
    size_mb = BlipVqa.size_mb + Spatial.size_mb + ClipScore.size_mb

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = blip_vqa.DEFAULT,
        revision: str | None = None,
        resolution: int = blip_vqa.RESOLUTION,
        detector: str = open_vocabulary.DEFAULT,
        detector_revision: str | None = None,
        threshold: float = open_vocabulary.THRESHOLD,
        near: float = NEAR,
        cut: float = CONFIDENT,
        clip: str = clip_score.MODEL,
        pretrained: str | None = None,
    ) -> None:
        self.critics: dict[str, Reward] = {
            "attributes": BlipVqa(device=device, model=model, revision=revision, resolution=resolution),
            "space": Spatial(
                device=device,
                model=detector,
                revision=detector_revision,
                threshold=threshold,
                near=near,
                cut=cut,
            ),
            "action": ClipScore(device=device, model=clip, pretrained=pretrained, adjectives=False),
        }
        self.kin = kin_of(self.critics.values())

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE}-" + "+".join(critic.version for critic in self.critics.values())

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that one of the critics refuses, and weights that cannot be used."""
        with as_part_of(self.name, _OPTIONS):
            for part in parts_of(prompt):
                self.critics[part].check(prompt)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        applying = [parts_of(prompt) for prompt in prompts]
        given: list[dict[str, Score]] = [{} for _ in images]
        for part, critic in self.critics.items():
            rows = [index for index, parts in enumerate(applying) if part in parts]
            scores = critic.score([images[index] for index in rows], [prompts[index] for index in rows])
            for index, score in zip(rows, scores, strict=True):
                given[index][part] = score
        return [mean_of(scores) for scores in given]


def parts_of(prompt: Prompt) -> tuple[str, ...]:
    """Which scores apply: those of `metadata["parts"]`, or what the text is about.

    Raises:
        PromptError: the metadata names none of them, or others.
    """
    given = prompt.metadata.get("parts")
    if given is None:
        return parse_parts(prompt.text)
    if not isinstance(given, list | tuple) or not given or not set(given) <= set(PARTS):
        raise PromptError(f'"parts" of {prompt.text!r} must be some of {", ".join(PARTS)}, not {given!r}.')
    return tuple(part for part in PARTS if part in given)


def parse_parts(text: str) -> tuple[str, ...]:
    """Which scores apply to a sentence."""
    if _MERELY.search(text):
        return "attributes", "space"
    return PARTS if _SPATIAL.search(text) else ("attributes", "action")


def mean_of(scores: dict[str, Score]) -> Score:
    """The mean of the scores that apply; without one of them there is no score."""
    failed = [f"{part}: {score.error}" for part, score in scores.items() if score.value is None]
    if failed:
        return Score(None, error="; ".join(failed))
    values = {part: score.value for part, score in scores.items() if score.value is not None}
    details = {f"{part}: {name}": value for part, score in scores.items() for name, value in score.parts.items()}
    reason = "; ".join(f"{part} {value:.2f} ({scores[part].reason})" for part, value in values.items())
    return Score(sum(values.values()) / len(values), values | details, reason)

"""The critic `geneval` and the judge `scenes-judge`: GenEval's rule over what a detector finds in a picture.

What must be in the picture comes from the prompt's metadata in GenEval's form, or is parsed from its text. The
detectors that ship with milr know the scenes that `mini` draws, and nothing else. They find objects and name their
colours in one pass, and their scores mean the same for every prompt: the threshold is 0.3 for counting too (at 0.5,
two or three points of counting are lost on true scenes), where the official detector wants 0.9.

`geneval` steers a search, `scenes-judge` reports on it: another network, another seed, other augmentations. A search
against the judge is an oracle's.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .geneval_rule import grade, grade_dense, likeliest
from .requirements import requirements_of
from .sentences import Requirements
from .vocabulary import COLORS

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

    from .detection import Detection
    from .detector import SceneDetector

MODES = ("dense", "binary")
EMBEDDED = ("scenes-critic", "scenes-judge", "scenes-third")  # the last one is there to check the judge
EMBEDDED_WORLD = "mini"  # the model whose pictures the embedded detectors know
THRESHOLD = 0.3
RULE_VERSION = 1  # raise it when the same detections may score otherwise

_WEIGHTS = Path(__file__).parent / "weights"
_FILE = "model.safetensors"
_log = logging.getLogger(__name__)


class GenEval(Reward):
    """GenEval's rule as a critic: dense (the margin of the weakest clause) or binary (passed or not).

    Args:
        facts: of the model whose pictures are scored.
        device: where the detector runs.
        mode: "dense", in [-1, 1] and greater than 0 for pictures that pass, or "binary", 1 or 0.
        detector: "scenes-critic", "scenes-judge", "scenes-third", a folder with a detector's weights, or "auto": the
            embedded one of this reward, for pictures of `mini` (or when no model is named).

    Raises:
        UsageError: an unknown mode or detector, missing or broken weights, or "auto" for a model that draws more
            than the embedded detectors know.
    """

    name = "geneval"
    licence = "Apache-2.0"
    size_mb = 4.0
    target: float | None = None  # of the dense mode; a binary success is always 1
    embedded = "scenes-critic"

    def __init__(
        self, *, facts: ModelFacts | None = None, device: str = "cpu", mode: str = "dense", detector: str = "auto"
    ) -> None:
        if mode not in MODES:
            raise UnknownNameError(f"mode of reward {self.name!r}:", mode, MODES)
        self.mode = mode
        self.range = (-1.0, 1.0) if mode == "dense" else (0.0, 1.0)
        if mode == "binary":
            self.target = 1.0
        self._device = device
        self._warned: set[tuple[str, ...]] = set()
        self._folder = self._resolve(detector, facts)
        weights = self._folder / _FILE
        if not weights.is_file():
            raise UsageError(f"reward {self.name!r} has no weights: there is no file {str(weights)!r}.")
        content = weights.read_bytes()
        self.size_mb = round(len(content) / 1e6, 1)
        self.version = f"{RULE_VERSION}-{mode}-{hashlib.sha256(content).hexdigest()[:12]}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be graded, and weights that cannot be used; warn of words that go unchecked."""
        unchecked = self._requirements(prompt).unchecked
        if unchecked and unchecked not in self._warned:
            self._warned.add(unchecked)
            _log.warning("%s cannot check %s in %r", self.name, ", ".join(map(repr, unchecked)), prompt.text)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        wanted = [self._requirements(prompt).metadata for prompt in prompts]
        found = self._detector.detect(images)
        dense = self.mode == "dense"
        return [score_objects(objects, metadata, dense=dense) for objects, metadata in zip(found, wanted, strict=True)]

    def _requirements(self, prompt: Prompt) -> Requirements:
        config = self._detector.config
        # A detector may have a name for things in two paints; no prompt asks for that.
        return requirements_of(prompt, config.classes, [name for name in config.colors if name in COLORS])

    @cached_property
    def _detector(self) -> SceneDetector:
        from .detector import SceneDetector

        try:
            return SceneDetector.load(self._folder, self._device)
        except Exception as error:  # torch, safetensors and json each have their own ways to refuse a file
            raise UsageError(
                f"reward {self.name!r} cannot use the weights in {str(self._folder)!r}: {type(error).__name__}: {error}"
            ) from error

    def _resolve(self, detector: str, facts: ModelFacts | None) -> Path:
        if detector == "auto":
            if facts is not None and facts.name != EMBEDDED_WORLD:
                raise UsageError(
                    f"reward {self.name!r} has no detector for pictures of {facts.name!r}: the embedded ones only know "
                    f"the scenes of {EMBEDDED_WORLD!r}. To use one all the same, choose it: "
                    f"--set reward.{self.name}.detector={self.embedded}."
                )
            return _WEIGHTS / self.embedded
        if detector in EMBEDDED:
            return _WEIGHTS / detector
        if not Path(detector).is_dir():
            raise UnknownNameError(
                f"detector of reward {self.name!r}:", detector, ("auto", *EMBEDDED), f"A folder with {_FILE} will do."
            )
        return Path(detector)


class ScenesJudge(GenEval):
    """A judge, to report on pictures that another critic chose: the rule over the other embedded detector.

    Binary unless asked otherwise, since a report counts pictures that pass.
    """

    name = "scenes-judge"
    embedded = "scenes-judge"

    def __init__(
        self, *, facts: ModelFacts | None = None, device: str = "cpu", mode: str = "binary", detector: str = "auto"
    ) -> None:
        super().__init__(facts=facts, device=device, mode=mode, detector=detector)


def score_objects(objects: Mapping[str, Sequence[Detection]], metadata: Mapping[str, Any], *, dense: bool) -> Score:
    """The score of what was found in one picture; the reason is what the rule says is wrong, or "as asked"."""
    verdict = grade(
        objects,
        metadata,
        lambda detection, _: likeliest(_colors(detection)),
        threshold=THRESHOLD,
        counting_threshold=THRESHOLD,
    )
    reason = verdict.reason or "as asked"
    if not dense:
        return Score(float(verdict.correct), verdict.parts, reason)
    value, margins = grade_dense(
        objects,
        metadata,
        lambda detection, _: _colors(detection),
        threshold=THRESHOLD,
        counting_threshold=THRESHOLD,
    )
    return Score(value, margins, reason)


def _colors(detection: Detection) -> Mapping[str, float]:
    return detection.colors or {}

"""The critic `geneval`, and the judges `scenes-judge` and `scenes-third`: GenEval's rule over what a detector finds.

What must be in the picture comes from the prompt's metadata in GenEval's form, or is parsed from its text.

Pictures of `mini` are looked at by detectors that ship with milr and know the scenes that `mini` draws, and nothing
else. They find objects and name their colours in one pass, and their scores mean the same for every prompt: the
threshold is 0.3 for counting too (at 0.5, two or three points of counting are lost on true scenes), where the official
detector wants 0.9. `geneval` steers a search, `scenes-judge` reports on it: another network, another seed, other
augmentations. A search against the judge is an oracle's, and `scenes-third` reports on it: a third network, of
attention instead of convolutions.

Real pictures are looked at by a detector of transformers, and CLIP names the colours. The default is the official
pair, Mask2Former with Swin-S and OpenAI's ViT-L/14, with the official thresholds and scale of pictures; but Mask2Former
has the weights of its authors, not those of mmdet. So report such scores as `geneval-hf`, not as GenEval's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .geneval_rule import COUNTING_THRESHOLD, THRESHOLD, grade, grade_dense, grade_share, likeliest
from .language.requirements import requirements_of
from .language.sentences import Requirements
from .networks.colors import ColorNamer
from .networks.transformers_detector import TransformersDetector
from .networks.witnesses import RealWitness, SceneWitness, Witness

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

    from .networks.detection import Detection

__all__ = ["GenEval", "ScenesJudge", "ScenesThird", "grade", "grade_dense", "grade_share", "score_objects"]

MODES = ("dense", "share", "binary")
EMBEDDED = ("scenes-critic", "scenes-judge", "scenes-third")
EMBEDDED_WORLD = "mini"  # the model whose pictures the embedded detectors know
MASK2FORMER = "facebook/mask2former-swin-small-coco-instance"
CLIP = "ViT-L-14"
SHORTER_EDGE = 800  # to which the official evaluator scales pictures for Mask2Former
RULE_VERSION = 1  # raise it when the same picture may score otherwise
LEAST_THRESHOLD = 0.05  # what scores less, no detector reports

_WEIGHTS = Path(__file__).parent / "weights"
_log = logging.getLogger(__name__)


class GenEval(Reward):
    """GenEval's rule as a critic: dense (the margin of the weakest clause), share (of what holds) or binary.

    Args:
        facts: of the model whose pictures are scored.
        device: where the detector and the classifier of colours run.
        mode: "dense", in [-1, 1] and greater than 0 for pictures that pass; "share", in [0, 1], the mean over the
            clauses of their confidence where they hold; or "binary", 1 or 0, as the official evaluator.
        detector: a hub id or folder of a transformers model, Mask2Former, MaskFormer or any for object detection;
            "scenes-critic", "scenes-judge", "scenes-third", or a folder with a detector of that kind; or "auto": the
            embedded one of this reward for pictures of `mini` (or when no model is named), else Mask2Former.
        revision: branch, tag or commit of the detector on the hub.
        colors: the open_clip model that names colours, an architecture (with OpenAI's weights), "hf-hub:OWNER/NAME" or
            a folder; embedded detectors name colours themselves.
        threshold: detections count from this score; the official 0.3 when not given.
        counting_threshold: the same for prompts that are tagged "counting"; the official 0.9 when not given, and 0.3
            for embedded detectors.

    Raises:
        UsageError: an unknown mode, detector or model of colours, missing or broken weights, a threshold that is not
            between 0.05 and 1, or "auto" for a model that draws more than the detectors of this reward know.
    """

    name = "geneval"
    checkpoint = f"scenes-critic (embedded); for real pictures {MASK2FORMER} and {CLIP} (openai), 1,990 MB"
    licence = "Apache-2.0 (embedded), 'other' (Mask2Former), MIT (CLIP), or as the chosen checkpoints say"
    size_mb = 4.0
    target: float | None = None  # of the graded modes; a binary success is always 1
    embedded = "scenes-critic"
    real: str | None = MASK2FORMER  # what "auto" is for pictures that are no scenes

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        mode: str = "dense",
        detector: str = "auto",
        revision: str | None = None,
        colors: str = CLIP,
        threshold: float | None = None,
        counting_threshold: float | None = None,
    ) -> None:
        if mode not in MODES:
            raise UnknownNameError(f"mode of reward {self.name!r}:", mode, MODES)
        self.mode = mode
        self.range = (-1.0, 1.0) if mode == "dense" else (0.0, 1.0)
        if mode == "binary":
            self.target = 1.0
        self._warned: set[tuple[str, ...]] = set()
        source = self._resolve(detector, facts)
        self._witness: Witness
        if isinstance(source, Path):
            self._witness = SceneWitness(self.name, source, device)
            self.size_mb = self._witness.size_mb
        else:
            edge = SHORTER_EDGE if source == MASK2FORMER else None
            detects = TransformersDetector(self.name, source, device, revision, shorter_edge=edge)
            self._witness = RealWitness(detects, ColorNamer(self.name, colors, device))
        self.kin = self._witness.kin
        usual = THRESHOLD if isinstance(source, Path) else COUNTING_THRESHOLD
        self._threshold = self._checked("threshold", threshold, THRESHOLD)
        self._counting_threshold = self._checked("counting_threshold", counting_threshold, usual)

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        thresholds = (self._threshold, self._counting_threshold)
        others = "".join(f"-{value:g}" for value in thresholds) if thresholds != (THRESHOLD, THRESHOLD) else ""
        return f"{RULE_VERSION}-{self.mode}-{self._witness.version}{others}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be graded, and weights that cannot be used; warn of words that go unchecked."""
        self._witness.load()
        unchecked = self._requirements(prompt).unchecked
        if unchecked and unchecked not in self._warned:
            self._warned.add(unchecked)
            _log.warning("%s cannot check %s in %r", self.name, ", ".join(map(repr, unchecked)), prompt.text)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        wanted = [self._requirements(prompt).metadata for prompt in prompts]
        return [
            score_objects(
                objects,
                metadata,
                mode=self.mode,
                threshold=self._threshold,
                counting_threshold=self._counting_threshold,
            )
            for objects, metadata in zip(self._witness.find(images, wanted), wanted, strict=True)
        ]

    def _requirements(self, prompt: Prompt) -> Requirements:
        return requirements_of(prompt, self._witness.classes, self._witness.colors)

    def _checked(self, option: str, value: float | None, usual: float) -> float:
        if value is None:
            return usual
        if not LEAST_THRESHOLD <= value < 1:
            raise UsageError(
                f"reward {self.name!r}: {option} must be at least {LEAST_THRESHOLD} and less than 1, not {value}."
            )
        return value

    def _resolve(self, detector: str, facts: ModelFacts | None) -> Path | str:
        """The folder of a detector of scenes, or the source of one of transformers."""
        if detector == "auto":
            if facts is None or facts.name == EMBEDDED_WORLD:
                return _WEIGHTS / self.embedded
            if self.real is None:
                raise UsageError(
                    f"reward {self.name!r} has no detector for pictures of {facts.name!r}: the embedded ones only know "
                    f"the scenes of {EMBEDDED_WORLD!r}. To use one all the same, choose it: "
                    f"--set reward.{self.name}.detector={self.embedded}."
                )
            return self.real
        if detector in EMBEDDED:
            return _WEIGHTS / detector
        folder = Path(detector).expanduser()
        if folder.is_dir():
            return detector if (folder / "config.json").is_file() else folder
        if detector.count("/") == 1 and not detector.startswith((".", "/", "~")):
            return detector
        raise UnknownNameError(
            f"detector of reward {self.name!r}:", detector, ("auto", *EMBEDDED), "A folder or OWNER/NAME will do."
        )


class ScenesJudge(GenEval):
    """A judge, to report on pictures that another critic chose: the rule over the other embedded detector.

    Binary unless asked otherwise, since a report counts pictures that pass.
    """

    name = "scenes-judge"
    checkpoint = "scenes-judge"
    licence = "Apache-2.0"
    size_mb = 4.0
    embedded = "scenes-judge"
    real = None

    def __init__(
        self, *, facts: ModelFacts | None = None, device: str = "cpu", mode: str = "binary", detector: str = "auto"
    ) -> None:
        super().__init__(facts=facts, device=device, mode=mode, detector=detector)


class ScenesThird(ScenesJudge):
    """A judge of pictures that a search made against the other judge: the rule over the third embedded detector."""

    name = "scenes-third"
    checkpoint = "scenes-third"
    embedded = "scenes-third"


def score_objects(
    objects: Mapping[str, Sequence[Detection]],
    metadata: Mapping[str, Any],
    *,
    mode: str = "dense",
    threshold: float = THRESHOLD,
    counting_threshold: float = THRESHOLD,
) -> Score:
    """The score of what was found in one picture; the reason is what the rule says is wrong, or "as asked"."""
    thresholds: Any = {"threshold": threshold, "counting_threshold": counting_threshold}
    verdict = grade(objects, metadata, lambda detection, _: likeliest(_colors(detection)), **thresholds)
    reason = verdict.reason or "as asked"
    if mode == "binary":
        return Score(float(verdict.correct), verdict.parts, reason)
    graded = grade_dense if mode == "dense" else grade_share
    value, parts = graded(objects, metadata, lambda detection, _: _colors(detection), **thresholds)
    return Score(value, parts, reason)


def _colors(detection: Detection) -> Mapping[str, float]:
    return detection.colors or {}

"""The critic `grounding-dino`: T2I-R1's score of counts and relations, as MILR's mixed reward uses it.

What must be in the picture is GenEval's: metadata with `include`, whose classes may have any name, or a sentence of its
kind. A clause with a position scores 0.2 for each of its two things that is found and half of how well they stand as
asked: 0.9 at most. Any other clause scores 1 if as many are found as it says, and 0.2 for another number. The value is
the mean (arXiv 2505.00703, `reward_gdino.py`). The relation's score is T2I-CompBench's.

Each thing of a relation counts as one, whatever its number; colours are not looked at. As in MILR, every clause is
counted exactly: "a photo of a dog" wants one dog. With `counts="asked"` that holds only for numbers that the prompt
speaks of (GenEval's `exclude`, or more than one), and other clauses score 1 as soon as anything is found, as T2I-R1
has it for prompts without numbers.

Accepted differences to T2I-R1's code: its boxes are still (centre, size) where it drops duplicates, so that the wrong
ones are dropped; "above" is in its word list and always scores 0; and it reads names of three words by the first and
the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL import Image

from milr.errors import PromptError, UnknownNameError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .compbench.relations import Relation, pick, side_score
from .language.requirements import requirements_of
from .language.vocabulary import counted
from .networks.detection import Detection
from .networks.open_vocabulary import DEFAULT, LICENCE, SIZE_MB, THRESHOLD, OpenVocabularyDetector

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

Counts = Literal["exact", "asked"]

FOUND = 0.2  # for a thing that is there, in the wrong number or place
PLACED = 0.5  # for a relation that holds
RULE = 1

_RELATIONS: dict[str, Relation] = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}


class GroundingDino(Reward):
    """Objects, their numbers and places by GroundingDINO, for prompts of GenEval's kind (T2I-R1).

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the detector runs.
        model: GroundingDINO, MM-GroundingDINO or OWLv2, on the hub or in a folder.
        revision: branch, tag or commit on the hub.
        threshold: detections must score more than this.
        counts: "exact", each clause says how many there are; "asked", only where the prompt limits them.

    Raises:
        UsageError: an unknown way to count, or a threshold out of range.
    """

    name = "grounding-dino"
    range = (0.0, 1.0)
    checkpoint = DEFAULT
    licence = LICENCE
    size_mb = SIZE_MB

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        revision: str | None = None,
        threshold: float = THRESHOLD,
        counts: Counts = "exact",
    ) -> None:
        if counts not in get_args(Counts):
            raise UnknownNameError(f"counts of reward {self.name!r}:", counts, get_args(Counts))
        self._detector = OpenVocabularyDetector(self.name, model, device=device, revision=revision, threshold=threshold)
        self.kin = self._detector.kin
        self._counts = counts

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE}-{self._counts}-{self._detector.version}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be graded, and weights that cannot be used."""
        _wanted(prompt)
        self._detector.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        wanted = [_wanted(prompt) for prompt in prompts]
        names = [[clause["class"] for clause in metadata["include"]] for metadata in wanted]
        found = self._detector.detect(images, names)
        exact = self._counts == "exact"
        return [score_found(seen, metadata, exact=exact) for seen, metadata in zip(found, wanted, strict=True)]


def _wanted(prompt: Prompt) -> Mapping[str, Any]:
    metadata = requirements_of(prompt, None, None).metadata
    if not metadata["include"]:
        raise PromptError(f"reward 'grounding-dino' has nothing to look for in a picture of {prompt.text!r}.")
    return metadata


def score_found(found: Mapping[str, Sequence[Detection]], metadata: Mapping[str, Any], *, exact: bool = True) -> Score:
    """The score of what was found in one picture.

    Args:
        found: detections by name, the surest first, each object once.
        metadata: GenEval's.
        exact: whether a clause of one thing, without a limit in `exclude`, is counted too.
    """
    include = metadata["include"]
    limited = {clause["class"] for clause in metadata.get("exclude", ())}
    targets = {clause["position"][1] for clause in include if "position" in clause}
    parts: dict[str, float] = {}
    faults: list[str] = []
    for index, clause in enumerate(include):
        name, count, seen = clause["class"], clause["count"], len(found.get(clause["class"], ()))
        if "position" in clause:
            relation, target = clause["position"]
            key = f"{name} {relation} {include[target]['class']}"
            parts[key] = _place(found, name, relation, include[target]["class"])
            if parts[key] < 2 * FOUND + PLACED:
                faults.append(f"{key}: {parts[key]:.2f}")
        elif index not in targets:
            right = seen == count if exact or count > 1 or name in limited else seen > 0
            parts[f"{name}: {count}"] = 1.0 if right else FOUND * (seen > 0)
            if not right:
                faults.append(f"expected {counted(count, name)}, found {seen}")
    return Score(sum(parts.values()) / len(parts), parts, "; ".join(faults) or "as asked")


def _place(found: Mapping[str, Sequence[Detection]], name: str, relation: str, target: str) -> float:
    """The score of one thing in its relation to another."""
    first, second = pick(found, name, target)
    if first is None or second is None:
        return FOUND * ((first is not None) + (second is not None))
    return 2 * FOUND + PLACED * side_score(_RELATIONS[relation], first.box, second.box)

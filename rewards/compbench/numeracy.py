"""The critic `numeracy`: T2I-CompBench++'s counting score, on an open-vocabulary detector.

The mean over the things that a prompt counts: a half if any is found, and one if as many are found as asked
(`UniDet_eval/numeracy_eval.py`). Detections of one thing that cover each other by more than nine tenths count once.

Accepted differences to the official code:
- It counts the nouns of a list of its own; here, whatever stands behind a number, and behind "a" in a list that the
  prompt begins with ("a backpack, three apples, and a bowl were on the counter").
- Things are searched for under their own names, where it takes "girl" for "person" and "ship" for "boat", since its
  detector knows no better; and it takes a "goldfish" for a "fish" and a "painting" for a "picture".
- It counts numbers up to eight, here up to ten.
- It measures the covered share with one pixel added to every side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.errors import PromptError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from ..language.vocabulary import counted
from ..networks.detection import Box, Detection, common_area, overlap
from ..networks.open_vocabulary import DEFAULT, LICENCE, SIZE_MB, THRESHOLD, OpenVocabularyDetector
from .noun_phrases import chunks, leading

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

COVERED = 0.9  # share of a box, or of two boxes, that makes them one thing
RULE = 1

# Plural -> singular of last words that the endings do not tell.
_IRREGULAR = {
    "mice": "mouse",
    "men": "man",
    "women": "woman",
    "people": "person",
    "children": "child",
    "knives": "knife",
    "leaves": "leaf",
    "loaves": "loaf",
    "wolves": "wolf",
    "shelves": "shelf",
    "scarves": "scarf",
    "geese": "goose",
    "feet": "foot",
    "teeth": "tooth",
    "shoes": "shoe",
    "horseshoes": "horseshoe",
    "movies": "movie",
    "cookies": "cookie",
    "ties": "tie",
    "pies": "pie",
    "buses": "bus",
    "axes": "axe",
}
_UNCHANGED = frozenset({"scissors", "pants", "jeans", "shorts", "skis", "headphones", "series", "species"})


class Numeracy(Reward):
    """As many things as the prompt says: "three cats and two dogs" (T2I-CompBench++).

    Metadata can say it too: {"counts": {"cat": 3, "dog": 2}}.

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the detector runs.
        model: GroundingDINO, MM-GroundingDINO or OWLv2, on the hub or in a folder.
        revision: branch, tag or commit on the hub.
        threshold: detections must score more than this.

    Raises:
        UsageError: the threshold is out of range.
    """

    name = "numeracy"
    range = (0.0, 1.0)
    target = 1.0
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
    ) -> None:
        self._detector = OpenVocabularyDetector(self.name, model, device=device, revision=revision, threshold=threshold)
        self.kin = self._detector.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE}-{self._detector.version}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that counts nothing, and weights that cannot be used."""
        counts_of(prompt)
        self._detector.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        wanted = [counts_of(prompt) for prompt in prompts]
        found = self._detector.detect(images, [list(counts) for counts in wanted])
        return [score_counts(seen, counts) for seen, counts in zip(found, wanted, strict=True)]


def counts_of(prompt: Prompt) -> dict[str, int]:
    """How many of which thing a prompt asks for: `metadata["counts"]`, or its text.

    Raises:
        PromptError: it counts nothing, or the metadata is malformed.
    """
    given = prompt.metadata.get("counts")
    if given is None:
        counts = parse_counts(prompt.text)
    elif isinstance(given, Mapping) and all(type(count) is int and count > 0 for count in given.values()):
        counts = {str(name): count for name, count in given.items()}
    else:
        raise PromptError(f'"counts" of {prompt.text!r} must look like {{"cat": 3, "dog": 2}}, not like {given!r}.')
    if not counts:
        raise PromptError(
            f"nothing is counted in {prompt.text!r}; expected a sentence such as 'three cats and two dogs', or "
            'metadata: {"prompt": "...", "counts": {"cat": 3}}.'
        )
    return counts


def parse_counts(text: str) -> dict[str, int]:
    """{"cat": 3, "dog": 2} of "three cats and two dogs"; a thing that is counted twice is counted together."""
    phrases = chunks(text)
    listed = leading(phrases, text) if phrases else []
    counts: dict[str, int] = {}
    for phrase in phrases:
        count = phrase.count
        if count is None or (phrase.text.split()[0].lower() in ("a", "an") and phrase not in listed):
            continue
        name = singular(phrase.name) if count > 1 else phrase.name
        counts[name] = counts.get(name, 0) + count
    return counts


def singular(name: str) -> str:
    """'computer mouse' of 'computer mice', 'tomato' of 'tomatoes'; a name that is no plural stays."""
    *before, last = name.split()
    return " ".join([*before, _IRREGULAR.get(last) or _without_ending(last)])


def score_counts(found: Mapping[str, Sequence[Detection]], counts: Mapping[str, int]) -> Score:
    """The score of what was found in one picture."""
    parts, faults = {}, []
    for name, count in counts.items():
        seen = len(distinct(found.get(name, ())))
        parts[name] = (0.5 if seen else 0.0) + (0.5 if seen == count else 0.0)
        if seen != count:
            faults.append(f"expected {counted(count, name)}, found {seen}")
    return Score(sum(parts.values()) / len(parts), parts, "; ".join(faults) or "as asked")


def distinct(detections: Sequence[Detection]) -> list[Detection]:
    """The detections that no surer one covers, or is covered by."""
    kept: list[Detection] = []
    for detection in detections:
        if not any(_same(detection.box, other.box) for other in kept):
            kept.append(detection)
    return kept


def _same(first: Box, second: Box) -> bool:
    least = min((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return overlap(first, second) > COVERED or (least > 0 and common_area(first, second) / least > COVERED)


def _without_ending(word: str) -> str:
    if word in _UNCHANGED or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "oes")):
        return word[:-2]
    return word[:-1]

"""The critic `spatial`: T2I-CompBench's 2-D spatial relations, on an open-vocabulary detector.

A quarter of each thing's confidence and half of how well they stand as asked, and 0 when that is less than a half:
`relations` has the formulas and where they differ from the official code. The official detector is UniDet, which needs
detectron2; GroundingDINO's confidences are lower, so that values compare with each other and not with published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image

from milr.errors import UsageError
from milr.prompts import Prompt
from milr.rewards import Reward, Score

from ..networks.open_vocabulary import DEFAULT, LICENCE, SIZE_MB, THRESHOLD, OpenVocabularyDetector
from .relations import CONFIDENT, NEAR, PLANE, placement_of, position_score, score_placement

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

RULE = 1


class Spatial(Reward):
    """Two things, and one on the left or right of, above, below or near the other (T2I-CompBench).

    The prompt says it ("a cat on the left of a sofa"), or its metadata does: {"objects": ["cat", "sofa"], "relation":
    "left"}, with left, right, top, bottom or near.

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the detector runs.
        model: GroundingDINO, MM-GroundingDINO or OWLv2, on the hub or in a folder.
        revision: branch, tag or commit on the hub.
        threshold: detections must score more than this.
        near: distance of centres that counts as near, as a share of the picture's longer side.
        cut: scores below this are 0, as the benchmark has it; with 0, a search has more to climb.

    Raises:
        UsageError: a number is out of range.
    """

    name = "spatial"
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
        near: float = NEAR,
        cut: float = CONFIDENT,
    ) -> None:
        if near <= 0 or not 0 <= cut <= 1:
            raise UsageError(f"reward 'spatial': expected near > 0 and cut in [0, 1], not {near!r} and {cut!r}.")
        self._detector = OpenVocabularyDetector(self.name, model, device=device, revision=revision, threshold=threshold)
        self.kin = self._detector.kin
        self._near, self._cut = near, cut

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE}-{self._detector.version}-near {self._near:g}-cut {self._cut:g}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt without a relation, and weights that cannot be used."""
        placement_of(prompt, PLANE)
        self._detector.load()

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        wanted = [placement_of(prompt, PLANE) for prompt in prompts]
        found = self._detector.detect(images, [[each.first, each.second] for each in wanted])
        scores = []
        for image, placement, seen in zip(images, wanted, found, strict=True):
            judge = partial(position_score, placement.relation, near=self._near * max(image.size))
            scores.append(score_placement(seen, placement, judge, self._cut))
        return scores

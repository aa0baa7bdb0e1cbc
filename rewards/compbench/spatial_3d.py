"""The critic `spatial-3d`: T2I-CompBench++'s 3-D spatial relations, on a detector and a depth network.

A quarter of each thing's confidence and half of how well they stand as asked: one box is nearer in the mean than the
other, and they overlap; `relations` has the formulas and where they differ from the official code. Unlike in the plane,
small scores stay. The official depth network is DPT-Hybrid (MiDaS), the default here; DPT and Depth-Anything predict
nearness up to scale and shift, which is all that is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from ..networks.batching import alike
from ..networks.checkpoints import Weights
from ..networks.open_vocabulary import DEFAULT, SIZE_MB, THRESHOLD, OpenVocabularyDetector
from .relations import DEPTH, depth_score, placement_of, score_placement

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

DEPTH_MODEL = "Intel/dpt-hybrid-midas"
BATCH = 8  # pictures per forward pass of the depth network
RULE = 1


class Spatial3d(Reward):
    """Two things, one in front of the other, behind it or hidden by it (T2I-CompBench++).

    The prompt says it ("a cat behind a sofa"), or its metadata does: {"objects": ["cat", "sofa"], "relation":
    "behind"}, with front or behind.

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the networks run.
        model: GroundingDINO, MM-GroundingDINO or OWLv2, on the hub or in a folder.
        revision: branch, tag or commit of it on the hub.
        threshold: detections must score more than this.
        depth_model: a depth network that predicts nearness (DPT, Depth-Anything), on the hub or in a folder.
        depth_revision: branch, tag or commit of it on the hub.

    Raises:
        UsageError: the threshold is out of range.
    """

    name = "spatial-3d"
    range = (0.0, 1.0)
    checkpoint = f"{DEFAULT}, {DEPTH_MODEL}"
    licence = "Apache-2.0 (both)"
    size_mb = SIZE_MB + 490.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = DEFAULT,
        revision: str | None = None,
        threshold: float = THRESHOLD,
        depth_model: str = DEPTH_MODEL,
        depth_revision: str | None = None,
    ) -> None:
        self._device = device
        self._detector = OpenVocabularyDetector(self.name, model, device=device, revision=revision, threshold=threshold)
        self._depth_weights = Weights(self.name, depth_model, depth_revision, "depth_model")
        self.kin = self._detector.kin | self._depth_weights.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE}-{self._detector.version}-{self._depth_weights.version}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt without a relation, and weights that cannot be used."""
        placement_of(prompt, DEPTH)
        self._detector.load()
        _ = self._depth

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        wanted = [placement_of(prompt, DEPTH) for prompt in prompts]
        found = self._detector.detect(images, [[each.first, each.second] for each in wanted])
        scores: dict[int, Score] = {}
        for batch in alike(images, BATCH):
            for index, nearness in zip(batch, self._nearness([images[index] for index in batch]), strict=True):
                judge = partial(depth_score, wanted[index].relation, nearness=nearness)
                scores[index] = score_placement(found[index], wanted[index], judge)
        return [scores[index] for index in range(len(images))]

    @torch.inference_mode()
    def _nearness(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[pictures, height, width] of pictures of one size, greater where it is nearer."""
        model, processor = self._depth
        pixels = processor([image.convert("RGB") for image in images], return_tensors="pt").to(self._device)
        depth = model(**pixels).predicted_depth[:, None].float()  # [pictures, 1, rows, columns]
        size = (images[0].height, images[0].width)
        return torch.nn.functional.interpolate(depth, size, mode="bilinear", align_corners=True)[:, 0].cpu()

    @cached_property
    def _depth(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        processor = self._depth_weights.processor(AutoImageProcessor)
        return self._depth_weights.model(AutoModelForDepthEstimation, self._device), processor

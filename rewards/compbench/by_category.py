"""The critic `t2i-compbench`: each picture is scored by the critic of its prompt's category, as the benchmark does.

    color, shape, texture    blip-vqa
    spatial                  spatial
    3d_spatial               spatial-3d
    numeracy                 numeracy
    non_spatial              clip-score
    complex                  three-in-one

The category is the prompt's metadata `tag`. Values of different categories do not compare: a good picture scores about
0.3 under `clip-score` and near 1 under `blip-vqa`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from milr.errors import PromptError
from milr.prompts import Prompt
from milr.rewards import Reward, Score, kin_of

from ..networks import open_vocabulary
from ..networks.checkpoints import as_part_of
from . import blip_vqa, clip_score, spatial_3d
from .clip_score import ClipScore
from .numeracy import Numeracy
from .spatial_3d import Spatial3d
from .three_in_one import ThreeInOne

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

CRITICS = {
    "color": "blip-vqa",
    "shape": "blip-vqa",
    "texture": "blip-vqa",
    "spatial": "spatial",
    "3d_spatial": "spatial-3d",
    "numeracy": "numeracy",
    "non_spatial": "clip-score",
    "complex": "three-in-one",
}
RULE = 1

# From the options of the parts to those of the whole.
_OPTIONS = {f"{critic}.model": "detector" for critic in ("spatial", "spatial-3d", "numeracy")} | {
    "blip-vqa.model": "model",
    "spatial-3d.depth_model": "depth_model",
    "clip-score.model": "clip",
    "three-in-one.model": "model",
    "three-in-one.detector": "detector",
    "three-in-one.clip": "clip",
}


class ByCategory(Reward):
    """T2I-CompBench's critics, each for the prompts of its categories; prompts without a category are refused.

    Args:
        facts: of the model whose pictures are scored; not used.
        device: where the networks run; only those that are needed are loaded.
        model: BLIP, as in `blip-vqa`.
        detector: as `model` in `spatial`.
        threshold: of detections, as in `spatial`.
        depth_model: as in `spatial-3d`.
        clip: as `model` in `clip-score`.

    Raises:
        UsageError: as those critics.
    """

    name = "t2i-compbench"
    range = (-1.0, 1.0)
    needs = frozenset({"tag"})
    checkpoint = f"{blip_vqa.DEFAULT}, {Spatial3d.checkpoint}, {ClipScore.checkpoint}"
    licence = ThreeInOne.licence
    size_mb = ThreeInOne.size_mb + Spatial3d.size_mb - open_vocabulary.SIZE_MB  # which is in both

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = blip_vqa.DEFAULT,
        detector: str = open_vocabulary.DEFAULT,
        threshold: float = open_vocabulary.THRESHOLD,
        depth_model: str = spatial_3d.DEPTH_MODEL,
        clip: str = clip_score.MODEL,
    ) -> None:
        three = ThreeInOne(device=device, model=model, detector=detector, threshold=threshold, clip=clip)
        self._critics: dict[str, Reward] = {
            "blip-vqa": three.critics["attributes"],  # large, and the same
            "spatial": three.critics["space"],
            "spatial-3d": Spatial3d(device=device, model=detector, threshold=threshold, depth_model=depth_model),
            "numeracy": Numeracy(device=device, model=detector, threshold=threshold),
            "clip-score": ClipScore(device=device, model=clip),
            "three-in-one": three,
        }
        self.kin = kin_of(self._critics.values())

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE}-" + "+".join(f"{name}@{critic.version}" for name, critic in self._critics.items())

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt without a category, or that its critic refuses, and weights that cannot be used."""
        super().check(prompt)
        with as_part_of(self.name, _OPTIONS):
            self._critics[critic_of(prompt)].check(prompt)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        wanted = [critic_of(prompt) for prompt in prompts]
        scores: dict[int, Score] = {}
        for name in dict.fromkeys(wanted):
            rows = [row for row, critic in enumerate(wanted) if critic == name]
            given = self._critics[name].score([images[row] for row in rows], [prompts[row] for row in rows])
            scores.update(zip(rows, given, strict=True))
        return [scores[row] for row in range(len(images))]


def critic_of(prompt: Prompt) -> str:
    """Who scores pictures of a prompt.

    Raises:
        PromptError: its metadata names no category of the benchmark.
    """
    tag = prompt.metadata.get("tag")
    if tag not in CRITICS:
        raise PromptError(
            f"reward 't2i-compbench' knows no category {tag!r}, that of {prompt.text!r}; give one of "
            f'{", ".join(CRITICS)}: {{"prompt": "...", "tag": "color"}}.'
        )
    return CRITICS[tag]

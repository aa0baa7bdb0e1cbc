"""What the trained models are worth: detectors on true scenes, critics on nearly true captions, `mini` on GenEval.

All grading is GenEval's rule, with one threshold (0.3) for every tag: the official 0.9 for counting belongs to another
detector, and costs true scenes of this world two to three points.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from milr.decoding import Engine, Proposal, Request, Sampling
from milr.models.base import UnifiedModel
from milr.noise import NoiseSource
from milr.prompts import Prompt
from milr_rewards import geneval_rule
from milr_rewards.networks.detection import Detection
from milr_rewards.networks.scene_detector import SceneDetector
from milr_rewards.self_answers import SelfAnswers

from . import language
from .corruptions import KINDS, corrupt
from .layout import lay_out
from .world import IMAGE_SIZE, TAGS, Painter, Requests, sample_requests

THRESHOLD = 0.3
OFFICIAL_TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
_BATCH = 512

Found = dict[str, list[Detection]]  # in one picture
Metadata = Mapping[str, Any]
Reconstruct = Callable[[Tensor], Tensor]


def found_in(detector: SceneDetector, images: Tensor) -> list[Found]:
    """Named detections of pictures that are already on the detector's device."""
    found: list[Found] = []
    with torch.inference_mode():
        for batch in images.split(_BATCH):
            found += detector.name_peaks(detector.find(batch, limit=32), [(IMAGE_SIZE, IMAGE_SIZE)] * len(batch))
    return found


def verdicts(detector: SceneDetector, images: Tensor, rows: Sequence[Metadata]) -> list[bool]:
    """GenEval's rule on each picture."""
    return _graded(found_in(detector, images), rows)


def by_tag(correct: Sequence[bool], rows: Sequence[Metadata]) -> dict[str, float]:
    """Share of correct pictures per tag, and the mean over the tags."""
    tags = list(dict.fromkeys(row["tag"] for row in rows))
    table = {}
    for tag in tags:
        here = [passed for passed, row in zip(correct, rows, strict=True) if row["tag"] == tag]
        table[tag] = round(sum(here) / len(here), 4)
    return table | {"mean": round(sum(table.values()) / len(table), 4)}


def true_scenes(painter: Painter, count: int, seed: int) -> tuple[Tensor, list[dict[str, Any]]]:
    """Fresh pictures of the six official tags, the same number of each, and what they show."""
    generator = torch.Generator(painter.atlas.device).manual_seed(seed)
    images, rows = [], []
    for tag in OFFICIAL_TAGS:
        requests = sample_requests(count // len(OFFICIAL_TAGS), len(painter.classes), generator, tag)
        requests = _official(requests)
        images.append(painter.render(lay_out(requests, generator, rounds=4)))
        rows += language.metadata(requests, painter.classes)
    return torch.cat(images), rows


def pair_figures(
    painter: Painter,
    detectors: Mapping[str, SceneDetector],
    clip_model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    count: int,
    seed: int,
    reconstruct: Reconstruct | None = None,
    model: UnifiedModel | None = None,
) -> dict[str, dict[str, float]]:
    """How well each critic tells a true caption from one with one thing wrong, per kind of wrong.

    `accuracy`: the true caption scores higher (half a point for a tie). `auc`: a true pair scores higher than a wrong
    pair of any other picture, which is what a threshold or a search over prompts needs. With `model`, its own
    answers are a critic too.
    """
    from . import clip  # open_clip is slow to import

    generator = torch.Generator(painter.atlas.device).manual_seed(seed)
    requests = sample_requests(count, len(painter.classes), generator)
    images = painter.render(lay_out(requests, generator, rounds=4))
    if reconstruct is not None:
        images = reconstruct(images)
    wrong, kind = corrupt(requests, len(painter.classes), generator)
    rng = random.Random(seed)
    right_text, wrong_text = (language.prompts(version, painter.classes, rng) for version in (requests, wrong))
    right_rows, wrong_rows = (language.metadata(version, painter.classes) for version in (requests, wrong))
    scores: dict[str, tuple[Tensor, Tensor]] = {}
    for name, detector in detectors.items():
        found = found_in(detector, images)
        scores[f"{name}, rule"] = _pair(*(_graded(found, rows) for rows in (right_rows, wrong_rows)))
        scores[f"{name}, dense"] = _pair(*(_margins(found, rows) for rows in (right_rows, wrong_rows)))
    likeness = (clip.similarity(clip_model, tokenizer, images, text).tolist() for text in (right_text, wrong_text))
    scores["clip"] = _pair(*likeness)
    if model is not None:
        pictures = [to_picture(image) for image in images]
        versions = ((right_text, right_rows), (wrong_text, wrong_rows))
        scores["self"] = _pair(*(_own_answers(model, pictures, text, rows) for text, rows in versions))
    return {name: _pair_table(right, false, kind.cpu()) for name, (right, false) in scores.items()}


def generate(model: UnifiedModel, prompts: Sequence[str], seed: int, sampling: Sampling) -> tuple[Tensor, list[str]]:
    """One picture and one plan per prompt, by the library's own decoding; pictures as they would be saved."""
    requests = [
        Request(Prompt(text), NoiseSource.of(seed, str(row)), Proposal(0, 0)) for row, text in enumerate(prompts)
    ]
    drawn = Engine.of(model).decode(requests, sampling)
    pixels = np.stack([np.asarray(rollout.image) for rollout in drawn])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(model.device).float() / 255
    return images, [rollout.reasoning for rollout in drawn]


def geneval_figures(
    judges: Mapping[str, SceneDetector], images: Tensor, rows: Sequence[Metadata]
) -> dict[str, dict[str, float] | float]:
    """Per judge the table by tag, and how often the judges agree."""
    passed = {name: verdicts(detector, images, rows) for name, detector in judges.items()}
    columns = list(zip(*passed.values(), strict=True))
    agreement = sum(len(set(column)) == 1 for column in columns) / len(columns)
    return {name: by_tag(correct, rows) for name, correct in passed.items()} | {"agreement": round(agreement, 4)}


def contact_sheet(images: Tensor, columns: int = 10, scale: int = 2) -> Image.Image:
    """Pictures side by side, row by row, each `scale` times its size."""
    side = IMAGE_SIZE * scale + 4
    sheet = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "white")
    for index, image in enumerate(images):
        picture = to_picture(image).resize((IMAGE_SIZE * scale, IMAGE_SIZE * scale), Image.Resampling.NEAREST)
        sheet.paste(picture, (index % columns * side, index // columns * side))
    return sheet


def to_picture(image: Tensor) -> Image.Image:
    """[3, H, W] in 0 to 1 -> a picture."""
    return Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().cpu().numpy())


def _official(requests: Requests) -> Requests:
    """GenEval asks for at most four equal things."""
    requests.count.clamp_(max=4)
    return requests


def _graded(found: Sequence[Found], rows: Sequence[Metadata]) -> list[bool]:
    """GenEval's rule on what was found in each picture."""
    return [
        geneval_rule.grade(
            objects,
            row,
            lambda thing, _: geneval_rule.likeliest(thing.colors or {}),
            threshold=THRESHOLD,
            counting_threshold=THRESHOLD,
        ).correct
        for objects, row in zip(found, rows, strict=True)
    ]


def _margins(found: Sequence[Found], rows: Sequence[Metadata]) -> list[float]:
    """How plainly each picture is right."""
    return [
        geneval_rule.grade_dense(
            objects, row, lambda thing, _: thing.colors or {}, threshold=THRESHOLD, counting_threshold=THRESHOLD
        ).value
        for objects, row in zip(found, rows, strict=True)
    ]


def _own_answers(
    model: UnifiedModel, pictures: Sequence[Image.Image], texts: Sequence[str], rows: Sequence[Metadata]
) -> list[float]:
    """What the critic `self` says of each picture; the model reads in batches of its own."""
    prompts = [Prompt(text, metadata=row) for text, row in zip(texts, rows, strict=True)]
    return [score.value for score in SelfAnswers(reader=model).score(pictures, prompts)]


def _pair(right: Sequence[float], wrong: Sequence[float]) -> tuple[Tensor, Tensor]:
    return torch.tensor(right, dtype=torch.float64), torch.tensor(wrong, dtype=torch.float64)


def _pair_table(right: Tensor, wrong: Tensor, kind: Tensor) -> dict[str, float]:
    table = {}
    for index, name in enumerate((*KINDS, "all")):
        rows = kind == index if name in KINDS else torch.ones_like(kind, dtype=torch.bool)
        better = (right > wrong)[rows].double() + 0.5 * (right == wrong)[rows].double()
        table[f"{name} accuracy"] = round(better.mean().item(), 4)
        table[f"{name} auc"] = round(_auc(right[rows], wrong[rows]), 4)
    return table


def _auc(right: Tensor, wrong: Tensor) -> float:
    ordered = wrong.sort().values
    below = torch.searchsorted(ordered, right, right=False).double()
    up_to = torch.searchsorted(ordered, right, right=True).double()
    return ((below + up_to) / 2 / len(wrong)).mean().item()


__all__ = [
    "OFFICIAL_TAGS", "TAGS", "by_tag", "contact_sheet", "found_in", "generate", "geneval_figures",
    "pair_figures", "to_picture", "true_scenes", "verdicts",
]  # fmt: skip

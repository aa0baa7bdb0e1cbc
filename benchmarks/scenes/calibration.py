"""What a detector's numbers are worth: are its scores probabilities, does it refuse broken things, do others agree.

    broken, images = fresh_pictures(painter, count, seed, share, reconstruct)
    table = broken_figures(detector, painter, broken, images)

Figures are dicts of floats, on fresh scenes that the caller's seed draws, rendered or, with `reconstruct`, as the image
tokeniser gives them back; the threshold is that of `evaluate`.

A detection is right when a true thing of its class overlaps its box by half (IoU); of several, the strongest is.
Things that are neither plainly there nor plainly not (`Broken.unsure`) count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from milr_rewards.networks.scene_detector import SCORE_FLOOR, Peaks, SceneDetector

from .broken import KINDS, OVERLAYS, TINTED, WHOLE, Broken, break_things, render_broken
from .concepts import MAX_OBJECTS
from .detectors import DETECTOR_COLORS, MIXED
from .evaluate import THRESHOLD, verdicts
from .layout import clutter, lay_out
from .world import IMAGE_SIZE, Painter, Scenes, sample_requests

BINS = 10
_BATCH = 512
_PEAKS = 32
BROKEN_SHARE = 0.5

Reconstruct = Callable[[Tensor], Tensor]


def fresh_pictures(
    painter: Painter, count: int, seed: int, share: float = BROKEN_SHARE, reconstruct: Reconstruct | None = None
) -> tuple[Broken, Tensor]:
    """Half scenes as prompts ask for them, half clutter; each of two things of a picture broken with this chance."""
    generator = torch.Generator(painter.atlas.device).manual_seed(seed)
    classes = len(painter.classes)
    prompted: Scenes = lay_out(sample_requests(count - count // 2, classes, generator), generator)
    scenes = prompted.joined(clutter(count // 2, classes, generator, (1, MAX_OBJECTS)))
    broken = break_things(scenes, painter, generator, share)
    images = torch.cat([render_broken(painter, broken[slice(i, i + _BATCH)]) for i in range(0, count, _BATCH)])
    return broken, images if reconstruct is None else reconstruct(images)


def calibration_figures(detector: SceneDetector, painter: Painter, broken: Broken, images: Tensor) -> dict[str, float]:
    """Is a detection of score p right with frequency p, and a colour of probability p? On pictures of whole things.

    `score error` and `color error` are expected calibration errors over ten bins of equal width; beside them, per bin
    that is not empty, the mean score and the share that was right.
    """
    peaks = _found(detector, images)
    right, doubtful = _right(peaks, painter, broken)
    counted = (peaks.score >= SCORE_FLOOR) & ~doubtful
    table = _reliability("score", peaks.score[counted], right.any(-1)[counted])

    painted = right & (broken.seen.color > 0)[:, None]  # [B, n, S]
    wanted = (painted * broken.seen.color[:, None]).sum(-1) - 1  # [B, n] at most one thing is matched
    confidence, color = peaks.color.max(-1)
    here = painted.any(-1)
    return table | _reliability("color", confidence[here], (color == wanted)[here])


def broken_figures(detector: SceneDetector, painter: Painter, broken: Broken, images: Tensor) -> dict[str, float]:
    """Share of broken things of each kind that pass as whole, and of whole things that are refused.

    `tinted accepted`: a thing in two paints was given one of the ten colours. `refused`: a whole thing was not found;
    `refused on top of another`: the upper one of two merged or doubled things was not.
    """
    peaks = _found(detector, images)
    strong = peaks._replace(score=torch.where(peaks.score >= THRESHOLD, peaks.score, 0.0))
    right, _ = _right(strong, painter, broken)
    seen = broken.seen.label >= 0
    found = right.any(1)  # [B, S]

    # What is left when whole things have taken their detections: does any of it lie in a broken thing's square?
    free = (strong.score > 0) & ~right.any(-1)  # [B, n]
    drawn = broken.drawn
    centre = (strong.box[..., :2] + strong.box[..., 2:]) / 2 * IMAGE_SIZE  # [B, n, 2]
    low, high = drawn.corner[:, None], (drawn.corner + drawn.size[..., None])[:, None]
    inside = ((centre[:, :, None] >= low) & (centre[:, :, None] < high)).all(-1)  # [B, n, S]
    accepted = (inside & free[..., None] & (strong.label[..., None] == drawn.label[:, None])).any(1)
    gone = (drawn.label >= 0) & ~seen & (broken.unsure < 0)

    table: dict[str, float] = {}
    for kind in range(WHOLE + 1, len(KINDS)):
        if kind != TINTED:
            table[f"{KINDS[kind]} accepted"] = _share(accepted[gone & (broken.kind == kind)])
    # With ten colours, a detector has no way to say so.
    named = strong.color.argmax(-1) != DETECTOR_COLORS.index(MIXED)  # [B, n]
    named_thing = (right & named[..., None]).any(1)
    table["tinted accepted"] = _share(named_thing[broken.mixed & found])
    painted = seen & (drawn.color > 0) & ~broken.mixed & found
    table["painted refused"] = _share(~named_thing[painted])
    plain = seen & (broken.unsure < 0)
    covering = plain & (torch.arange(seen.shape[1], device=seen.device) >= seen.shape[1] - OVERLAYS)
    table["refused"] = _share(~found[plain & ~covering & (broken.kind == WHOLE)])
    table["refused on top of another"] = _share(~found[covering])
    table["detections of nothing"] = _share((free & ~(inside & (drawn.label >= 0)[:, None]).any(-1))[strong.score > 0])
    return table


def agreement(
    detectors: Mapping[str, SceneDetector], images: Tensor, rows: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Share of pictures on which detectors give the same verdict: each pair, and all of them."""
    passed = {name: torch.tensor(verdicts(each, images, rows)) for name, each in detectors.items()}
    table = {
        f"{first} = {second}": _share(passed[first] == passed[second]) for first, second in combinations(passed, 2)
    }
    votes = torch.stack(list(passed.values()))
    return table | {"all": _share((votes == votes[0]).all(0))}


def _found(detector: SceneDetector, images: Tensor) -> Peaks:
    with torch.inference_mode():
        parts = [detector.find(batch, limit=_PEAKS) for batch in images.split(_BATCH)]
    return Peaks(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _right(peaks: Peaks, painter: Painter, broken: Broken) -> tuple[Tensor, Tensor]:
    """[B, n, S] which thing a detection is right about, at most one; [B, n] detections of what is unsure."""
    boxes = painter.boxes(broken.drawn) / IMAGE_SIZE
    overlap = _overlap(peaks.box, boxes)  # [B, n, S]
    same = (overlap >= 0.5) & (peaks.score > 0)[..., None]
    match = same & (peaks.label[..., None] == broken.seen.label[:, None])
    # Each detection belongs to the thing it overlaps most, each thing to its strongest detection: peaks fall in score.
    best = torch.where(match, overlap, -1.0).argmax(-1, keepdim=True)
    match &= torch.zeros_like(match).scatter_(-1, best, True)
    match &= match.cumsum(1) == 1
    doubtful = (same & (peaks.label[..., None] == broken.unsure[:, None])).any(-1) & ~match.any(-1)
    return match, doubtful


def _overlap(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes [B, n, 4] with boxes [B, S, 4]."""
    first, second = first[:, :, None], second[:, None]
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (first, second)]
    return common / (areas[0] + areas[1] - common).clamp(min=1e-9)


def _reliability(name: str, confidence: Tensor, right: Tensor) -> dict[str, float]:
    """Expected calibration error, and mean confidence and share that was right per bin."""
    table: dict[str, float] = {}
    error = 0.0
    place = (confidence * BINS).long().clamp(0, BINS - 1)
    for index in range(BINS):
        here = place == index
        if here.any():
            mean, share = confidence[here].mean().item(), right[here].float().mean().item()
            error += abs(mean - share) * here.float().mean().item()
            low = f"{name} {index / BINS:.1f}"
            table |= {f"{low} mean": round(mean, 4), f"{low} right": round(share, 4), f"{low} number": int(here.sum())}
    return {f"{name} error": round(error, 4)} | table


def _share(hits: Tensor) -> float:
    """Of no cases, none."""
    return round(hits.float().mean().item(), 4) if hits.numel() else 0.0

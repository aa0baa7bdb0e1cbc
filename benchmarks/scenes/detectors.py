"""Training of the detectors: the critic's, the judge's, and a third that checks the judge.

Pictures are scenes as prompts ask for them and clutter; in both, some things are broken (see `broken`). A broken thing
is background, so that a detector does not forgive a picture that only hints at a thing; a thing in two paints has an
eleventh colour, `MIXED`, so that it passes for neither. In the second phase some of the pictures went through the image
tokeniser, and some were decoded from tokens of several pictures: that is what the detectors will see.

What one detector sees is its `Diet`. Critic and judge should differ in it, not only in seed and architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.janus.modeling_janus import JanusVQVAE

from milr_rewards.networks.scene_detector import STRIDE, DetectorConfig, DetectorOutput, SceneDetector

from . import tokeniser
from .broken import break_things, render_broken, splice_tokens
from .concepts import COLORS, MAX_OBJECTS
from .layout import clutter, lay_out
from .training import Batch, Losses, Schedule, train
from .world import IMAGE_SIZE, Painter, Scenes, sample_requests

GRID = IMAGE_SIZE // STRIDE
MIXED = "mixed"  # the colour of a thing in two paints
DETECTOR_COLORS = (*COLORS, MIXED)
_AHEAD = 8  # batches drawn at once: a few hundred small kernels, whatever the number of pictures
_NEAR = 0.1  # height of a bell above which a heat map belongs to its thing


@dataclass(frozen=True)
class Diet:
    """What a detector is trained on."""

    prompted: float = 0.5  # share of scenes as prompts ask for them; the rest is clutter
    broken: float = 0.3  # chance of each of two things of a picture
    things: tuple[int, int] = (1, MAX_OBJECTS)  # in clutter
    reconstructed: float = 0.35  # share of pictures that went through the tokeniser, where there is one
    spliced: float = 0.3  # share of pictures decoded from tokens of several pictures, where there is a tokeniser
    ground: float = 0.0  # the ground's channels move by at most this
    jitter: float = 1.0
    blur: float = 1.0  # these three: share of each kind of jitter
    noise: float = 1.0
    gain: float = 1.0


class Sample(NamedTuple):
    """Pictures and what is truly in them; a batch of the training."""

    images: Tensor  # [B, 3, 96, 96]
    label: Tensor  # [B, S] -1 where there is nothing to find
    color: Tensor  # [B, S] 0 is natural, else 1 + index into DETECTOR_COLORS
    box: Tensor  # [B, S, 4] px
    unsure: Tensor  # [B, S] label of a thing that may be found or not; else -1


def draw_sample(
    painter: Painter, count: int, generator: torch.Generator, diet: Diet, vq: JanusVQVAE | None = None
) -> Sample:
    """Pictures of a diet: plain ones, then reconstructed ones, then spliced ones."""
    classes, device = len(painter.classes), generator.device
    asked = round(count * diet.prompted)
    scenes = lay_out(sample_requests(asked, classes, generator), generator, candidates=12)
    scenes = scenes.joined(clutter(count - asked, classes, generator, diet.things))
    move = (2 * torch.rand(scenes.background.shape, generator=generator, device=device) - 1) * diet.ground
    scenes = replace(scenes, background=(scenes.background + move).clamp(0, 1))
    broken = break_things(scenes, painter, generator, diet.broken)
    broken = broken[torch.randperm(count, generator=generator, device=device)]  # every kind of picture has both
    if vq is None:
        sample = _sample(painter, render_broken(painter, broken), broken.seen, broken.mixed, broken.unsure)
    else:
        spliced = round(count * diet.spliced)
        plain = count - spliced - round(count * diet.reconstructed)
        whole, torn = broken[: count - spliced], broken[count - spliced :]
        images = render_broken(painter, whole)
        images = torch.cat([images[:plain], tokeniser.reconstruct(vq, images[plain:])])
        mosaic = splice_tokens(
            painter,
            torn,
            lambda pictures: tokeniser.encode(vq, pictures),
            lambda tokens: tokeniser.decode(vq, tokens),
            generator,
        )
        first = _sample(painter, images, whole.seen, whole.mixed, whole.unsure)
        second = _sample(painter, mosaic.images, mosaic.seen, mosaic.mixed, mosaic.unsure)
        sample = _joined(first, second)
    images = jitter(sample.images, generator, diet.jitter, diet.blur, diet.noise, diet.gain)
    return sample._replace(images=images)


def _sample(painter: Painter, images: Tensor, seen: Scenes, mixed: Tensor, unsure: Tensor) -> Sample:
    color = torch.where(mixed, len(DETECTOR_COLORS), seen.color)
    # The boxes of unsure things are wanted too.
    boxes = painter.boxes(replace(seen, label=torch.maximum(seen.label, unsure)))
    return Sample(images, seen.label, color, boxes, unsure)


def _joined(first: Sample, second: Sample) -> Sample:
    """The pictures of both; empty slots fill up the one with fewer."""
    slots = max(first.label.shape[1], second.label.shape[1])

    def filled(sample: Sample) -> Sample:
        missing = slots - sample.label.shape[1]
        return Sample(
            sample.images,
            F.pad(sample.label, (0, missing), value=-1),
            F.pad(sample.color, (0, missing)),
            F.pad(sample.box, (0, 0, 0, missing)),
            F.pad(sample.unsure, (0, missing), value=-1),
        )

    return Sample(*(torch.cat(pair) for pair in zip(filled(first), filled(second), strict=True)))


def jitter(
    images: Tensor,
    generator: torch.Generator,
    strength: float,
    blur: float = 1.0,
    noise: float = 1.0,
    gain: float = 1.0,
) -> Tensor:
    """Per picture: some blur, some noise, brighter or darker, a tint too weak to change the name of a colour."""
    rows, device = len(images), images.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, blurred, uniform(rows, 1, 1, 1) * min(1.0, strength * blur))
    brightness, tint = 0.15 * (uniform(rows, 1, 1, 1) - 0.5), 0.06 * (uniform(rows, 3, 1, 1) - 0.5)
    grain = torch.randn(images.shape, generator=generator, device=device)
    images = images * (1 + strength * gain * (brightness + tint))
    return (images + 0.04 * strength * noise * uniform(rows, 1, 1, 1) * grain).clamp(0, 1)


def detection_losses(output: DetectorOutput, sample: Sample) -> Losses:
    """Penalty-reduced focal loss on the heat maps; size, offset and colour where a centre is."""
    present = sample.label >= 0
    x0, y0, x1, y1 = (sample.box / STRIDE).unbind(-1)  # in cells
    centre = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2], dim=-1)
    cell = centre.long().clamp(0, GRID - 1)
    extent = torch.stack([x1 - x0, y1 - y0], dim=-1)

    axis = torch.arange(GRID, device=cell.device)
    spread = (extent / 10).clamp(min=0.6)
    bell_x, bell_y = (
        torch.exp(-((axis - cell[..., i, None]) ** 2) / (2 * spread[..., i, None] ** 2)) for i in (0, 1)
    )  # [B, S, 24]
    bell = (bell_y[..., :, None] * bell_x[..., None, :]).to(output.heat.dtype)  # [B, S, 24, 24]

    def highest(label: Tensor) -> Tensor:
        """The bells of things with a label, each on the map of its class."""
        place = label.clamp(min=0)[..., None, None].expand_as(bell)
        shown = bell * (label >= 0)[..., None, None]
        return torch.zeros_like(output.heat).scatter_reduce(1, place, shown, "amax")

    wanted, forgiven = highest(sample.label), highest(sample.unsure) > _NEAR
    count = present.sum().clamp(min=1)
    share = output.heat.sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = wanted > 0.999
    missed = (1 - wanted) ** 4 * share**2 * torch.log1p(-share) * ~forgiven
    focal = torch.where(hit, (1 - share) ** 2 * share.log(), missed)
    position = cell[..., 1] * GRID + cell[..., 0]  # [B, S]

    def at_centres(maps: Tensor) -> Tensor:
        flat = maps.flatten(2).transpose(1, 2)
        return flat.gather(1, position[..., None].expand(-1, -1, flat.shape[-1]))

    here = present[..., None]
    size = (at_centres(output.size) - extent / GRID).abs() * here
    offset = (at_centres(output.offset) - (centre - cell)).abs() * here
    painted = present & (sample.color > 0)
    color = F.cross_entropy(at_centres(output.color).transpose(1, 2), (sample.color - 1).clamp(min=0), reduction="none")
    return {
        "heat": -focal.sum() / count,
        "size": 5 * size.sum() / count,
        "offset": 0.5 * offset.sum() / count,
        "color": 0.5 * (color * painted).sum() / painted.sum().clamp(min=1),
    }


def train_detector(
    name: str,
    detector: SceneDetector,
    painter: Painter,
    schedule: Schedule,
    generator: torch.Generator,
    diet: Diet,
    vq: JanusVQVAE | None = None,
) -> SceneDetector:
    """Train in place; with an image tokeniser, part of every batch was decoded from tokens."""
    if detector.config.colors != DETECTOR_COLORS:
        raise ValueError(f"a detector has the colours {DETECTOR_COLORS}, not {detector.config.colors}")
    detector.requires_grad_(True).train()
    batches = _batches(painter, schedule.batch, generator, diet, vq)

    def losses(batch: Batch, share: Tensor) -> Losses:
        sample = Sample(*batch)
        images = sample.images
        if images.is_cuda:
            images = images.contiguous(memory_format=torch.channels_last)
        output = detector(images)
        with torch.autocast(images.device.type, enabled=False):
            return detection_losses(output, sample)

    train(name, detector.parameters(), lambda step: next(batches), losses, schedule, capture=True)
    return detector.requires_grad_(False).eval()


def _batches(
    painter: Painter, count: int, generator: torch.Generator, diet: Diet, vq: JanusVQVAE | None
) -> Iterator[Batch]:
    while True:
        block = draw_sample(painter, _AHEAD * count, generator, diet, vq)
        for index in range(_AHEAD):  # a stride, so that every batch has every kind of picture
            yield tuple(field[index::_AHEAD] for field in block)


def new_detector(config: DetectorConfig, device: torch.device, seed: int) -> SceneDetector:
    """Fresh weights, the same for the same seed on every device."""
    torch.manual_seed(seed)
    detector = SceneDetector(config).to(device)
    # Faster on a GPU; on a CPU, torch 2.14 crashed in the backward pass of this layout.
    return detector.to(memory_format=torch.channels_last) if device.type == "cuda" else detector

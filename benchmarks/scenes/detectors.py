"""Training of the critic's and the judge's detector.

Half of every batch are scenes as prompts ask for them, half is clutter in which some things are broken: cut in two, or
two halves of different things fused. A broken thing is background, so that a detector does not forgive a picture that
only hints at an object. In the second phase half of the pictures went through the image tokeniser, because that is what
the detectors will see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from milr_rewards.detector import STRIDE, DetectorConfig, DetectorOutput, SceneDetector

from .concepts import MAX_OBJECTS
from .training import Losses, Schedule, train
from .world import IMAGE_SIZE, Painter, Scenes, clutter, lay_out, sample_requests

GRID = IMAGE_SIZE // STRIDE
_BROKEN = 0.15  # share of things in clutter


@dataclass(frozen=True)
class Sample:
    """Pictures and what is truly in them."""

    images: Tensor  # [B, 3, 96, 96]
    scenes: Scenes  # broken things have label -1
    boxes: Tensor  # [B, K, 4] px


def draw_sample(painter: Painter, count: int, generator: torch.Generator) -> Sample:
    """Half prompted scenes, half clutter with broken things."""
    classes = len(painter.classes)
    prompted = lay_out(sample_requests(count - count // 2, classes, generator), generator, candidates=12)
    loose = clutter(count // 2, classes, generator, (1, MAX_OBJECTS))
    broken, visible, loose = _break(loose, generator)
    whole = torch.zeros_like(prompted.label, dtype=torch.bool)
    everything = torch.tensor([0.0, 0.0, 1.0, 1.0], device=visible.device).expand(*prompted.label.shape, 4)
    scenes = prompted.joined(loose)
    images = painter.render(scenes, torch.cat([everything, visible]))
    seen = replace(scenes, label=torch.where(torch.cat([whole, broken]), -1, scenes.label))
    return Sample(images, seen, painter.boxes(scenes))


def _break(scenes: Scenes, generator: torch.Generator) -> tuple[Tensor, Tensor, Scenes]:
    """Which things are broken [B, K], what shows of each square [B, K, 4], and the scenes (fused halves moved)."""
    shape, device = scenes.label.shape, scenes.label.device
    broken = torch.rand(shape, generator=generator, device=device) < _BROKEN
    keep = 0.35 + 0.15 * torch.rand(shape, generator=generator, device=device)
    zero, one = torch.zeros_like(keep), torch.ones_like(keep)
    ways = torch.stack(
        [
            torch.stack([zero, zero, keep, one], -1),  # left part
            torch.stack([1 - keep, zero, one, one], -1),  # right part
            torch.stack([zero, zero, one, keep], -1),  # top
            torch.stack([zero, 1 - keep, one, one], -1),  # bottom
        ]
    )
    way = torch.randint(4, shape, generator=generator, device=device)
    visible = ways.gather(0, way[None, ..., None].expand(1, *shape, 4))[0]
    visible = torch.where(broken[..., None], visible, torch.tensor([0.0, 0.0, 1.0, 1.0], device=device))

    # Fused: the second thing moves onto the first; the left half of the one meets the right half of the other.
    differ = scenes.label[:, 0] != scenes.label[:, 1]
    fused = differ & (torch.rand(shape[0], generator=generator, device=device) < _BROKEN)
    pair = fused[:, None] & (torch.arange(shape[1], device=device) < 2)
    halves = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]], device=device)
    visible[:, :2] = torch.where(fused[:, None, None], halves, visible[:, :2])
    corner, size = scenes.corner.clone(), scenes.size.clone()
    corner[:, 1] = torch.where(fused[:, None], corner[:, 0], corner[:, 1])
    size[:, 1] = torch.where(fused, size[:, 0], size[:, 1])
    return broken | pair, visible, replace(scenes, corner=corner, size=size)


def jitter(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Per picture: some blur, some noise, brighter or darker, a tint too weak to change the name of a colour."""
    rows, device = len(images), images.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, blurred, uniform(rows, 1, 1, 1) * min(1.0, strength))
    gain = 1 + 0.15 * strength * (uniform(rows, 1, 1, 1) - 0.5) + 0.06 * strength * (uniform(rows, 3, 1, 1) - 0.5)
    noise = torch.randn(images.shape, generator=generator, device=device)
    return (images * gain + 0.04 * strength * uniform(rows, 1, 1, 1) * noise).clamp(0, 1)


def detection_losses(output: DetectorOutput, sample: Sample) -> Losses:
    """Penalty-reduced focal loss on the heat maps; size, offset and colour where a centre is."""
    present = sample.scenes.label >= 0
    label = sample.scenes.label.clamp(min=0)
    x0, y0, x1, y1 = (sample.boxes / STRIDE).unbind(-1)  # in cells
    centre = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2], dim=-1)
    cell = centre.long().clamp(0, GRID - 1)
    extent = torch.stack([x1 - x0, y1 - y0], dim=-1)

    axis = torch.arange(GRID, device=label.device)
    spread = (extent / 10).clamp(min=0.6)
    bell_x, bell_y = (
        torch.exp(-((axis - cell[..., i, None]) ** 2) / (2 * spread[..., i, None] ** 2)) for i in (0, 1)
    )  # [B, K, 24]
    bell = bell_y[..., :, None] * bell_x[..., None, :] * present[..., None, None]  # [B, K, 24, 24]
    wanted = torch.zeros_like(output.heat).scatter_reduce(
        1, label[..., None, None].expand_as(bell), bell.to(output.heat.dtype), "amax"
    )
    count = present.sum().clamp(min=1)
    share = output.heat.sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = wanted > 0.999
    focal = torch.where(hit, (1 - share) ** 2 * share.log(), (1 - wanted) ** 4 * share**2 * torch.log1p(-share))
    position = cell[..., 1] * GRID + cell[..., 0]  # [B, K]

    def at_centres(maps: Tensor) -> Tensor:
        flat = maps.flatten(2).transpose(1, 2)
        return flat.gather(1, position[..., None].expand(-1, -1, flat.shape[-1]))

    here = present[..., None]
    size = (at_centres(output.size) - extent / GRID).abs() * here
    offset = (at_centres(output.offset) - (centre - cell)).abs() * here
    painted = present & (sample.scenes.color > 0)
    color = F.cross_entropy(
        at_centres(output.color).transpose(1, 2), (sample.scenes.color - 1).clamp(min=0), reduction="none"
    )
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
    strength: float,
    reconstruct: Callable[[Tensor], Tensor] | None = None,
) -> SceneDetector:
    """Train in place; with `reconstruct`, half of every batch goes through it."""
    detector.requires_grad_(True).train()

    def losses(step: int, share: float) -> Losses:
        with torch.no_grad():
            sample = draw_sample(painter, schedule.batch, generator)
            images = sample.images
            if reconstruct is not None:  # every second row: prompted scenes and clutter alike
                images = images.clone()
                images[::2] = reconstruct(images[::2].contiguous()).to(images.dtype)
            images = jitter(images, generator, strength)
            if images.is_cuda:
                images = images.contiguous(memory_format=torch.channels_last)
        output = detector(images)
        with torch.autocast(images.device.type, enabled=False):
            return detection_losses(output, sample)

    train(name, detector.parameters(), losses, schedule)
    return detector.requires_grad_(False).eval()


def new_detector(config: DetectorConfig, device: torch.device, seed: int) -> SceneDetector:
    """Fresh weights, the same for the same seed on every device."""
    torch.manual_seed(seed)
    detector = SceneDetector(config).to(device)
    # Faster on a GPU; on a CPU, torch 2.14 crashed in the backward pass of this layout.
    return detector.to(memory_format=torch.channels_last) if device.type == "cuda" else detector

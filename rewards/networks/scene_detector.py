"""Object detector for scenes: pictures in, named boxes with scores and colours out.

A small convolutional network in the manner of CenterNet (Zhou et al. 2019): one heat map per class on a grid of
stride 4, and at every cell the size of the box, the offset of its centre, and one of ten colours. A detection is a
local maximum of a heat map, so no suppression of overlapping boxes is needed.

The weights decide which world it knows: class and colour names, sizes and layers stand in the metadata of
`model.safetensors`. Three context modules exist so that a critic, a judge and who checks the judge can differ in more
than their seed.

It knows nothing about prompts or rules; `geneval_rule` grades what it finds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .detection import Detection

STRIDE = 4
SCORE_FLOOR = 0.05  # below this a detection carries no information, only time
MAX_PER_CLASS = 16  # GenEval's own limit
MAX_PER_IMAGE = 64
BATCH = 64  # pictures per forward pass of `detect`; keeps memory flat on a laptop
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class DetectorConfig:
    """What is needed to rebuild a detector before its weights are read."""

    classes: tuple[str, ...]
    colors: tuple[str, ...]
    width: int = 48  # channels at stride 2; doubled at each further level
    context: Literal["pyramid", "dilated", "attention"] = "pyramid"
    image_size: int = 96


class DetectorOutput(NamedTuple):
    """Raw maps on the stride-4 grid."""

    heat: Tensor  # [B, classes, h, w] logits
    size: Tensor  # [B, 2, h, w] width and height as a share of the picture
    offset: Tensor  # [B, 2, h, w] centre minus cell corner, in cells
    color: Tensor  # [B, colors, h, w] logits


class Peaks(NamedTuple):
    """The strongest local maxima of a batch, falling in score."""

    score: Tensor  # [B, n]
    label: Tensor  # [B, n] class index
    box: Tensor  # [B, n, 4] x0, y0, x1, y1 as a share of the picture
    color: Tensor  # [B, n, colors] probabilities


class SceneDetector(nn.Module):
    """Finds the objects of one closed world; built from a config, usually through `load`."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.version = "untrained"
        width = config.width
        self.stem = _conv(3, width, kernel=5, stride=2)  # 48 x 48
        self.level4 = nn.Sequential(_Residual(width, 2 * width, stride=2), _Residual(2 * width, 2 * width))
        self.context = _CONTEXTS[config.context](2 * width)
        self.heads = nn.Sequential(_conv(2 * width, 2 * width), nn.Conv2d(2 * width, _head_channels(config), 1))
        with torch.no_grad():  # start near "nothing here": the focal loss diverges from a prior of one half
            bias = self.heads[-1].bias
            assert isinstance(bias, Tensor)
            bias[: len(config.classes)].fill_(-4.6)

    def features(self, images: Tensor) -> list[Tensor]:
        """Stride-2 and stride-4 feature maps: a perceptual distance between pictures."""
        stem = self.stem(images * 2 - 1)
        return [stem, self.level4(stem)]

    def forward(self, images: Tensor) -> DetectorOutput:
        """Maps for pictures [B, 3, S, S] with values 0 to 1."""
        maps = self.heads(self.context(self.features(images)[-1])).float()
        heat, size, offset, color = maps.split([len(self.config.classes), 2, 2, len(self.config.colors)], dim=1)
        return DetectorOutput(heat, size.sigmoid(), offset.sigmoid(), color)

    def find(self, images: Tensor, limit: int = MAX_PER_IMAGE) -> Peaks:
        """The `limit` strongest peaks of every picture; stays on the device, for thousands of pictures at once."""
        output = self(images)
        heat = output.heat.sigmoid()
        heat = heat * (F.max_pool2d(heat, 3, stride=1, padding=1) == heat)
        rows, columns = heat.shape[-2:]
        score, place = heat.flatten(1).topk(limit, dim=1)  # [B, n]
        label, cell = place // (rows * columns), place % (rows * columns)

        def at_cells(maps: Tensor) -> Tensor:  # [B, C, h, w] -> [B, n, C]
            flat = maps.flatten(2).transpose(1, 2)
            return flat.gather(1, cell.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))

        corner = torch.stack([cell % columns, cell // columns], dim=-1)
        grid = torch.tensor([columns, rows], device=heat.device)
        centre = (corner + at_cells(output.offset)) / grid
        half = at_cells(output.size) / 2
        box = torch.cat([centre - half, centre + half], dim=-1).clamp(0, 1)
        return Peaks(score, label, box, at_cells(output.color).softmax(-1))

    @torch.inference_mode()
    def detect(self, images: Sequence[Image.Image]) -> list[dict[str, list[Detection]]]:
        """Per picture: class name -> detections in falling order of score, at most 16 a class, none under 0.05."""
        found: list[dict[str, list[Detection]]] = []
        device = next(self.parameters()).device
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            pixels = torch.stack([_to_tensor(image, self.config.image_size) for image in batch])
            peaks = self.find(pixels.to(device))
            found += self.name_peaks(peaks, [image.size for image in batch])
        return found

    def name_peaks(self, peaks: Peaks, sizes: Sequence[tuple[int, int]]) -> list[dict[str, list[Detection]]]:
        """Peaks as detections in pixels of pictures that are `sizes` (width, height) large."""
        scores, labels = peaks.score.tolist(), peaks.label.tolist()
        boxes, colors = peaks.box.tolist(), peaks.color.tolist()
        named: list[dict[str, list[Detection]]] = []
        for row, (width, height) in enumerate(sizes):
            objects: dict[str, list[Detection]] = {}
            for score, label, (x0, y0, x1, y1), color in zip(
                scores[row], labels[row], boxes[row], colors[row], strict=True
            ):
                if score < SCORE_FLOOR:
                    break
                name = self.config.classes[label]
                if len(objects.setdefault(name, [])) < MAX_PER_CLASS:
                    box = (x0 * width, y0 * height, x1 * width, y1 * height)
                    shares = dict(zip(self.config.colors, color, strict=True))
                    objects[name].append(Detection(name, score, box, shares))
            named.append(objects)
        return named

    def save(self, folder: str | Path) -> None:
        """Write half-precision weights with the config in their metadata."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
            for name, tensor in self.state_dict().items()
        }
        save_file(state, folder / WEIGHTS_FILE, metadata={"config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> SceneDetector:
        """Read a detector saved by `save`; frozen, in evaluation mode and single precision."""
        path = Path(folder) / WEIGHTS_FILE
        if not path.is_file():
            raise FileNotFoundError(f"no detector in {str(folder)!r}: expected a file {WEIGHTS_FILE!r} there")
        with safe_open(path, framework="pt") as file:
            fields = json.loads((file.metadata() or {}).get("config", "null"))
            if fields is None:
                raise ValueError(f"{str(path)!r} holds no detector: its metadata has no 'config'")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        fields["classes"], fields["colors"] = tuple(fields["classes"]), tuple(fields["colors"])
        detector = cls(DetectorConfig(**fields))
        detector.load_state_dict(state)
        detector.version = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return detector.to(device).requires_grad_(False).eval()


class _Residual(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = _conv(inner, outer, stride=stride, dilation=dilation)
        self.second = nn.Sequential(
            nn.Conv2d(outer, outer, 3, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm2d(outer)
        )
        same = stride == 1 and inner == outer
        self.shortcut = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.shortcut(x) + self.second(self.first(x)))


class _Pyramid(nn.Module):
    """Context by going down to stride 16 and back up, adding the finer map at each level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.level8 = nn.Sequential(_Residual(width, width, stride=2), _Residual(width, width))
        self.level16 = nn.Sequential(_Residual(width, 2 * width, stride=2), _Residual(2 * width, 2 * width))
        self.narrow = _conv(2 * width, width, kernel=1)
        self.merge8 = _conv(width, width)
        self.merge4 = _conv(width, width)

    def forward(self, level4: Tensor) -> Tensor:
        level8 = self.level8(level4)
        level8 = self.merge8(level8 + F.interpolate(self.narrow(self.level16(level8)), scale_factor=2.0))
        return self.merge4(level4 + F.interpolate(level8, scale_factor=2.0))


class _Dilated(nn.Module):
    """Context at stride 8 by growing dilation, without a coarser level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.level8 = _Residual(width, width, stride=2)
        self.spread = nn.Sequential(*(_Residual(width, width, dilation=dilation) for dilation in (1, 2, 3, 1)))
        self.merge4 = _conv(width, width)

    def forward(self, level4: Tensor) -> Tensor:
        wide = self.spread(self.level8(level4))
        return self.merge4(level4 + F.interpolate(wide, scale_factor=2.0, mode="bilinear"))


class _Attention(nn.Module):
    """Context at stride 8 by transformer blocks: every place sees every other at once."""

    def __init__(self, width: int, blocks: int = 4) -> None:
        super().__init__()
        self.level8 = _conv(width, width, stride=2)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))
        self.merge4 = _conv(width, width)

    def forward(self, level4: Tensor) -> Tensor:
        wide = self.blocks(self.level8(level4))
        return self.merge4(level4 + F.interpolate(wide, scale_factor=2.0, mode="bilinear"))


class _Block(nn.Module):
    """A transformer block on a map; a convolution per channel tells it where things are."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.before_mix, self.before_think = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows, width, high, wide = x.shape
        flat = (x + self.place(x)).flatten(2).transpose(1, 2)  # [B, places, width]
        parts = self.query_key_value(self.before_mix(flat)).view(rows, high * wide, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [B, heads, places, width / heads] each
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        flat = flat + self.mixed(seen)
        flat = flat + self.think(self.before_think(flat))
        return flat.transpose(1, 2).view(rows, width, high, wide)


_CONTEXTS: dict[str, type[nn.Module]] = {"pyramid": _Pyramid, "dilated": _Dilated, "attention": _Attention}


def _conv(inner: int, outer: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, stride, padding, dilation, bias=False), nn.BatchNorm2d(outer), nn.SiLU()
    )


def _head_channels(config: DetectorConfig) -> int:
    return len(config.classes) + 2 + 2 + len(config.colors)


def _to_tensor(image: Image.Image, size: int) -> Tensor:
    """Picture -> [3, size, size] in 0 to 1; a transparent or paletted picture is flattened by `convert`."""
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)

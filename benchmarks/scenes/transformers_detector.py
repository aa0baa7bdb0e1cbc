"""An honest try of a transformers detection class: RT-DETR from scratch on clean scenes, graded by GenEval's rule.

`python -m milr_benchmarks.scenes.transformers_detector --seconds 150 --device cuda` prints one JSON line. Only training
counts as seconds. No stage of the recipe uses this: `milr_rewards.networks.scene_detector` is compared with it.

Of the library's classes RT-DETR has most help for a short training: queries start at the encoder's best tokens, and
denoising queries learn without any matching. For a fair chance it gets strides 4, 8, 16; batch norms that train (the
class freezes its backbone's); the start that its authors gave it, first boxes as large as things; a linear head for
colours; and its own loss computed for a whole batch on the device, where the class calls scipy for each picture.

As long as transformers 5.17 is in use, the class's own loss would not do: it matches the last layer's denoising queries
as well (transformers pull request 48528), which take the examples of the queries that detect.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig
from transformers.image_transforms import center_to_corners_format

from milr_rewards import geneval_rule
from milr_rewards.networks.detection import Detection
from milr_rewards.networks.scene_detector import DetectorConfig, Peaks, SceneDetector

from . import evaluate
from .concepts import COLORS, MAX_OBJECTS
from .layout import clutter, lay_out
from .sprites import drawn_sprites, load_sprites
from .world import IMAGE_SIZE, Painter, sample_requests

log = logging.getLogger(__name__)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
SEED, CHOOSING_SEED, REPORTING_SEED = 7, 1_000_003, 2_000_003  # the recipe's


@dataclass(frozen=True)
class Size:
    """How large, how fast, how much is graded."""

    width: int = 64  # channels at stride 4; doubled at each further level
    depth: int = 2  # residual blocks a level
    hidden: int = 128
    decoder_layers: int = 3
    batch: int = 256
    peak_lr: float = 8e-4
    warmup: int = 150
    scenes: int = 4096


TOY = Size(width=24, depth=1, hidden=64, decoder_layers=2, batch=16, warmup=30, scenes=48)


class Truth(NamedTuple):
    """What pictures show; absent things come last."""

    present: Tensor  # [B, K]
    label: Tensor  # [B, K] 0 where absent
    color: Tensor  # [B, K] 0 is natural
    box: Tensor  # [B, K, 4] centre and size as shares of the picture


class ColourDetr(nn.Module):
    """RT-DETR with fresh weights, and a head for colours."""

    def __init__(self, size: Size, classes: int) -> None:
        super().__init__()
        widths, hidden = [size.width, 2 * size.width, 4 * size.width], size.hidden
        backbone = RTDetrResNetConfig(
            embedding_size=size.width, hidden_sizes=widths, depths=[size.depth] * 3, layer_type="basic",
            out_indices=[1, 2, 3],
        )  # fmt: skip
        config = RTDetrConfig(
            backbone_config=backbone, freeze_backbone_batch_norms=False, num_labels=classes, num_queries=30,
            num_denoising=20, encoder_in_channels=widths, feat_strides=[4, 8, 16], encoder_hidden_dim=hidden,
            encoder_ffn_dim=4 * hidden, encoder_attention_heads=4, hidden_expansion=0.5, d_model=hidden,
            decoder_in_channels=[hidden] * 3, decoder_ffn_dim=4 * hidden, decoder_attention_heads=4,
            decoder_layers=size.decoder_layers,
        )  # fmt: skip
        self.detr = RTDetrForObjectDetection(config)
        self.color = nn.Linear(hidden, len(COLORS))
        _start_as_the_authors(self.detr)

    @torch.no_grad()  # not inference mode: the class keeps its anchors for the next training step
    def find(self, images: Tensor) -> Peaks:
        """The best class of each query, falling in score."""
        output = self.detr(images * 2 - 1)
        score, label = output.logits.sigmoid().max(-1)
        color = self.color(output.last_hidden_state).softmax(-1)
        score, order = score.sort(descending=True)
        row = torch.arange(len(images), device=images.device)[:, None]
        box = center_to_corners_format(output.pred_boxes)
        return Peaks(score, label[row, order], box[row, order], color[row, order])


@torch.no_grad()
def _start_as_the_authors(detr: RTDetrForObjectDetection) -> None:
    """The class's own start is meant for loading weights: batch norms scale by 0 +- 0.01, layers are 0 +- 0.01."""
    for name, module in detr.named_modules():
        steers = name.endswith(("sampling_offsets", "attention_weights"))  # start as rays, and even
        if isinstance(module, nn.Linear | nn.Conv2d | nn.BatchNorm2d) and not steers:
            module.reset_parameters()
    core = detr.model
    for head in (core.enc_score_head, *core.decoder.class_embed):
        head.bias.fill_(-math.log(99.0))
    for head in (core.enc_bbox_head, *core.decoder.bbox_embed):
        head.layers[-1].weight.zero_()
        head.layers[-1].bias.zero_()
    # Anchors are 0.05, 0.1 and 0.2 of the picture wide; with this they are 0.24, 0.40 and 0.60.
    core.enc_bbox_head.layers[-1].bias[2:] = 1.8


def draw(painter: Painter, count: int, generator: torch.Generator) -> tuple[Tensor, Truth]:
    """Clean scenes: half as prompts ask for them, half clutter."""
    classes = len(painter.classes)
    prompted = lay_out(sample_requests(count - count // 2, classes, generator), generator, candidates=12)
    scenes = prompted.joined(clutter(count // 2, classes, generator, (1, MAX_OBJECTS)))
    low, high = (painter.boxes(scenes) / IMAGE_SIZE).split(2, dim=-1)
    box = torch.cat([(low + high) / 2, high - low], dim=-1)
    return painter.render(scenes), Truth(scenes.label >= 0, scenes.label.clamp(min=0), scenes.color, box)


def losses(model: ColourDetr, images: Tensor, truth: Truth) -> dict[str, Tensor]:
    """The class's loss for matched and for denoising queries, and cross-entropy for colours."""
    counts = truth.present.sum(1).tolist()
    labels = [
        {"class_labels": label[:count], "boxes": box[:count]}
        for label, box, count in zip(truth.label, truth.box, counts, strict=True)
    ]
    output = model.detr.model(images * 2 - 1, labels=labels)
    meta = output.denoising_meta_values
    noisy_logits, logits = output.intermediate_logits.split(meta["dn_num_split"], dim=2)  # [B, layers, Q, C]
    noisy_boxes, boxes = output.intermediate_reference_points.split(meta["dn_num_split"], dim=2)
    logits = torch.cat([output.enc_topk_logits[:, None], logits], dim=1)
    boxes = torch.cat([output.enc_topk_bboxes[:, None], boxes], dim=1)
    match = matched(logits, boxes, truth)
    # Denoising queries: per group one true and one false of each thing, as many as the fullest picture has.
    groups, most = meta["dn_num_group"], max(counts)
    source = torch.arange(groups, device=images.device)[:, None] * 2 * most + torch.arange(most, device=images.device)
    source = source.flatten().expand(*noisy_logits.shape[:2], -1)
    shown = Truth(*(torch.cat([value[:, :most]] * groups, dim=1) for value in truth))
    place = torch.cat([source[:, -1], match[:, -1] + meta["dn_num_split"][0]], dim=1)[..., None]
    states = output.last_hidden_state.gather(1, place.expand(-1, -1, output.last_hidden_state.shape[-1]))
    color = torch.cat([shown.color, truth.color], dim=1) - 1  # -1 also where nothing is
    return {
        "matched": box_and_class_loss(logits, boxes, match, truth),
        "denoised": box_and_class_loss(noisy_logits, noisy_boxes, source, shown),
        "color": 2 * F.cross_entropy(model.color(states).transpose(1, 2), color, ignore_index=-1),
    }


@torch.no_grad()
def matched(logits: Tensor, boxes: Tensor, truth: Truth) -> Tensor:
    """[B, S, K] the query of each thing in each of S sets of queries: the cheapest choice that uses no query twice.

    A thing never needs more than its K cheapest queries, for the others take K - 1 of them at most; all are tried.
    """
    share = logits.gather(3, truth.label[:, None, None].expand(-1, *logits.shape[1:3], -1)).sigmoid()  # [B, S, Q, K]
    miss = 0.25 * (1 - share) ** 2 * -(share + 1e-8).log()
    false = 0.75 * share**2 * -(1 - share + 1e-8).log()
    wanted = truth.box[:, None, None]  # [B, 1, 1, K, 4]
    distance = (boxes[..., None, :] - wanted).abs().sum(-1)
    cost = 2 * (miss - false) + 5 * distance - 2 * overlaps(boxes[..., None, :], wanted)[1]
    things = truth.label.shape[1]
    value, query = cost.topk(things, dim=2, largest=False)  # [B, S, choice, K]
    thing = torch.arange(things, device=query.device)
    choices = torch.cartesian_prod(*[thing] * things)  # [K ** K, K] which of its cheapest each thing takes
    present = truth.present[:, None, None]
    total = (value * present)[:, :, choices, thing].sum(-1)
    taken = torch.where(present, query, -1 - thing)[:, :, choices, thing]
    for one, other in itertools.combinations(range(things), 2):
        total += 1e4 * (taken[..., one] == taken[..., other])
    return query.gather(2, choices[total.argmin(-1)][:, :, None])[:, :, 0]


def box_and_class_loss(logits: Tensor, boxes: Tensor, match: Tensor, truth: Truth) -> Tensor:
    """Varifocal, L1 and GIoU loss per thing, of sets of queries; `match` [B, S, K] is the query of each thing."""
    here, wanted = truth.present[:, None], truth.box[:, None]
    chosen = boxes.gather(2, match[..., None].expand(-1, -1, -1, 4))
    overlap, generalized = overlaps(chosen, wanted)
    quality = overlap.detach().clamp(min=1e-6) * here
    place = match * logits.shape[-1] + truth.label[:, None]
    target = torch.zeros_like(logits).flatten(2).scatter_add(2, place, quality).view_as(logits)
    weight = torch.where(target > 0, target, 0.75 * logits.detach().sigmoid() ** 2)
    varifocal = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    distance = (chosen - wanted).abs().sum(-1)
    return (varifocal + ((5 * distance + 2 * (1 - generalized)) * here).sum()) / truth.present.sum()


def overlaps(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU of boxes given by centre and size."""
    a, b = center_to_corners_format(one), center_to_corners_format(other)
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1).clamp(min=1e-7)
    union = (one[..., 2:].prod(-1) + other[..., 2:].prod(-1) - inner).clamp(min=1e-7)
    return inner / union, inner / union - (hull - union) / hull


def training(
    model: ColourDetr, painter: Painter, size: Size, seconds: float, pause: float
) -> Iterator[tuple[ColourDetr, int, float]]:
    """Train; every `pause` seconds of it and at its end, yield the averaged model, the steps and the seconds so far."""
    generator = torch.Generator(painter.atlas.device).manual_seed(SEED)
    average = copy.deepcopy(model).eval()
    current, mean = ([v for v in m.state_dict().values() if v.is_floating_point()] for m in (model.train(), average))
    optimizer = torch.optim.AdamW(model.parameters(), size.peak_lr, betas=(0.9, 0.99), weight_decay=0.01)
    spent, steps, next_pause = 0.0, 0, min(pause, seconds)
    while spent < seconds:
        began = time.monotonic()
        falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * spent / seconds))
        optimizer.param_groups[0]["lr"] = size.peak_lr * falling * min(1.0, (steps + 1) / size.warmup)
        terms = losses(model, *draw(painter, size.batch, generator))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        torch._foreach_lerp_(mean, current, 1 - min(0.998, (1 + steps) / (10 + steps)))
        steps += 1
        spent += time.monotonic() - began
        if spent >= next_pause:
            next_pause = min(next_pause + pause, seconds)
            log.info("%d steps, %s", steps, {name: round(term.item(), 3) for name, term in terms.items()})
            yield average, steps, spent


def accuracies(model: ColourDetr, painter: Painter, count: int, seed: int) -> dict[float, dict[str, float]]:
    """Per threshold, the accuracy of GenEval's rule on fresh scenes by tag."""
    images, rows = evaluate.true_scenes(painter, count, seed)
    namer = SceneDetector(DetectorConfig(tuple(painter.classes), tuple(COLORS), width=1))
    found: list[dict[str, list[Detection]]] = []
    for batch in images.split(512):
        found += namer.name_peaks(model.find(batch), [(IMAGE_SIZE, IMAGE_SIZE)] * len(batch))

    def passes(objects: dict[str, list[Detection]], row: dict[str, Any], least: float) -> bool:
        named = {"color_of": lambda one, _: geneval_rule.likeliest(one.colors or {})}
        return geneval_rule.grade(objects, row, threshold=least, counting_threshold=least, **named).correct

    pairs = list(zip(found, rows, strict=True))
    return {least: evaluate.by_tag([passes(*pair, least) for pair in pairs], rows) for least in THRESHOLDS}


def figures(painter: Painter, size: Size, seconds: float, pause: float = 30.0) -> dict[str, Any]:
    """Train and grade; the threshold is chosen on scenes that are not reported."""
    torch.manual_seed(SEED)
    model = ColourDetr(size, len(painter.classes)).to(painter.atlas.device)
    history: list[dict[str, Any]] = []
    for average, steps, spent in training(model, painter, size, seconds, pause):
        tables = accuracies(average, painter, size.scenes, CHOOSING_SEED)
        threshold = max(tables, key=lambda least: tables[least]["mean"])
        history.append({"seconds": round(spent, 1), "steps": steps, "threshold": threshold, **tables[threshold]})
        log.info("%s", history[-1])
    return {
        "class": type(model.detr).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(spent, 1),
        "steps": steps,
        "batch": size.batch,
        "threshold": threshold,
        "accuracy": accuracies(average, painter, size.scenes, REPORTING_SEED)[threshold],
        "on the way": history,
    }


@click.command()
@click.option("--seconds", type=float, default=150.0, show_default=True, help="Of training alone.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--font", type=click.Path(dir_okay=False, path_type=Path), help="A NotoColorEmoji.ttf.")
@click.option("--toy", is_flag=True, help="Fifteen things and a small model, for a CPU.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Keep the line as figures.json there.")
def main(seconds: float, device: str, font: Path | None, toy: bool, out: Path | None) -> None:
    """Train RT-DETR from scratch on clean scenes, grade it, print one JSON line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    painter = Painter(drawn_sprites() if toy else load_sprites(font), device)
    line = json.dumps(figures(painter, TOY if toy else Size(), seconds))
    click.echo(line)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "figures.json").write_text(line + "\n")


if __name__ == "__main__":
    main()

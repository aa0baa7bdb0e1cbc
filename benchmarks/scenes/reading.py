"""Reading: pictures with questions and plans, and the losses that teach `mini` to see.

A row is `<bos><boi>`, the 144 embeddings of the vision tower, `<eoi>` and 69 ids of text, 216 positions like a row of
drawing: either `question<think>yes` several times over (a row at inference holds one), or `<think>plan<eos>`.

    pool = build_reading_pool(painter, count, generator, reconstruct, workers)
    heads = PatchHeads(config.text_config.hidden_size, len(painter.classes))
    train_vision(model.model.vision_model, model.model.aligner, heads, pool, schedule, generator)
    batch = draw_reading(pool, rows, generator)                # eager: pixels, ids, targets, patches
    terms = reading_losses(model, heads, frame, batch)         # fixed shapes, never waits for the GPU

A third of the pictures hold broken things, which are not there; half look as the model's own pictures do.
So that the tower learns within minutes, linear heads on its patches, thrown away later, name what covers each of them.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast

from . import language
from .broken import Broken, break_things, render_broken, shown_ink
from .concepts import COLORS, MAX_OBJECTS
from .detectors import jitter
from .layout import clutter, lay_out
from .questions import Content, ask, content_of, natural_distance
from .training import Batch, Losses, Schedule, train
from .world import IMAGE_SIZE, SNAP, Arrays, Painter, Scenes, _Rows, sample_requests

PATCHES = IMAGE_SIZE // SNAP  # along a side; the vision tower's patches and the image tokens are alike
TEXT_START = 2 + PATCHES**2 + 1  # <bos><boi>, the picture, <eoi>
TEXT_LENGTH = 69  # with the rest 216, the length of a drawing row
CONTEXT, ANSWER, PLAN = 0, 1, 2  # what a position of text is: only the last two are learned
_DESCRIBED = 0.35  # share of rows with a plan instead of questions
_PROMPTED = 0.55  # share of scenes as prompts ask for them; the others are clutter
_ALIKE = 0.4  # how often a thing of clutter is of the same class as the one before: counts need several
_BROKEN = 1 / 3  # share of pictures in which things may be broken
_COVERED = 0.15  # share of a patch that is ink, from which it belongs to a thing
_CANDIDATES = 12
_CHUNK = 2048
_JITTER = 0.8
_DENSE_WEIGHT = 0.25

Reconstruct = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReadingPool(_Rows):
    """Pictures with their text, on one device: 29 kB a row."""

    images: Tensor  # [N, 3, 96, 96] uint8
    ids: Tensor  # [N, 69] int16, padded
    target: Tensor  # [N, 69] int8: CONTEXT, ANSWER or PLAN
    label: Tensor  # [N, 144] uint8: class of what covers each patch, the number of classes for the ground
    color: Tensor  # [N, 144] uint8: its colour, 0 for natural and for the ground
    offset: Tensor  # [N, 144, 2] float16: from the patch to the middle of the thing, in thirds of the picture

    def __len__(self) -> int:
        return len(self.ids)


def draw_broken(painter: Painter, count: int, generator: torch.Generator) -> Broken:
    """Fresh scenes of the training mix and clutter in turn, a third of them with broken things."""
    classes = len(painter.classes)
    prompted = round(count * _PROMPTED)
    scenes = lay_out(sample_requests(prompted, classes, generator), generator, candidates=_CANDIDATES)
    scenes = scenes.joined(_with_several(clutter(count - prompted, classes, generator, (1, MAX_OBJECTS)), generator))
    scenes = scenes[torch.randperm(count, generator=generator, device=generator.device)]
    hurt = round(count * _BROKEN)
    broken = break_things(scenes[:hurt], painter, generator)
    return broken.joined(break_things(scenes[hurt:], painter, generator, share=0.0))


def _with_several(scenes: Scenes, generator: torch.Generator) -> Scenes:
    """Some things become of the same class as the one before, half of those of its colour too."""
    label, color = scenes.label.clone(), scenes.color.clone()
    chance = torch.rand(label.shape, generator=generator, device=label.device)
    for slot in range(1, label.shape[1]):
        alike = (chance[:, slot] < _ALIKE) & (label[:, slot] >= 0)
        label[:, slot] = torch.where(alike, label[:, slot - 1], label[:, slot])
        color[:, slot] = torch.where(alike & (chance[:, slot] < _ALIKE / 2), color[:, slot - 1], color[:, slot])
    return Scenes(label, color, scenes.size, scenes.corner, scenes.background)


def build_reading_pool(
    painter: Painter,
    count: int,
    generator: torch.Generator,
    reconstruct: Reconstruct | None = None,
    workers: Executor | None = None,
) -> ReadingPool:
    """`count` rows on the painter's device; every second picture goes through `reconstruct`.

    Pictures are made where the painter is; texts in `workers`, or here.
    """
    seeds = random.Random(generator.initial_seed())
    natural = natural_distance(painter)
    pictures: list[tuple[Tensor, ...]] = []
    texts: list[tuple[NDArray[Any], ...] | Future[tuple[NDArray[Any], ...]]] = []
    for start in range(0, count, _CHUNK):
        broken = draw_broken(painter, min(_CHUNK, count - start), generator)
        arguments = (content_of(painter, broken).numpy(), painter.classes, natural, seeds.random())
        texts.append(workers.submit(write_text, *arguments) if workers else write_text(*arguments))
        images = render_broken(painter, broken)
        if reconstruct is not None:
            images[::2] = reconstruct(images[::2].contiguous()).to(images.dtype)
        label, color, offset = patch_labels(painter, broken)
        quantised = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        pictures.append((quantised, label.to(torch.uint8), color.to(torch.uint8), offset.half()))
    images, label, color, offset = (torch.cat(column) for column in zip(*pictures, strict=True))
    written = [text.result() if isinstance(text, Future) else text for text in texts]
    ids, target = (torch.from_numpy(np.concatenate(column)) for column in zip(*written, strict=True))
    return ReadingPool(images, ids.to(images.device), target.to(images.device), label, color, offset)


def write_text(
    content: Arrays, classes: tuple[str, ...], natural: list[list[float]], seed: float
) -> tuple[NDArray[np.int16], NDArray[np.int8]]:
    """Ids and targets [N, 69] for pictures of this content: plans for a third, questions for the others."""
    rng = random.Random(seed)
    pictures = Content.from_numpy(content)
    described = pictures.describable() & torch.tensor([rng.random() < _DESCRIBED for _ in range(len(pictures))])
    plans = iter(language.plans(pictures.scenes[described], classes))
    asked = iter(ask(pictures[~described], classes, natural, rng))
    encode = _encoder()
    rows = [
        encode.plan(next(plans)) if plan else encode.answers([(one.text, one.answer) for one in next(asked)])
        for plan in described.tolist()
    ]
    return np.array([ids for ids, _ in rows], dtype=np.int16), np.array([kinds for _, kinds in rows], dtype=np.int8)


class _Encoder:
    """Text to padded ids and targets; remembers the ids of questions, since most come again."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._known: dict[str, list[int]] = {}
        self._think, self._eos, self._pad = (
            tokenizer.convert_tokens_to_ids(name) for name in (language.THINK, language.EOS, language.PAD)
        )

    def plan(self, text: str) -> tuple[list[int], list[int]]:
        words = self._ids(text)
        return self._padded([self._think, *words, self._eos], [CONTEXT] + [PLAN] * (len(words) + 1))

    def answers(self, asked: list[tuple[str, bool]]) -> tuple[list[int], list[int]]:
        """As many as fit."""
        ids: list[int] = []
        target: list[int] = []
        for question, answer in asked:
            words = self._ids(question)
            if len(ids) + len(words) + 2 > TEXT_LENGTH:
                break
            ids += [*words, self._think, *self._ids("yes" if answer else "no")]
            target += [CONTEXT] * (len(words) + 1) + [ANSWER]
        return self._padded(ids, target)

    def _ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._backend.encode(text, add_special_tokens=False).ids
        return self._known[text]

    def _padded(self, ids: list[int], target: list[int]) -> tuple[list[int], list[int]]:
        rest = TEXT_LENGTH - len(ids)
        return ids + [self._pad] * rest, target + [CONTEXT] * rest


@functools.cache
def _encoder() -> _Encoder:
    return _Encoder(language.build_tokenizer())


class PatchHeads(nn.Module):
    """What covers each patch, its colour, and where its middle is; [B, 144, H] -> logits, logits, offsets."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.label = nn.Linear(width, classes + 1)  # the last one is the ground
        self.color = nn.Linear(width, len(COLORS) + 1)  # the first one is natural, or the ground
        self.offset = nn.Linear(width, 2)  # from the patch to the middle of the thing, in thirds of the picture


def patch_labels(painter: Painter, broken: Broken) -> tuple[Tensor, Tensor, Tensor]:
    """[B, 144] class (their number for the ground), [B, 144] colour, [B, 144, 2] offset, as in `ReadingPool`."""
    seen = broken.seen
    ink = shown_ink(painter, broken).flatten(2).transpose(1, 2) * (seen.label >= 0)[:, None]  # [B, 144, S]
    most, slot = ink.max(-1)
    covered = most > _COVERED
    label = torch.where(covered, seen.label.gather(1, slot), len(painter.classes))
    color = torch.where(covered, seen.color.gather(1, slot), 0)
    axis = (torch.arange(PATCHES, device=ink.device) + 0.5) * SNAP
    place = torch.stack([axis.repeat(PATCHES), axis.repeat_interleave(PATCHES)], dim=-1)  # [144, 2]
    boxes = painter.boxes(seen)
    middle = ((boxes[..., :2] + boxes[..., 2:]) / 2).float()
    offset = (middle.gather(1, slot[..., None].expand(-1, -1, 2)) - place) / (IMAGE_SIZE / 3)
    return label, color, torch.where(covered[..., None], offset, 0.0)


def draw_reading(pool: ReadingPool, rows: Tensor, generator: torch.Generator) -> Batch:
    """Pixels [B, 3, 96, 96] as Janus's processor gives them (-1 to 1), ids, target and the three patch labels."""
    chosen = pool[rows]
    images = jitter(chosen.images.float() / 255, generator, _JITTER)
    return 2 * images - 1, chosen.ids.long(), chosen.target, chosen.label.long(), chosen.color.long(), chosen.offset


def frame_ids(tokenizer: PreTrainedTokenizerFast, device: torch.device | str) -> Tensor:
    """[3] what stands before and after a picture."""
    names = (language.BOS, language.BOI, language.EOI)
    return torch.tensor([tokenizer.convert_tokens_to_ids(name) for name in names], device=device)


def reading_embeddings(model: JanusForConditionalGeneration, frame: Tensor, ids: Tensor, seen: Tensor) -> Tensor:
    """[B, 147 + T, H] for text [B, T] behind pictures [B, 144, H] (from `look`)."""
    embed = model.model.language_model.embed_tokens
    text = embed(torch.cat([frame.expand(len(ids), -1), ids], dim=1)).to(seen.dtype)
    return torch.cat([text[:, :2], seen, text[:, 2:]], dim=1)


def look(vision_model: nn.Module, aligner: nn.Module, pixels: Tensor) -> Tensor:
    """[B, 144, H] what the language part sees of pictures."""
    features: Tensor = aligner(vision_model(pixels).last_hidden_state)
    return features


def text_losses(model: JanusForConditionalGeneration, hidden: Tensor, ids: Tensor, target: Tensor) -> Losses:
    """Cross-entropy of answers and of plans, each the mean over its tokens; `hidden` [B, 216, H] of whole rows."""
    logits = model.lm_head(hidden[:, TEXT_START : TEXT_START + ids.shape[1] - 1])
    surprise = F.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none")  # [B, 68]

    def mean(kind: int) -> Tensor:
        here = target[:, 1:] == kind
        return (surprise * here).sum() / here.sum().clamp(min=1)

    return {"answers": mean(ANSWER), "descriptions": mean(PLAN)}


def patch_losses(heads: PatchHeads, seen: Tensor, label: Tensor, color: Tensor, offset: Tensor) -> Losses:
    """How badly the patches [B, 144, H] tell what covers them."""
    covered = (label < heads.label.out_features - 1).unsqueeze(-1)
    miss = F.smooth_l1_loss(heads.offset(seen).float(), offset.float(), reduction="none", beta=0.1) * covered
    return {
        "patch class": F.cross_entropy(heads.label(seen).float().flatten(0, 1), label.flatten()),
        "patch color": F.cross_entropy(heads.color(seen).float().flatten(0, 1), color.flatten()),
        "patch offset": miss.sum() / covered.sum().clamp(min=1),
    }


def reading_losses(model: JanusForConditionalGeneration, heads: PatchHeads, frame: Tensor, batch: Batch) -> Losses:
    """All terms for a batch of `draw_reading`; the patches' count less here than in `train_vision`."""
    pixels, ids, target, *patches = batch
    seen = look(model.model.vision_model, model.model.aligner, pixels)
    embeddings = reading_embeddings(model, frame, ids, seen)
    hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    dense = patch_losses(heads, seen, *patches)
    return text_losses(model, hidden, ids, target) | {name: _DENSE_WEIGHT * term for name, term in dense.items()}


def train_vision(
    vision_model: nn.Module,
    aligner: nn.Module,
    heads: PatchHeads,
    pool: ReadingPool,
    schedule: Schedule,
    generator: torch.Generator,
    capture: bool = False,
) -> None:
    """Train tower, aligner and heads in place on the patches alone, before they meet the language part."""
    parts = (vision_model, aligner, heads)
    for part in parts:
        part.requires_grad_(True).train()

    def draw(step: int) -> Batch:
        rows = torch.randint(len(pool), (schedule.batch,), generator=generator, device=generator.device)
        pixels, _, _, *patches = draw_reading(pool, rows, generator)
        return pixels, *patches

    def losses(batch: Batch, share: Tensor) -> Losses:
        pixels, *patches = batch
        return patch_losses(heads, look(vision_model, aligner, pixels), *patches)

    parameters = [parameter for part in parts for parameter in part.parameters()]
    train("vision", parameters, draw, losses, schedule, capture=capture)

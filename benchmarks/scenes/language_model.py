"""Training of the language part of `mini`: an unmodified `JanusForConditionalGeneration` around a trained tokeniser.

It learns to write plans and to draw, and beside every batch of drawings it reads some pictures (see `reading`).

A drawing is one row of ids: `<bos> prompt <think> plan <boi>`, 144 image tokens, padding. Image tokens are counted on
from the vocabulary's end, so that one table embeds both kinds. One row in ten has no plan, one in ten loses all its
text but `<bos>` and `<boi>` to padding (Janus's unconditional form, which guidance needs).
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import JanusConfig, JanusForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.janus.modeling_janus import JanusVQVAE

from . import language, tokeniser
from .benchmark import held_out
from .layout import lay_out
from .reading import (
    PatchHeads,
    ReadingPool,
    draw_reading,
    frame_ids,
    look,
    patch_losses,
    reading_embeddings,
    text_losses,
)
from .training import Averaged, Batch, Losses, Schedule, train
from .world import Arrays, Painter, Requests, Scenes, sample_requests

IMAGE_TOKENS = tokeniser.TOKENS_PER_SIDE**2
TEXT_LENGTH = 72  # no row of text is longer
_WITHOUT_PLAN = 0.1
_WITHOUT_TEXT = 0.1
_TEXT_WEIGHT = 0.3
_READING_WEIGHT = 0.3
_PATCH_WEIGHT = 0.1
_CHUNK = 8192


@dataclass(frozen=True)
class Pool:
    """Tokenised scenes, all on one device."""

    ids: Tensor  # [N, 48 + 144] int16, image tokens counted on from the vocabulary's end
    first: Tensor  # [N] where the image begins
    plan: Tensor  # [N] where the plan begins; equal to `first` where there is none


@dataclass(frozen=True)
class Sight:
    """What reading is trained with: pictures with their texts, and the heads that name what covers each patch."""

    pool: ReadingPool
    heads: PatchHeads


def build_pool(
    painter: Painter,
    vq: JanusVQVAE,
    tokenizer: PreTrainedTokenizerFast,
    vocabulary: int,
    count: int,
    generator: torch.Generator,
) -> Pool:
    """About `count` fresh scenes with their text and tokens, without what is held out for the benchmark `scenes`."""
    parts: list[tuple[Tensor, ...]] = []
    seeds = random.Random(generator.initial_seed())
    with text_workers(count) as workers:
        waiting = []
        for start in range(0, count, _CHUNK):
            requests = sample_requests(min(_CHUNK, count - start), len(painter.classes), generator)
            requests = requests[~held_out(requests, painter.classes)]
            scenes = lay_out(requests, generator, rounds=4)
            arguments = (requests.numpy(), scenes.numpy(), painter.classes, seeds.random())
            waiting.append((scenes, workers.submit(_write, *arguments) if workers else _write(*arguments)))
        for scenes, text in waiting:
            images = (painter.render(scenes[slice(i, i + 1024)]) for i in range(0, len(scenes), 1024))
            tokens = torch.cat([tokeniser.encode(vq, batch) for batch in images])
            written = text.result() if isinstance(text, Future) else text
            ids, first, plan = (torch.from_numpy(array).to(tokens.device) for array in written)
            ids = F.pad(ids, (0, IMAGE_TOKENS), value=tokenizer.pad_token_id)
            ids.scatter_(
                1, first[:, None] + torch.arange(IMAGE_TOKENS, device=ids.device), (tokens + vocabulary).short()
            )
            parts.append((ids, first, plan))
    return Pool(*(torch.cat(column) for column in zip(*parts, strict=True)))


def text_workers(count: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    """Processes that write many texts, none for a few: Python makes ten thousand a second, a GPU wants them faster."""
    if count <= _CHUNK:
        return nullcontext()
    processes = max(1, min(24, len(os.sched_getaffinity(0)) - 2))
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))


def _write(requests: Arrays, scenes: Arrays, classes: tuple[str, ...], seed: float) -> tuple[NDArray[Any], ...]:
    """Ids [N, 72] of prompts and plans, padded; where each image begins, and where each plan does."""
    rng = random.Random(seed)
    prompts = language.prompts(Requests.from_numpy(requests), classes, rng)
    plans = language.plans(Scenes.from_numpy(scenes), classes)
    lines = [
        language.DIRECT_PROMPT.format(prompt=prompt)
        if rng.random() < _WITHOUT_PLAN
        else language.IMAGE_PROMPT.format(prompt=prompt, reasoning=plan)
        for prompt, plan in zip(prompts, plans, strict=True)
    ]
    tokenizer = _tokenizer()
    think, pad = tokenizer.convert_tokens_to_ids(language.THINK), tokenizer.pad_token_id
    text = [line.ids for line in tokenizer.backend_tokenizer.encode_batch(lines, add_special_tokens=False)]
    first = np.array([len(line) for line in text])
    plan = np.array([line.index(think) + 1 if think in line else len(line) for line in text])
    return np.array([line + [pad] * (TEXT_LENGTH - len(line)) for line in text], dtype=np.int16), first, plan


def scaled(losses: Losses, weight: float) -> Losses:
    """The same terms with another weight."""
    return {name: weight * value for name, value in losses.items()}


_tokenizer = functools.cache(language.build_tokenizer)


def new_model(config: JanusConfig, vq: JanusVQVAE, seed: int) -> JanusForConditionalGeneration:
    """The model around a trained tokeniser, the rest untrained."""
    torch.manual_seed(seed)
    model = JanusForConditionalGeneration(config)
    model.model.vqmodel.load_state_dict(vq.state_dict())
    with torch.no_grad():
        # Codes that look alike start alike.
        model.model.generation_embeddings.weight.copy_(0.5 * vq.quantize.embedding.weight)
    return model.to(vq.device)


def train_language_model(
    model: JanusForConditionalGeneration,
    pool: Pool,
    sight: Sight,
    tokenizer: PreTrainedTokenizerFast,
    schedule: Schedule,
    reading_batch: int,
    generator: torch.Generator,
) -> JanusForConditionalGeneration:
    """Train in place to write and draw, and with every batch to read; ends with the average of the last weights."""
    device, config = generator.device, model.config
    model.requires_grad_(True).train()
    model.model.vqmodel.requires_grad_(False).eval()
    backbone = model.model.language_model
    if device.type == "cuda":  # per layer: 10 s to the first step instead of a minute
        for layer in backbone.layers:
            layer.compile()

    vocabulary = config.text_config.vocab_size
    kept = torch.tensor([tokenizer.convert_tokens_to_ids(name) for name in (language.BOS, language.BOI)], device=device)
    pad = tokenizer.pad_token_id

    def draw(step: int) -> Batch:
        rows = torch.randint(len(pool.ids), (schedule.batch,), generator=generator, device=device)
        ids, first, plan = pool.ids[rows].long(), pool.first[rows], pool.plan[rows]
        blank = torch.rand(schedule.batch, generator=generator, device=device) < _WITHOUT_TEXT
        text = (ids < vocabulary) & ~torch.isin(ids, kept)
        ids = torch.where(blank[:, None] & text, pad, ids)
        where = first[:, None] + torch.arange(IMAGE_TOKENS, device=device)  # [B, 144]
        column = torch.arange(1, TEXT_LENGTH, device=device)
        written = (column >= plan[:, None]) & (column < first[:, None]) & ~blank[:, None]
        plan = torch.where(written, ids[:, 1:TEXT_LENGTH], -100)
        seen = torch.randint(len(sight.pool), (reading_batch,), generator=generator, device=device)
        return ids, where, plan, *draw_reading(sight.pool, seen, generator)

    def losses(batch: Batch, share: Tensor) -> Losses:
        ids, where, plan, pixels, questions, kinds, *patches = batch
        drawn = model.prepare_embeddings_for_image_generation(codes)
        table = torch.cat([backbone.embed_tokens.weight.to(drawn.dtype), drawn])
        seen = look(model.model.vision_model, model.model.aligner, pixels)
        # Rows of drawing and of reading have one length: they share a pass, and a compiled layer meets one shape.
        rows = torch.cat([F.embedding(ids, table), reading_embeddings(model, frame, questions, seen).to(table.dtype)])
        hidden = backbone(inputs_embeds=rows, use_cache=False).last_hidden_state
        hidden, read = hidden.split([len(ids), len(questions)])
        before = hidden.gather(1, (where - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
        image_logits = model.model.generation_head(before).flatten(0, 1)
        text_logits = model.lm_head(hidden[:, : TEXT_LENGTH - 1]).flatten(0, 1)
        return (
            {
                "image": F.cross_entropy(image_logits.float(), (ids.gather(1, where) - vocabulary).flatten()),
                "text": _TEXT_WEIGHT * F.cross_entropy(text_logits.float(), plan.flatten()),
            }
            | scaled(text_losses(model, read, questions, kinds), _READING_WEIGHT)
            | scaled(patch_losses(sight.heads, seen, *patches), _PATCH_WEIGHT)
        )

    codes = torch.arange(config.vq_config.num_embeddings, device=device)
    frame = frame_ids(tokenizer, device)
    trained = [parameter for part in (model, sight.heads) for parameter in part.parameters()]
    average = Averaged(model, 0.997)
    train("language model", trained, draw, losses, schedule, average.update)
    average.apply()
    for layer in backbone.layers:
        layer._compiled_call_impl = None  # a compiled layer would compile again for every new shape
    return model.requires_grad_(False).eval()

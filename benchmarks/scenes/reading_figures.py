"""How well `mini` reads: its answers and descriptions of fresh scenes, and of its own pictures beside a judge.

`count` and `seed` say which scenes; a seed of reporting never meets one of training. Pictures are [N, 3, 96, 96] in 0
to 1 on the model's device. Everything is batched here; the library reads one search's pictures, this reads thousands.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, JanusForConditionalGeneration, PreTrainedTokenizerFast

from milr_rewards.questions import questions_of

from . import language
from .broken import render_broken
from .questions import KINDS, Asked, ask, content_of, natural_distance
from .reading import Reconstruct, draw_broken, frame_ids, look, reading_embeddings
from .world import Painter

_BATCH = 512
_MOST_WORDS = 64  # of a description
_PER_KIND = 2  # questions of each kind about each picture


def reading_figures(
    model: JanusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    painter: Painter,
    count: int,
    seed: int,
    reconstruct: Reconstruct | None = None,
) -> dict[str, Any]:
    """Balanced accuracy per kind of question and over all; how often a description is right, and what it finds.

    With `reconstruct`, of pictures that look as the model's own.
    """
    generator = torch.Generator(painter.atlas.device).manual_seed(seed)
    rng = random.Random(seed)
    broken = draw_broken(painter, count, generator)
    images = render_broken(painter, broken)
    if reconstruct is not None:
        images = torch.cat([reconstruct(batch) for batch in images.split(_BATCH)])
    content = content_of(painter, broken)
    natural = natural_distance(painter)
    asked: list[list[Asked]] = [[] for _ in range(count)]
    for kind in KINDS:
        for row, more in zip(asked, ask(content, painter.classes, natural, rng, _PER_KIND, kind), strict=True):
            row += more
    chances = answer(model, tokenizer, images, [[one.text for one in row] for row in asked])
    pairs = [(one, p) for row, column in zip(asked, chances, strict=True) for one, p in zip(row, column, strict=True)]
    table: dict[str, Any] = {
        kind: _balanced([(one.answer, p > 0.5) for one, p in pairs if one.kind == kind]) for kind in KINDS
    }
    table["overall"] = _balanced([(one.answer, p > 0.5) for one, p in pairs])
    table["questions"] = len(pairs)

    whole = content.describable()
    plans = language.plans(content.scenes[whole], painter.classes)
    return table | description_figures(describe(model, tokenizer, images[whole]), plans)


def description_figures(described: Sequence[str], plans: Sequence[str]) -> dict[str, float]:
    """Share of descriptions that are the plan, word for word, and shares of things found and of things made up."""
    exact = sum(one == other for one, other in zip(described, plans, strict=True))
    told, true = [_things(text) for text in described], [_things(text) for text in plans]
    common = sum((one & other).total() for one, other in zip(told, true, strict=True))
    return {
        "exact": round(exact / max(1, len(plans)), 4),
        "recall": round(common / max(1, sum(each.total() for each in true)), 4),
        "precision": round(common / max(1, sum(each.total() for each in told)), 4),
    }


def own_picture_figures(
    model: JanusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: Tensor,
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[bool],
) -> dict[str, float]:
    """The model's answers to what was asked of its own pictures (GenEval metadata), beside a judge's verdicts.

    `balanced` is the mean of the agreement on pictures that pass and on pictures that do not.
    """
    clauses = [questions_of(row) for row in rows]
    chances = answer(model, tokenizer, images, [[question.text for question in row] for row in clauses])
    passed = [
        all((p > 0.5) == question.wanted for question, p in zip(row, column, strict=True))
        for row, column in zip(clauses, chances, strict=True)
    ]
    pairs = list(zip(verdicts, passed, strict=True))
    return {
        "agreement": round(sum(one == other for one, other in pairs) / len(pairs), 4),
        "balanced": _balanced(pairs),
        "passed by the judge": round(sum(verdicts) / len(pairs), 4),
        "passed by itself": round(sum(passed) / len(pairs), 4),
    }


@torch.inference_mode()
def answer(
    model: JanusForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    images: Tensor,
    asked: Sequence[Sequence[str]],
) -> list[list[float]]:
    """Probability of "yes" against "no" for each question about each picture."""
    frame = frame_ids(tokenizer, images.device)
    yes_no = [tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
    seen = _look(model, images)
    pairs = [(row, text + language.THINK) for row, texts in enumerate(asked) for text in texts]
    chances: list[float] = []
    for start in range(0, len(pairs), _BATCH):
        rows, texts = zip(*pairs[start : start + _BATCH], strict=True)
        encoded = tokenizer(
            list(texts), padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt"
        ).to(images.device)
        embeddings = reading_embeddings(model, frame, encoded.input_ids, seen[list(rows)])
        hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        last = embeddings.shape[1] - encoded.input_ids.shape[1] + encoded.attention_mask.sum(1) - 1
        logits = model.lm_head(hidden[torch.arange(len(rows), device=hidden.device), last])
        chances += logits[:, yes_no].float().softmax(-1)[:, 0].tolist()
    waiting = iter(chances)
    return [[next(waiting) for _ in texts] for texts in asked]


@torch.inference_mode()
def describe(model: JanusForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, images: Tensor) -> list[str]:
    """What the model sees, in the words of its plans; the likeliest word each time."""
    frame = frame_ids(tokenizer, images.device)
    think, end, pad = (tokenizer.convert_tokens_to_ids(name) for name in (language.THINK, language.EOS, language.PAD))
    backbone = model.model.language_model
    described: list[str] = []
    for batch in images.split(_BATCH):
        first = torch.full((len(batch), 1), think, device=images.device)
        embeddings, cache = reading_embeddings(model, frame, first, _look(model, batch)), DynamicCache()
        open_rows = torch.ones(len(batch), dtype=torch.bool, device=images.device)
        written: list[Tensor] = []
        for _ in range(_MOST_WORDS):
            hidden = backbone(inputs_embeds=embeddings, past_key_values=cache, use_cache=True).last_hidden_state
            token = model.lm_head(hidden[:, -1])[:, : len(tokenizer)].argmax(-1)
            open_rows &= token != end
            written.append(torch.where(open_rows, token, pad))
            if not open_rows.any():
                break
            embeddings = backbone.embed_tokens(token)[:, None]
        described += tokenizer.batch_decode(torch.stack(written, dim=1), skip_special_tokens=True)
    return [text.strip() for text in described]


def _look(model: JanusForConditionalGeneration, images: Tensor) -> Tensor:
    parts = [look(model.model.vision_model, model.model.aligner, 2 * batch - 1) for batch in images.split(_BATCH)]
    return torch.cat(parts)


def _things(text: str) -> Counter[str]:
    """The clauses of a plan: things, each with its colour and place."""
    return Counter(text.partition(":")[2].strip(" .").split("; "))


def _balanced(pairs: Sequence[tuple[bool, bool]]) -> float:
    """Mean of the accuracies on true and on false ones; where there is only one kind, its own."""
    shares = [
        sum(said == truth for truth, said in pairs if truth == side) / total
        for side in (True, False)
        if (total := sum(truth == side for truth, _ in pairs))
    ]
    return round(sum(shares) / max(1, len(shares)), 4)

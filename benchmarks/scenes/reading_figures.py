"""How well `mini` reads: its answers and descriptions of fresh scenes, and of its own pictures beside a judge.

`count` and `seed` say which scenes; a seed of reporting never meets one of training. Pictures are [N, 3, 96, 96] in 0
to 1; the library reads them, as it would read them from files.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from milr.decoding import Engine, describe
from milr.models.base import UnifiedModel
from milr_rewards.language.questions import questions_of

from . import language
from .broken import render_broken
from .evaluate import to_picture
from .questions import KINDS, Asked, ask, content_of, natural_distance
from .reading import Reconstruct, draw_broken
from .world import Painter

_BATCH = 512
_PER_KIND = 2  # questions of each kind about each picture


def reading_figures(
    model: UnifiedModel,
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
    pictures = [to_picture(image) for image in images]
    chances = _answers(model, pictures, [[one.text for one in row] for row in asked])
    pairs = [(one, p) for row, column in zip(asked, chances, strict=True) for one, p in zip(row, column, strict=True)]
    table: dict[str, Any] = {
        kind: _balanced([(one.answer, p > 0.5) for one, p in pairs if one.kind == kind]) for kind in KINDS
    }
    table["overall"] = _balanced([(one.answer, p > 0.5) for one, p in pairs])
    table["questions"] = len(pairs)

    whole = content.describable()
    plans = language.plans(content.scenes[whole], painter.classes)
    return table | description_figures(
        describe(Engine.of(model), [picture for picture, shown in zip(pictures, whole.tolist(), strict=True) if shown]),
        plans,
    )


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
    model: UnifiedModel,
    images: Tensor,
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[bool],
) -> dict[str, float]:
    """The model's answers to what was asked of its own pictures (GenEval metadata), beside a judge's verdicts.

    `balanced` is the mean of the agreement on pictures that pass and on pictures that do not.
    """
    clauses = [questions_of(row) for row in rows]
    pictures = [to_picture(image) for image in images]
    chances = _answers(model, pictures, [[question.text for question in row] for row in clauses])
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


def _answers(model: UnifiedModel, pictures: Sequence[Image.Image], asked: Sequence[Sequence[str]]) -> list[list[float]]:
    """Probability of "yes" for each question about each picture."""
    pairs = [(picture, text) for picture, texts in zip(pictures, asked, strict=True) for text in texts]
    waiting = iter(model.answer([picture for picture, _ in pairs], [text for _, text in pairs]))
    return [[next(waiting) for _ in texts] for texts in asked]


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

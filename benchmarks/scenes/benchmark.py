"""The benchmark `scenes`: prompts harder than GenEval's, in the form of its metadata, fixed, and never drawn before.

    rows = load()                           {"tag": "two_relations", "include": [...], "prompt": "a photo of ..."}
    requests[~held_out(requests)]           what `mini` may learn to draw

Seven tags of 64 prompts. Of everything that goes beyond GenEval's own forms, one wish in sixteen is held out by a hash
of what it asks for, whatever its words: `mini` never learns to draw it. The prompts ask for such wishes, and those of
`knowledge` describe one thing in a phrase that no training prompt uses. (The detectors, the contrastive model and
`mini`'s eyes may have seen such scenes.)
`python -m milr_benchmarks.scenes.benchmark --out FILE` writes the rows again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from milr_rewards.language.knowledge import HELD_OUT

from .concepts import CLASSES, COLORS, RELATIONS, with_article
from .language import metadata, official_prompts
from .world import MAX_GROUPS, MAX_RELATIONS, Requests, tag_index

PROMPTS = Path(__file__).with_name("prompts.jsonl")
PROMPTS_PER_TAG = 64
_HELD_OUT = 16  # one wish in so many


@dataclass(frozen=True)
class _Form:
    """What the prompts of a tag ask for.

    Attributes:
        counts: how many of each of its things there may be.
        painted: which of its things have a colour.
        relations: how many of its things stand in relation to the next one.
    """

    counts: tuple[tuple[int, ...], ...]
    painted: tuple[int, ...] = ()
    relations: int = 0


_FIVE_OF_THREE = ((1, 2, 2), (2, 1, 2), (2, 2, 1))
# As hard as it takes to leave `mini` room: its first picture is right for .15 to .6 of them (on the choosing seed).
FORMS: dict[str, _Form] = {
    "colored_count": _Form(((2, 2, 1),), painted=(0, 1)),
    "colored_position": _Form(((2, 2), (2, 3), (3, 2)), painted=(0, 1), relations=1),
    "two_relations": _Form(((1, 1, 2), (1, 2, 1), (2, 1, 1)), painted=(0, 1, 2), relations=2),
    "three_objects": _Form(_FIVE_OF_THREE, relations=1),
    "three_colored_objects": _Form(_FIVE_OF_THREE, painted=(0, 1, 2)),
    "five_objects": _Form(((1, 1, 1, 1, 1),), painted=(0, 1, 2, 3, 4)),
    "knowledge": _Form(((1, 3), (1, 4)), painted=(1,), relations=1),  # the first thing is described
}
_SEED = 20261122
_MIX = (-7046029254386353131, -4658895280553007687, 7809847782465536323)  # odd, so that no bit is lost


def load() -> list[dict[str, Any]]:
    """The prompts with what each picture must show."""
    return [json.loads(line) for line in PROMPTS.read_text("utf-8").splitlines()]


def build() -> list[dict[str, Any]]:
    """The rows of `prompts.jsonl`, made anew."""
    return [row for tag in FORMS for row in _rows(tag, random.Random(f"{_SEED} {tag}"))]


def held_out(requests: Requests, classes: tuple[str, ...] = CLASSES) -> Tensor:
    """[B] bool: which requests `mini` must not learn to draw.

    The order of groups does not matter, nor does the side from which a relation is told: a dog left of a cat is a cat
    right of a dog. What GenEval itself asks for (one or two plain things, equal things, a painted thing, a relation of
    plain things, two painted things) is never held out.
    """
    names = torch.tensor([CLASSES.index(name) for name in classes], device=requests.label.device)
    keys = _keys(replace(requests, label=names[requests.label]))
    present = requests.count > 0
    groups, several = present.sum(1), (requests.count > 1).any(1)
    painted, related = (present & (requests.color > 0)).any(1), requests.relation[:, 0] > 0
    plain = (groups == 1) & ~(several & painted) | (groups == 2) & ~several & ~(related & painted)
    return ~plain & (keys % _HELD_OUT == 0)


def _rows(tag: str, rng: random.Random) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    while len(rows) < PROMPTS_PER_TAG:
        wish = _draw(tag, rng)
        key = int(_keys(wish))
        if held_out(wish) and key not in rows:
            (row,), (prompt,) = metadata(wish, CLASSES), official_prompts(wish, CLASSES)
            if tag == "knowledge":
                name = CLASSES[int(wish.label[0, 0])]
                prompt = prompt.replace(with_article(name), rng.choice(HELD_OUT[name]), 1)
            rows[key] = row | {"prompt": prompt}
    return list(rows.values())


def _draw(tag: str, rng: random.Random) -> Requests:
    """A request of this tag; not `sample_requests`, so that the benchmark stays when the training mix changes."""
    form = FORMS[tag]
    counts = rng.choice(form.counts)
    labels = rng.sample(range(len(CLASSES)), len(counts))
    paints = [rng.randrange(len(COLORS)) + 1 for _ in counts if form.painted]
    colors = [paints[index] if index in form.painted else 0 for index in range(len(counts))]
    relations = [rng.randrange(1, len(RELATIONS)) for _ in range(form.relations)]
    return _request(tag, labels, colors, counts, relations)


def _request(
    tag: str, labels: Sequence[int], colors: Sequence[int], counts: Sequence[int], relations: Sequence[int]
) -> Requests:
    def row(values: Sequence[int], length: int) -> Tensor:
        return torch.tensor([[*values, *[0] * (length - len(values))]])

    return Requests(
        tag=tag_index(tag),
        label=row(labels, MAX_GROUPS),
        color=row(colors, MAX_GROUPS),
        count=row(counts, MAX_GROUPS),
        relation=row(relations, MAX_RELATIONS),
    )


def _keys(requests: Requests) -> Tensor:
    """[B] a 64-bit hash of what is asked for; equal for equal wishes whatever their order."""
    group = (requests.label * (1 + len(COLORS)) + requests.color) * (1 + MAX_GROUPS) + requests.count  # [B, 5]
    key = (_mixed(group, _MIX[0]) * (requests.count > 0)).sum(1)
    for first in range(MAX_RELATIONS):
        relation = requests.relation[:, first]
        one, other = group[:, first], group[:, first + 1]
        swapped = (relation == RELATIONS.index("right of")) | (relation == RELATIONS.index("below"))
        left_or_upper, right_or_lower = torch.where(swapped, other, one), torch.where(swapped, one, other)
        upright = relation >= RELATIONS.index("above")
        edge = _mixed(left_or_upper, _MIX[1]) + _mixed(2 * right_or_lower + upright, _MIX[2])
        key = key + _mixed(edge, _MIX[0]) * (relation > 0)
    return key


def _mixed(values: Tensor, factor: int) -> Tensor:
    """Scatter whole numbers over 64 bits; overflow wraps around."""
    scattered = (values + 1) * factor
    scattered = (scattered ^ (scattered >> 29)) * _MIX[1]
    return scattered ^ (scattered >> 32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the prompts of the benchmark 'scenes'.")
    parser.add_argument("--out", type=Path, default=PROMPTS, help="where to; default: the file of this package")
    out: Path = parser.parse_args().out
    out.write_text("".join(json.dumps(row) + "\n" for row in build()), "utf-8")


if __name__ == "__main__":
    main()

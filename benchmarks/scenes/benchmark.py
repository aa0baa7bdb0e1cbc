"""The benchmark `scenes`: prompts harder than GenEval's, in the form of its metadata, fixed and never trained on.

    rows = load()                           {"tag": "two_relations", "include": [...], "prompt": "a photo of ..."}
    requests[~excluded(requests)]           what may be trained on

Seven tags of 64 prompts. Six ask for scenes that no training picture shows; `knowledge` describes things of the world
in phrases that no training prompt uses. `python -m milr_benchmarks.scenes.benchmark --out FILE` writes the rows again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from milr_rewards.knowledge import HELD_OUT

from .concepts import CLASSES, COLORS, RELATIONS
from .language import metadata, official_prompts
from .world import MAX_GROUPS, MAX_RELATIONS, Requests, tag_index

PROMPTS = Path(__file__).with_name("prompts.jsonl")
PROMPTS_PER_TAG = 64
SCENE_TAGS: dict[str, int] = {  # and how many groups of things each has
    "colored_count": 1,
    "colored_position": 2,
    "two_relations": 3,
    "three_objects": 3,
    "three_colored_objects": 3,
    "five_objects": 5,
}
_SEED = 20261122
_MIX = (-7046029254386353131, -4658895280553007687, 7809847782465536323)  # odd, so that no bit is lost


def load() -> list[dict[str, Any]]:
    """The prompts with what each picture must show."""
    return [json.loads(line) for line in PROMPTS.read_text("utf-8").splitlines()]


def build() -> list[dict[str, Any]]:
    """The rows of `prompts.jsonl`, made anew."""
    rng = random.Random(_SEED)
    return [row for tag in SCENE_TAGS for row in _scene_rows(tag, rng)] + _knowledge_rows(rng)


def excluded(requests: Requests, classes: tuple[str, ...] = CLASSES) -> Tensor:
    """[B] bool: which requests ask for what a prompt of the benchmark asks for.

    The order of groups does not matter, nor does the side from which a relation is told: a dog left of a cat is a cat
    right of a dog. Prompts of `knowledge` exclude nothing, since their phrases are held out by themselves.
    """
    return torch.isin(_keys(requests), _benchmark_keys(classes).to(requests.label.device))


def _scene_rows(tag: str, rng: random.Random) -> list[dict[str, Any]]:
    wishes: list[Requests] = []
    seen: set[int] = set()
    while len(wishes) < PROMPTS_PER_TAG:
        wish = _draw(tag, rng)
        key = int(_keys(wish))
        if key not in seen:
            seen.add(key)
            wishes.append(wish)
    requests = wishes[0]
    for wish in wishes[1:]:
        requests = requests.joined(wish)
    prompts = official_prompts(requests, CLASSES)
    return [row | {"prompt": prompt} for row, prompt in zip(metadata(requests, CLASSES), prompts, strict=True)]


def _draw(tag: str, rng: random.Random) -> Requests:
    """A request of this tag; not `sample_requests`, so that the benchmark stays when the training mix changes."""
    groups = SCENE_TAGS[tag]
    colored = "colored" in tag
    related = {"colored_position": 1, "two_relations": 2}.get(tag, 0)
    labels = rng.sample(range(len(CLASSES)), groups)
    colors = [rng.randrange(len(COLORS)) + 1 for _ in range(groups)] if colored else [0] * groups
    counts = [rng.choice((3, 4))] if tag == "colored_count" else [1] * groups
    relations = [rng.randrange(1, len(RELATIONS)) for _ in range(related)]
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


def _knowledge_rows(rng: random.Random) -> list[dict[str, Any]]:
    """One held-out phrase of each of 64 things."""
    names = sorted(rng.sample(CLASSES, PROMPTS_PER_TAG), key=CLASSES.index)
    return [
        {
            "tag": "knowledge",
            "include": [{"class": name, "count": 1}],
            "prompt": f"a photo of {rng.choice(HELD_OUT[name])}",
        }
        for name in names
    ]


@cache
def _benchmark_keys(classes: tuple[str, ...]) -> Tensor:
    """Keys of the prompts whose things are all in a world of these classes."""
    wanted = [row for row in load() if row["tag"] in SCENE_TAGS]
    known = [row for row in wanted if all(clause["class"] in classes for clause in row["include"])]
    return torch.cat([torch.zeros(0, dtype=torch.long), *(_keys(requests_of(row, classes)) for row in known)])


def requests_of(row: Mapping[str, Any], classes: tuple[str, ...] = CLASSES) -> Requests:
    """The one request of a row: `language.metadata` the other way round."""
    clauses = row["include"]
    places = [clause["position"][0] for clause in clauses if "position" in clause]
    related = len(places) + 1
    groups = clauses[:related][::-1] + clauses[related:]
    return _request(
        row["tag"],
        [classes.index(group["class"]) for group in groups],
        [1 + list(COLORS).index(group["color"]) if "color" in group else 0 for group in groups],
        [group["count"] for group in groups],
        [RELATIONS.index(place) for place in places[::-1]],
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

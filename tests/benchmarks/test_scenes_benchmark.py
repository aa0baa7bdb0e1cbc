"""The benchmark `scenes`: what its prompts ask for, that critics can grade it, and that nobody trains on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from milr.prompts import Prompt
from milr_benchmarks.scenes import benchmark, language
from milr_benchmarks.scenes.benchmark import FORMS, held_out, load
from milr_benchmarks.scenes.concepts import CLASSES, COLORS, RELATIONS
from milr_benchmarks.scenes.language import metadata
from milr_benchmarks.scenes.world import MAX_GROUPS, MAX_RELATIONS, Requests, sample_requests, tag_index
from milr_rewards.language.knowledge import HELD_OUT, PHRASES, TRAINED
from milr_rewards.language.requirements import requirements_of
from milr_rewards.language.sentences import parse

GENEVAL = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
DRAWN_FORMS = tuple(tag for tag in FORMS if tag != "knowledge")  # `sample_requests` draws knowledge as a single thing
OPPOSITE = torch.tensor([0, 2, 1, 4, 3])  # of each of RELATIONS


def wish(row: Mapping[str, Any]) -> Requests:
    """The request of a row: `language.metadata` the other way round."""

    def padded(values: Sequence[int], length: int) -> Tensor:
        return torch.tensor([[*values, *[0] * (length - len(values))]])

    clauses = row["include"]
    places = [RELATIONS.index(clause["position"][0]) for clause in clauses if "position" in clause]
    related = len(places) + 1
    groups = clauses[:related][::-1] + clauses[related:]
    return Requests(
        tag=tag_index(row["tag"]),
        label=padded([CLASSES.index(group["class"]) for group in groups], MAX_GROUPS),
        color=padded(
            [1 + list(COLORS).index(group["color"]) if "color" in group else 0 for group in groups], MAX_GROUPS
        ),
        count=padded([group["count"] for group in groups], MAX_GROUPS),
        relation=padded(places[::-1], MAX_RELATIONS),
    )


def without_prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "prompt"}


def sampled(tag: str, count: int = 4096) -> Requests:
    return sample_requests(count, len(CLASSES), torch.Generator().manual_seed(0), tag)


def reordered(requests: Requests, order: Sequence[int]) -> Requests:
    """The same groups in another order."""
    columns = [*order, *range(len(order), MAX_GROUPS)]
    return replace(
        requests,
        label=requests.label[:, columns],
        color=requests.color[:, columns],
        count=requests.count[:, columns],
    )


def test_the_file_is_what_the_command_writes() -> None:
    assert load() == benchmark.build()


def test_every_tag_has_64_different_prompts() -> None:
    rows = load()
    assert Counter(row["tag"] for row in rows) == dict.fromkeys(FORMS, 64)
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_every_prompt_is_graded_and_understood_as_its_metadata() -> None:
    for row in load():
        wanted = without_prompt(row)
        assert requirements_of(Prompt(row["prompt"], metadata=wanted)).metadata == wanted
        understood = parse(row["prompt"])
        assert understood.metadata["include"] == row["include"], row["prompt"]
        assert understood.metadata.get("exclude", []) == row.get("exclude", [])
        assert not understood.unchecked


def test_every_prompt_is_made_of_known_words() -> None:
    tokenizer = language.build_tokenizer()
    for row in load():
        ids = tokenizer.encode(row["prompt"], add_special_tokens=False)
        assert tokenizer.unk_token_id not in ids, row["prompt"]
        assert len(ids) <= language.CAPTION_LENGTH


@pytest.mark.parametrize("tag", FORMS)
def test_a_tag_asks_for_what_its_form_says(tag: str) -> None:
    form = FORMS[tag]
    rows = [row for row in load() if row["tag"] == tag]
    assert {tuple(int(count) for count in wish(row).count[0] if count) for row in rows} == set(form.counts)
    for row in rows:
        include = row["include"]
        assert len({clause["class"] for clause in include}) == len(include)
        assert sum("position" in clause for clause in include) == form.relations
        colored = wish(row).color[0, : len(include)] > 0
        assert tuple(colored.nonzero()[:, 0].tolist()) == form.painted
        several = [
            {"class": clause["class"], "count": clause["count"] + 1} for clause in include if clause["count"] > 1
        ]
        assert sorted(row.get("exclude", []), key=str) == sorted(several, key=str)


def test_knowledge_describes_the_first_thing_in_held_out_phrases_only() -> None:
    trained = {phrase for phrases in TRAINED.values() for phrase in phrases}
    for row in load():
        if row["tag"] == "knowledge":
            target, described = row["include"]
            told = row["prompt"].removeprefix("a photo of ")
            phrase = told.split(f" {described['position'][0]} ")[0]
            assert phrase in HELD_OUT[described["class"]], row["prompt"]
            assert PHRASES[phrase] == described["class"]
            assert phrase not in trained
            assert "color" not in described
            assert target["color"] in told


def test_every_wish_of_the_benchmark_is_held_out() -> None:
    for row in load():
        asked = wish(row)
        assert metadata(asked, CLASSES) == [without_prompt(row)]
        assert held_out(asked).tolist() == [True], row["prompt"]


@pytest.mark.parametrize("tag", GENEVAL)
def test_what_geneval_asks_for_is_never_held_out(tag: str) -> None:
    assert not held_out(sampled(tag)).any()


@pytest.mark.parametrize("tag", DRAWN_FORMS)
def test_one_in_sixteen_of_each_harder_form_is_held_out(tag: str) -> None:
    # Four standard deviations of 4096 independent draws are 0.015.
    assert held_out(sampled(tag)).float().mean().item() == pytest.approx(1 / 16, abs=0.016)


def test_one_in_sixteen_of_the_other_wishes_is_held_out_too() -> None:
    requests = sampled("mixed", 8192)
    harder = requests[((requests.count > 0).sum(1) > 2) | (requests.count > 1).any(1)]
    assert len(harder) > 4096
    assert held_out(harder).float().mean().item() == pytest.approx(1 / 16, abs=0.016)


@pytest.mark.parametrize("groups", [2, 3])
def test_a_relation_is_held_out_from_both_sides(groups: int) -> None:
    requests = sampled("colored_position" if groups == 2 else "two_relations")
    relation = requests.relation.clone()
    relation[:, : groups - 1] = OPPOSITE[relation[:, : groups - 1].flip(1)]
    other_side = replace(reordered(requests, range(groups)[::-1]), relation=relation)
    assert held_out(requests).any()
    assert torch.equal(held_out(other_side), held_out(requests))


def test_the_opposite_of_a_relation_is_another_wish() -> None:
    requests = sampled("colored_position")
    opposite = replace(requests, relation=OPPOSITE[requests.relation])
    both = held_out(requests) & held_out(opposite)
    assert both.float().mean() < 3 / 16**2


@pytest.mark.parametrize(
    ("tag", "things"),
    [("colored_count", 2), ("three_objects", 3), ("three_colored_objects", 3), ("five_objects", 5), ("mixed", 3)],
)
def test_things_are_held_out_in_any_order(tag: str, things: int) -> None:
    requests = sampled(tag)
    requests = requests[requests.relation[:, 0] == 0]
    turned = reordered(requests, [*range(1, things), 0])
    assert held_out(requests).any()
    assert torch.equal(held_out(turned), held_out(requests))


@pytest.mark.parametrize("part", ["label", "color", "count", "relation"])
def test_every_part_of_a_wish_matters(part: str) -> None:
    requests = sampled("colored_position")
    value = getattr(requests, part).clone()
    value[:, 0] = {
        "label": (value[:, 0] + 1) % len(CLASSES),
        "color": value[:, 0] % len(COLORS) + 1,
        "count": value[:, 0] + 1,
        "relation": value[:, 0] % 4 + 1,
    }[part]
    other = replace(requests, **{part: value})
    requests, other = requests[requests.color[:, 0] > 0], other[requests.color[:, 0] > 0]
    assert (held_out(requests) & held_out(other)).float().mean() < 3 / 16**2


@pytest.mark.parametrize("tag", [*GENEVAL, *DRAWN_FORMS])
def test_what_fills_empty_groups_does_not_matter(tag: str) -> None:
    requests = sampled(tag, 1024)
    empty = requests.count == 0
    filled = replace(
        requests,
        label=torch.where(empty, (requests.label + 7) % len(CLASSES), requests.label),
        color=torch.where(empty, 3, requests.color),
    )
    assert torch.equal(held_out(filled), held_out(requests))


def test_a_tag_does_not_matter() -> None:
    requests = sampled("three_objects", 1024)
    assert torch.equal(held_out(replace(requests, tag=torch.zeros_like(requests.tag))), held_out(requests))


def test_a_world_of_fewer_things_holds_out_the_same_wishes() -> None:
    names = CLASSES[70:8:-9]
    requests = sample_requests(2000, len(names), torch.Generator().manual_seed(0), "colored_position")
    known = replace(requests, label=torch.tensor([CLASSES.index(name) for name in names])[requests.label])
    assert held_out(requests, names).any()
    assert torch.equal(held_out(requests, names), held_out(known))

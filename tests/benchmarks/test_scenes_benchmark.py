"""The benchmark `scenes`: what its prompts ask for, that critics can grade it, and that nobody trains on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from milr.prompts import Prompt
from milr_benchmarks.scenes import benchmark, language
from milr_benchmarks.scenes.benchmark import SCENE_TAGS, excluded, load
from milr_benchmarks.scenes.concepts import CLASSES
from milr_benchmarks.scenes.world import sample_requests
from milr_rewards.knowledge import PHRASES, TRAINED
from milr_rewards.requirements import requirements_of
from milr_rewards.sentences import parse


def first(tag: str) -> dict[str, Any]:
    """Its first prompt."""
    return next(row for row in load() if row["tag"] == tag)


def test_the_file_is_what_the_command_writes() -> None:
    assert load() == benchmark.build()


def test_every_tag_has_64_different_prompts() -> None:
    rows = load()
    assert Counter(row["tag"] for row in rows) == dict.fromkeys((*SCENE_TAGS, "knowledge"), 64)
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_every_prompt_is_graded_and_understood_as_its_metadata() -> None:
    for row in load():
        metadata = {key: value for key, value in row.items() if key != "prompt"}
        assert requirements_of(Prompt(row["prompt"], metadata=metadata)).metadata == metadata
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


def test_tags_ask_for_what_their_names_say() -> None:
    for row in load():
        include = row["include"]
        colored = ["color" in clause for clause in include]
        related = ["position" in clause for clause in include]
        assert len({clause["class"] for clause in include}) == len(include)
        assert len(include) == SCENE_TAGS.get(row["tag"], 1)
        assert all(colored) if "colored" in row["tag"] else not any(colored)
        assert sum(related) == {"colored_position": 1, "two_relations": 2}.get(row["tag"], 0)
        if row["tag"] == "colored_count":
            assert include[0]["count"] in (3, 4)
            assert row["exclude"] == [{"class": include[0]["class"], "count": include[0]["count"] + 1}]


def test_knowledge_is_told_in_held_out_phrases_only() -> None:
    trained = {phrase for phrases in TRAINED.values() for phrase in phrases}
    for row in load():
        if row["tag"] == "knowledge":
            phrase = row["prompt"].removeprefix("a photo of ")
            assert PHRASES[phrase] == row["include"][0]["class"]
            assert phrase not in trained


def test_every_scene_of_the_benchmark_is_excluded_from_training() -> None:
    for row in load():
        if row["tag"] in SCENE_TAGS:
            assert excluded(benchmark.requests_of(row)).tolist() == [True], row["prompt"]


def test_a_relation_is_excluded_from_both_sides_but_not_its_opposite() -> None:
    row = first("colored_position")
    asked = benchmark.requests_of(row)
    order = torch.tensor([1, 0, 2, 3, 4])
    swapped = replace(asked, label=asked.label[:, order], color=asked.color[:, order])
    opposite = torch.tensor([0, 2, 1, 4, 3])
    assert not excluded(swapped)
    assert excluded(replace(swapped, relation=opposite[asked.relation]))


@pytest.mark.parametrize("tag", ["three_objects", "three_colored_objects", "five_objects"])
def test_things_are_excluded_in_any_order(tag: str) -> None:
    asked = benchmark.requests_of(first(tag))
    things = SCENE_TAGS[tag]
    order = torch.tensor([*reversed(range(things)), *range(things, 5)])
    turned = replace(asked, label=asked.label[:, order], color=asked.color[:, order], count=asked.count[:, order])
    assert excluded(turned)
    turned.label[0, 0] = next(index for index in range(80) if index not in turned.label[0].tolist())
    assert not excluded(turned)


def test_what_fills_empty_groups_does_not_matter() -> None:
    asked = benchmark.requests_of(first("colored_count"))
    asked.label[0, 1:] = torch.tensor([5, 6, 7, 8])
    assert excluded(asked)
    asked.count[0, 0] = 5
    assert not excluded(asked)


def test_next_to_nothing_else_is_excluded() -> None:
    requests = sample_requests(8192, len(CLASSES), torch.Generator().manual_seed(0))
    share = excluded(requests).float().mean()
    assert share < 0.002


def test_most_colored_counts_remain_for_training() -> None:
    requests = sample_requests(8192, len(CLASSES), torch.Generator().manual_seed(0), "colored_count")
    share = excluded(requests).float().mean()
    assert 0 < share < 0.06


def test_a_world_of_fewer_things_excludes_what_it_can_show() -> None:
    names = tuple(dict.fromkeys(row["include"][0]["class"] for row in load() if row["tag"] == "colored_count"))[:6]
    requests = sample_requests(2000, len(names), torch.Generator().manual_seed(0), "colored_count")
    known = replace(requests, label=torch.tensor([CLASSES.index(name) for name in names])[requests.label])
    assert excluded(requests, names).any()
    assert excluded(requests, names).tolist() == excluded(known).tolist()

"""Some of the prompts: evenly spread, and in parts that join to the whole."""

from __future__ import annotations

import pytest

from milr.errors import UsageError
from milr.evaluation.selection import limited, parse_shard, sharded, unsharded
from milr.prompts import Prompt

PROMPTS = [Prompt(f"number {number}", str(number)) for number in range(10)]


def test_a_few_prompts_are_spread_over_all() -> None:
    assert [prompt.id for prompt in limited(PROMPTS, 4)] == ["0", "2", "5", "7"]
    assert limited(PROMPTS, None) == limited(PROMPTS, 10) == limited(PROMPTS, 11) == PROMPTS


@pytest.mark.parametrize("parts", range(1, 11))
def test_parts_join_to_the_whole_in_its_order(parts: int) -> None:
    shards = [sharded(PROMPTS, part, parts) for part in range(1, parts + 1)]
    assert unsharded(shards) == PROMPTS
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_part_without_prompts_is_refused() -> None:
    with pytest.raises(UsageError, match="--shard 11/11 has no prompts: there are only 10"):
        sharded(PROMPTS, 11, 11)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/2/3", "-1/2", "1/0", "a/b"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write --shard 1/4 to --shard 4/4"):
        parse_shard(text)

"""Some of a benchmark's prompts: a few of them, or the part of one process among several."""

from __future__ import annotations

import re
from collections.abc import Sequence

from milr.errors import UsageError
from milr.prompts import Prompt


def limited(prompts: Sequence[Prompt], limit: int | None) -> list[Prompt]:
    """At most so many, spread evenly over the list, so that every category has its share."""
    if limit is None or limit >= len(prompts):
        return list(prompts)
    return [prompts[index * len(prompts) // limit] for index in range(limit)]


def parse_shard(text: str) -> tuple[int, int]:
    """(2, 4) of "2/4": the second of four.

    Raises:
        UsageError: it has another form, or there is no such part.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r} is not PART/PARTS; write --shard 1/4 to --shard 4/4.")
    return int(match[1]), int(match[2])


def sharded(prompts: Sequence[Prompt], part: int, parts: int) -> list[Prompt]:
    """Every `parts`-th prompt, from the `part`-th on, so that every part has every category.

    Raises:
        UsageError: the part has no prompts.
    """
    chosen = list(prompts[part - 1 :: parts])
    if not chosen:
        raise UsageError(f"--shard {part}/{parts} has no prompts: there are only {len(prompts)}.")
    return chosen


def unsharded(shards: Sequence[Sequence[Prompt]]) -> list[Prompt]:
    """The prompts in their order again, from all parts in theirs."""
    longest = max(len(shard) for shard in shards)
    return [shard[row] for row in range(longest) for shard in shards if row < len(shard)]

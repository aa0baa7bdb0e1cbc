"""What travels together: in order, each text once, pictures of one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from milr_rewards.networks.batching import alike, batches, once
from tests.rewards.tiny_compbench import PICTURES


def test_batches_keep_order_and_size() -> None:
    assert [list(batch) for batch in batches([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]


def test_texts_that_repeat_are_embedded_once() -> None:
    asked: list[list[str]] = []

    def embed(texts: Sequence[str]) -> torch.Tensor:
        asked.append(list(texts))
        return torch.tensor([[float(len(text))] for text in texts])

    assert once(["a", "ccc", "a", "bb"], embed, 2).squeeze(-1).tolist() == [1, 3, 1, 2]
    assert asked == [["a", "ccc"], ["bb"]]


def test_pictures_are_grouped_by_size_in_their_order() -> None:
    assert list(alike(PICTURES, 2)) == [[0, 1], [3], [2]]

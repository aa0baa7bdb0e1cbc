"""Keys and values of prompts, computed once: a prompt that many rows or many steps share is read one time.

A prompt's keys and values depend on its tokens alone, whatever column it ends at. Those that are worth keeping (the
reasoning prompt, the unconditional row, the image prompt of a reasoning that stays) are kept until memory is wanted
for newer ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milr.models.base import Backbone, UnifiedModel
from milr.models.key_values import KeyValueCache

_PREFILL_TOKENS = 8192  # read at once: bounds the memory of activations


@dataclass(frozen=True, eq=False)
class ReadPrompt:
    """A prompt that the backbone has read.

    Attributes:
        keys, values: [layers, heads, T, D].
        hidden: [H], the last state.
    """

    keys: Tensor
    values: Tensor
    hidden: Tensor


def read(backbone: Backbone, embeddings: Tensor, pads: Sequence[int]) -> list[ReadPrompt]:
    """Prompts of N rows.

    Args:
        embeddings: [N, T, H].
        pads: how many of a row's first positions are padding.
    """
    start = torch.tensor(pads, dtype=torch.int32, device=embeddings.device)
    cache = KeyValueCache.empty(backbone.key_values, start, embeddings.shape[1], ragged=any(pads))
    hidden = backbone.prefill(embeddings, cache)[:, -1]
    return [
        ReadPrompt(cache.keys[:, row, :, pad:].clone(), cache.values[:, row, :, pad:].clone(), hidden[row].clone())
        for row, pad in enumerate(pads)
    ]


class PromptStore:
    """Reads prompts, and keeps what is asked for up to a number of bytes.

    Args:
        capacity: bytes; what was not used for longest goes first.
    """

    def __init__(self, model: UnifiedModel, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        self._kept: OrderedDict[tuple[int, ...], ReadPrompt] = OrderedDict()
        self.read_count = 0  # prompts that the backbone had to read

    def fetch(self, prompts: Sequence[Sequence[int]], keep: Sequence[bool]) -> list[ReadPrompt]:
        """Each prompt as the backbone reads it.

        Prompts that are kept are read one by one, and the others never look at them: what a prompt is read with may
        move the last bit of a sum, and must not hang on what an engine that goes on after a kill cannot remember.

        Args:
            prompts: token ids; those that are equal are read once.
            keep: whether a prompt will be asked for again.
        """
        wanted = [(tuple(prompt), kept) for prompt, kept in zip(prompts, keep, strict=True)]
        found: dict[tuple[tuple[int, ...], bool], ReadPrompt] = {}
        for batch in self._batches([key for key, kept in dict.fromkeys(wanted) if not kept]):
            found.update(zip([(key, False) for key in batch], self._read(batch), strict=True))
        for key in [key for key, kept in dict.fromkeys(wanted) if kept]:
            if key not in self._kept:
                self._kept[key] = self._read([key])[0]
            self._kept.move_to_end(key)
            found[key, True] = self._kept[key]
        self._make_room()
        return [found[each] for each in wanted]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def _batches(self, prompts: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
        """Prompts of about one length together, so that little padding is read."""
        batches: list[list[tuple[int, ...]]] = []
        for prompt in sorted(prompts, key=len, reverse=True):
            if not batches or (len(batches[-1]) + 1) * len(batches[-1][0]) > _PREFILL_TOKENS:
                batches.append([])
            batches[-1].append(prompt)
        return batches

    def _read(self, prompts: list[tuple[int, ...]]) -> list[ReadPrompt]:
        model, columns = self._model, len(prompts[0])  # the longest
        pads = [columns - len(prompt) for prompt in prompts]
        ids = torch.tensor([[model.pad_id] * pad + [*row] for pad, row in zip(pads, prompts, strict=True)])
        self.read_count += len(prompts)
        return read(model.backbone, model.embed_text(ids.to(model.device)), pads)

    def _make_room(self) -> None:
        per_column = self._model.backbone.key_values.bytes_per_column
        while sum(len(key) for key in self._kept) * per_column > self._capacity:
            self._kept.popitem(last=False)

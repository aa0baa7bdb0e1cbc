"""How much is decoded at once: from the memory that is free, so that nobody has to guess a batch size."""

from __future__ import annotations

import os

import torch

from milr.models.base import UnifiedModel

_ROWS_WITHOUT_CUDA = 64  # more rows than this gain nothing on a CPU
# Sizes that a step is captured for. A small model gains nothing from more, and a large one has no memory for them.
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_USUAL_PROMPT = 128  # tokens
_WORKSPACE = 3 * 2**30  # bytes for prefills, pictures and graphs
_PER_ROW = 48 * 2**20  # bytes of a row's logits, noise and states
_STORE_SHARE = 0.03  # of the device's memory, for prompts that are kept
_STORE_WITHOUT_CUDA = 2**28  # bytes


def rows_that_fit(model: UnifiedModel) -> int:
    """How many rollouts the free memory takes at once."""
    columns = _USUAL_PROMPT + model.facts.max_reasoning_tokens + model.facts.image_tokens
    each = 2 * columns * model.backbone.key_values.bytes_per_column + _PER_ROW  # a picture is two rows
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
        fitting = int((0.95 * free - _WORKSPACE) / each)
    else:  # memory that others share: half of it
        fitting = min(_ROWS_WITHOUT_CUDA, _free_system_bytes() // (2 * each))
    return max((size for size in BATCHES if size <= fitting), default=1)


def _free_system_bytes() -> int:
    """Free memory, or a quarter of all where the system does not tell (macOS)."""
    try:
        pages = os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        pages = os.sysconf("SC_PHYS_PAGES") // 4
    return pages * os.sysconf("SC_PAGE_SIZE")


def prompt_store_bytes(model: UnifiedModel) -> int:
    """How many bytes of read prompts are kept."""
    if model.device.type != "cuda":
        return _STORE_WITHOUT_CUDA
    return int(_STORE_SHARE * torch.cuda.get_device_properties(model.device).total_memory)

"""What a run is asked to measure, and how thoroughly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# In the order in which they are measured: the coldest first, then what others are compared with, then the rest.
NAMES = (
    "first_image", "reference", "engine", "step", "generate", "plain_cached", "exactness", "quantized", "search",
    "overlap",
)  # fmt: skip
KINDS = ("int8", "fp8")


@dataclass(frozen=True)
class Effort:
    """How thoroughly everything is measured.

    Attributes:
        repeats: of an engine's draw, after the first.
        patience: seconds after which repeats of one measurement end.
        step_repeats: measured MILR steps, after the warm ones.
        part: image tokens that eager loops draw of a picture on CUDA, the rest extrapolated; None for all.
        exact_tokens: of each picture, that are compared; None for all.
        plain_pictures: that the plain loop draws for the comparison.
        single_decodes: of the 80 that a search is compared with.
    """

    repeats: int
    patience: float
    step_repeats: int
    part: int | None
    exact_tokens: int | None
    plain_pictures: int
    single_decodes: int


FULL = Effort(
    repeats=5, patience=60.0, step_repeats=3, part=None, exact_tokens=None, plain_pictures=2, single_decodes=8
)
# The shortest that still says the same: Janus-Pro-7B takes under four minutes of one H200.
QUICK = Effort(repeats=2, patience=8.0, step_repeats=1, part=48, exact_tokens=96, plain_pictures=1, single_decodes=4)


@dataclass(frozen=True)
class Wishes:
    """What a run measures.

    Attributes:
        batches: pictures that the engine draws at once.
        samples: of a MILR step.
        kinds: of lower precision.
        quantized_batches: that are drawn in lower precision.
        skip: of `NAMES`.
        reference_tokens: image tokens that the reference draws; the effort's part when not given.
        command: that asked for it, for the record.
    """

    batches: Sequence[int]
    samples: Sequence[int]
    kinds: Sequence[str] = ()
    quantized_batches: Sequence[int] = ()
    skip: frozenset[str] = frozenset()
    effort: Effort = FULL
    reference_tokens: int | None = None
    command: str = ""


def few(batches: Sequence[int]) -> list[int]:
    """The smallest and the middle one."""
    ordered = sorted(batches)
    return sorted({ordered[0], ordered[len(ordered) // 2]})

"""Device functions of programmatic dependent launch: when a kernel may start, and when it may touch what others write.

Every kernel lets its successor start at once and then waits for its predecessor, in all of its programs. So when a
kernel is past its wait, its predecessor has finished, and that one's predecessor before it, and so on: the order of
dependent reads and of all writes is that of the stream, however early programs were started.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def start_next(overlap: tl.constexpr):
    """Lets the next kernel's programs start as soon as there is room for them."""
    if overlap:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def wait_for_previous(overlap: tl.constexpr):
    """Waits until the kernel before this one has finished and what it wrote can be seen."""
    if overlap:
        tl.extra.cuda.gdc_wait()


@triton.jit
def prefetch_line(addresses):
    """Brings the 128 bytes around each address (int64) into the L2 cache."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [addresses], dtype=tl.int32, is_pure=False, pack=1
    )

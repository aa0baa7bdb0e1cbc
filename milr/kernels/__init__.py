"""GPU kernels of one decoding step of a Llama-shaped model, in Triton: products, attention, norms, choice of a token.

They know tensors, not models. Importing this package imports no Triton; importing one of its modules does. Every
launcher can be captured in a CUDA graph: nothing is read back, and what the host needs to know is in shapes. Nothing is
atomic and nothing is tuned at run time, so that the same call on the same GPU gives the same bits.

Launchers take `overlap`: programmatic dependent launch (compute capability 9.0 and up). The kernel is started while the
one before it in the stream still runs, and waits for it before its first dependent read and before its first write.
Accepted trade-off: what lies before that wait (prefetches of weights) must never read what another kernel writes.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

__all__ = ["available"]


def available(device: torch.device) -> bool:
    """Whether these kernels run on `device`: Triton is installed and it is a CUDA GPU of capability 8.0 or more."""
    return (
        device.type == "cuda"
        and find_spec("triton") is not None
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )

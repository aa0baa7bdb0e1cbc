"""A linear layer's weight as it is stored: in the model's dtype, or quantised with a scale for each output.

Quantisation is torchao's, weight-only (extra `quant`): int8, or float8_e4m3fn, symmetric for each output channel. The
products stay in the model's dtype. Only the backbone's projections are quantised: the heads and with them the policy
that is optimised stay as they are, and so do embeddings, norms and the picture decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from milr.errors import UnknownNameError, UsageError

Precision = Literal["int8", "fp8"]


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight W = values x scale.

    Attributes:
        values: [outputs, inputs] int8 or float8_e4m3fn.
        scale: [outputs] fp32.
    """

    values: Tensor
    scale: Tensor


Weight = Tensor | QuantizedWeight


def linear(x: Tensor, weight: Weight) -> Tensor:
    """[..., inputs] to [..., outputs]."""
    if isinstance(weight, Tensor):
        return F.linear(x, weight)
    return F.linear(x, weight.values.to(x.dtype)) * weight.scale.to(x.dtype)


def check_precision(precision: str) -> Precision:
    """Refuse what cannot be, before a model is loaded.

    Raises:
        UnknownNameError: no such precision.
        UsageError: the extra is not installed.
    """
    if precision not in get_args(Precision):
        raise UnknownNameError("precision", precision, get_args(Precision))
    try:
        import torchao.quantization  # noqa: F401
    except ImportError:
        raise UsageError(
            "--quantize needs the package 'torchao'; install it with: pip install 'milr[quant]'."
        ) from None
    return precision  # type: ignore[return-value]


def quantized(weight: Tensor, precision: Precision) -> QuantizedWeight:
    """The nearest quantised weight."""
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    config = Int8WeightOnlyConfig if precision == "int8" else Float8WeightOnlyConfig
    quantize_(layer, config(set_inductor_config=False))
    stored: Any = layer.weight
    return QuantizedWeight(stored.qdata.contiguous(), stored.scale.flatten().float())


def share_rows(projections: list[nn.Linear], weight: Weight) -> None:
    """Makes the rows of one weight the weights of the projections that lie above one another in it."""
    values = weight if isinstance(weight, Tensor) else weight.values
    heights = [projection.out_features for projection in projections]
    for index, (projection, rows) in enumerate(zip(projections, values.split(heights), strict=True)):
        projection.weight = nn.Parameter(rows, requires_grad=False)
        if isinstance(weight, QuantizedWeight):
            projection.register_buffer("scale", weight.scale.split(heights)[index])

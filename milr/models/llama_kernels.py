"""One step of a Llama stack as a chain of Triton kernels: five or six a layer, most of them the reading of a weight.

Up to `FEW_ROWS` rows, norms, gate and residual are part of the products that read the weights. Beyond, cuBLAS does
the products and small kernels what lies between. N rows, H hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from milr.kernels.attention import attend
from milr.kernels.configuration import FEW_ROWS
from milr.kernels.elementwise import add_rms_norm, rms_norm, silu_multiply
from milr.kernels.projection import project
from milr.models.key_values import KeyValueCache
from milr.models.weights import QuantizedWeight, Weight, linear

if TYPE_CHECKING:
    from milr.models.llama import LlamaStack


def step(stack: LlamaStack, embeddings: Tensor, cache: KeyValueCache, column: Tensor) -> Tensor:
    """One position of every row, [N, H] to [N, H]; see `LlamaStack.step`. `embeddings` becomes the residual stream."""
    skinny = len(embeddings) <= FEW_ROWS or isinstance(stack.layers[0].down, QuantizedWeight)
    return (_skinny_step if skinny else _wide_step)(stack, embeddings, cache, column)


def _skinny_step(stack: LlamaStack, residual: Tensor, cache: KeyValueCache, column: Tensor) -> Tensor:
    overlap = _can_overlap(residual.device)
    normed = {"eps": stack.eps, "overlap": overlap}
    added = {"residual": residual, "out": residual, "overlap": overlap}
    for index, layer in enumerate(stack.layers):
        fresh = _product(residual, layer.query_key_value, norm=layer.attention_norm, **normed)
        attended = _attend(stack, index, fresh, cache, column, overlap)
        _product(attended, layer.output, **added)
        gated = _product(residual, layer.gate_up, norm=layer.mlp_norm, gated=True, **normed)
        _product(gated, layer.down, **added)
    return rms_norm(residual, stack.norm, stack.eps, overlap=overlap)


def _wide_step(stack: LlamaStack, residual: Tensor, cache: KeyValueCache, column: Tensor) -> Tensor:
    norms = [layer.attention_norm for layer in stack.layers[1:]] + [stack.norm]
    normed = rms_norm(residual, stack.layers[0].attention_norm, stack.eps)
    for index, (layer, next_norm) in enumerate(zip(stack.layers, norms, strict=True)):
        fresh = linear(normed, layer.query_key_value)
        attended = _attend(stack, index, fresh, cache, column, overlap=False)
        normed = add_rms_norm(residual, linear(attended, layer.output), layer.mlp_norm, stack.eps)
        gated = silu_multiply(linear(normed, layer.gate_up))
        normed = add_rms_norm(residual, linear(gated, layer.down), next_norm, stack.eps)
    return normed


def _attend(
    stack: LlamaStack, index: int, fresh: Tensor, cache: KeyValueCache, column: Tensor, overlap: bool
) -> Tensor:
    return attend(
        fresh, cache.keys[index], cache.values[index], cache.start, column, stack.cosine, stack.sine, overlap=overlap
    )


def _product(x: Tensor, weight: Weight, **options: Any) -> Tensor:
    if isinstance(weight, QuantizedWeight):
        return project(x, weight.values, scale=weight.scale, **options)
    return project(x, weight, **options)


def _can_overlap(device: torch.device) -> bool:
    """Programmatic dependent launch came with Hopper."""
    return torch.cuda.get_device_capability(device) >= (9, 0)

"""A frozen Llama-shaped stack (pre-norm attention and gated MLP, rotary positions) over a static cache.

It reads the weights of a loaded transformers `LlamaModel`: projections that share an input are laid side by side in one
tensor, of which the model's own parameters become views, so that nothing is stored twice and nothing changes. Two ways
through it: `prefill` many positions of every row, or `step` one, which on a CUDA GPU is a chain of Triton kernels
(`llama_kernels`) and elsewhere plain torch. N rows, T positions, H hidden size, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaModel

from milr import kernels
from milr.errors import ModelError
from milr.models.key_values import KeyValueCache, KeyValueShape
from milr.models.weights import Precision, Weight, linear, quantized, share_rows


@dataclass(frozen=True)
class LlamaLayer:
    """Weights of one layer, [outputs, inputs] each.

    Attributes:
        query_key_value: the three projections one above the other.
        gate_up: gate above up.
    """

    attention_norm: Tensor
    query_key_value: Weight
    output: Weight
    mlp_norm: Tensor
    gate_up: Weight
    down: Weight


class LlamaStack:
    """The layers and the final norm; what comes out is what the heads read.

    Args:
        network: on its device and in its dtype; its parameters become views of fused ones.
        precision: of the projections; that of the network when not given.

    Raises:
        ModelError: the network has biases, which no Llama of a unified model has.
    """

    def __init__(self, network: LlamaModel, precision: Precision | None = None) -> None:
        config = network.config
        biased = [name for name, _ in network.named_parameters() if name.endswith("bias")]
        if biased:
            raise ModelError(f"milr runs Llama layers without biases, and this checkpoint has {biased[0]!r}.")
        self.hidden_size, self.eps = config.hidden_size, config.rms_norm_eps
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.layers = [_fused(layer, precision) for layer in network.layers]
        self.norm = network.norm.weight
        positions = torch.arange(config.max_position_embeddings, device=self.norm.device)
        cosine, sine = network.rotary_emb(torch.zeros(1, device=self.norm.device), positions[None])
        half = self.head_dim // 2
        self.uses_kernels = kernels.available(self.norm.device) and self.head_dim in (16, 32, 64, 128, 256)
        self.cosine, self.sine = cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous()  # [positions, D/2]
        self._rotary_tables = cosine[0], torch.cat([-self.sine, self.sine], dim=-1)  # [positions, D] each

    @property
    def key_values(self) -> KeyValueShape:
        """What a cache for this stack is made of."""
        return KeyValueShape(len(self.layers), self.kv_heads, self.head_dim, self.norm.dtype)

    @torch.no_grad()
    def prefill(self, embeddings: Tensor, cache: KeyValueCache | None, first: int = 0) -> Tensor:
        """Many positions of every row at once, into columns `first` and on.

        Args:
            embeddings: [N, T, H]; what stands before a row's start is ignored.
            cache: holds the columns before `first`; None for rows that start at column 0 and are never continued.

        Returns:
            [N, T, H]
        """
        rows, count, _ = embeddings.shape
        columns = torch.arange(first, first + count, device=embeddings.device)
        start = embeddings.new_zeros(rows, dtype=torch.int32) if cache is None else cache.start
        rotary = self._rotary((columns - start[:, None]).clamp(min=0))  # [N, 1, T, D] each
        mask = None
        if cache is not None and (first > 0 or cache.ragged):
            seen = torch.arange(first + count, device=embeddings.device)
            mask = (seen >= start[:, None, None]) & (seen <= columns[:, None])  # [N, T, first + T]
            mask = (mask | (seen == columns[:, None]))[:, None]  # padding attends to itself: a softmax over something
        residual = embeddings
        for index, layer in enumerate(self.layers):
            query, key, value = self._heads(residual, layer, rotary)
            if cache is not None:
                cache.keys[index, :, :, first : first + count] = key
                cache.values[index, :, :, first : first + count] = value
                key, value = (kept[index, :, :, : first + count] for kept in (cache.keys, cache.values))
            attended = self._attend(query, key, value, mask, is_causal=mask is None)
            residual = residual + linear(attended, layer.output)
            residual = residual + linear(
                _gated(linear(self._normed(residual, layer.mlp_norm), layer.gate_up)), layer.down
            )
        return self._normed(residual, self.norm)

    @torch.no_grad()
    def step(self, embeddings: Tensor, cache: KeyValueCache, column: Tensor, length: int) -> Tensor:
        """One position of every row, into a column that the device knows.

        Args:
            embeddings: [N, H]; may be written over.
            column: [1] int64, where the tokens go.
            length: more columns than `column` are never read; at least its value + 1, and all of them under capture.

        Returns:
            [N, H]
        """
        if self.uses_kernels:
            from milr.models.llama_kernels import step

            return step(self, embeddings, cache, column)
        rotary = self._rotary((column - cache.start)[:, None])  # [N, 1, 1, D] each
        seen = torch.arange(length, device=embeddings.device)
        mask = ((seen >= cache.start[:, None]) & (seen <= column))[:, None, None] if cache.ragged else None
        residual = embeddings[:, None]  # [N, 1, H]
        for index, layer in enumerate(self.layers):
            query, key, value = self._heads(residual, layer, rotary)
            keys, values = cache.keys[index], cache.values[index]  # [N, heads, S, D]
            keys.index_copy_(2, column, key)
            values.index_copy_(2, column, value)
            attended = self._attend(query, keys[:, :, :length], values[:, :, :length], mask)
            residual = residual + linear(attended, layer.output)
            residual = residual + linear(
                _gated(linear(self._normed(residual, layer.mlp_norm), layer.gate_up)), layer.down
            )
        return self._normed(residual, self.norm)[:, 0]

    def _normed(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(hidden, (self.hidden_size,), weight, self.eps)

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines, and sines with the sign of the half that they turn, [N, 1, T, D] of positions [N, T]."""
        cosine, sine = self._rotary_tables
        return cosine[positions][:, None], sine[positions][:, None]

    def _heads(
        self, residual: Tensor, layer: LlamaLayer, rotary: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[N, T, H] to query [N, heads, T, D], key and value [N, kv_heads, T, D], the first two rotated."""
        rows, count, _ = residual.shape
        projected = linear(self._normed(residual, layer.attention_norm), layer.query_key_value)
        heads = projected.view(rows, count, -1, self.head_dim).transpose(1, 2)
        turned = _rotated(heads[:, : -self.kv_heads], *rotary)
        return turned[:, : self.heads], turned[:, self.heads :], heads[:, -self.kv_heads :]

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool = False
    ) -> Tensor:
        """[N, heads, T, D] to [N, T, heads x D]."""
        grouped = self.heads != self.kv_heads
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal, enable_gqa=grouped
        )
        return attended.transpose(1, 2).flatten(2)


def _rotated(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding (Su et al. 2021) of [N, heads, T, D]; the pairs are (d, d + D/2)."""
    first, second = heads.chunk(2, dim=-1)
    return torch.addcmul(heads * cosine, torch.cat([second, first], dim=-1), sine).to(heads.dtype)


def _gated(gate_up: Tensor) -> Tensor:
    """[..., 2M] to [..., M]: SiLU(gate) x up."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def _fused(layer: Any, precision: Precision | None) -> LlamaLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return LlamaLayer(
        layer.input_layernorm.weight,
        _side_by_side([attention.q_proj, attention.k_proj, attention.v_proj], precision),
        _side_by_side([attention.o_proj], precision),
        layer.post_attention_layernorm.weight,
        _side_by_side([mlp.gate_proj, mlp.up_proj], precision),
        _side_by_side([mlp.down_proj], precision),
    )


def _side_by_side(projections: list[nn.Linear], precision: Precision | None) -> Weight:
    """One weight [all outputs, inputs] whose rows the projections now share.

    On a CPU its memory is laid out as [inputs, outputs]: a product with the eight rows of a small batch is 1.6 times as
    fast that way, and one with two rows as fast as the other.
    """
    weights = [projection.weight.detach() for projection in projections]
    fused: Weight
    if precision is not None:
        fused = quantized(torch.cat(weights), precision)
    elif weights[0].device.type == "cpu":
        fused = torch.cat([weight.t() for weight in weights], dim=1).contiguous().t()
    else:
        fused = torch.cat(weights)
    share_rows(projections, fused)
    return fused

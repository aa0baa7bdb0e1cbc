"""The stack is transformers' own Llama, over a static cache, with fused or quantised weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from milr.errors import ModelError, UnknownNameError, UsageError
from milr.models import load_model
from milr.models.key_values import KeyValueCache
from milr.models.llama import LlamaStack
from milr.models.weights import QuantizedWeight, Weight, linear

LENGTHS = (9, 6, 9)


def network(kv_heads: int = 4, **options: object) -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=64,
        **options,
    )
    return LlamaModel(config).eval().requires_grad_(False)


def own_states(llama: LlamaModel, embeddings: Tensor) -> Tensor:
    return llama(inputs_embeds=embeddings, use_cache=False).last_hidden_state


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_prefills_and_steps_of_ragged_rows_equal_transformers(kv_heads: int) -> None:
    llama = network(kv_heads)
    embeddings = torch.randn(3, 14, 64)
    rows = [embeddings[row, : length + 5] for row, length in enumerate(LENGTHS)]
    expected = [own_states(llama, row[None])[0] for row in rows]
    stack = LlamaStack(llama)
    start = torch.tensor([9 - length for length in LENGTHS], dtype=torch.int32)
    cache = KeyValueCache.over(torch.zeros(stack.key_values.numbers(3, 20)), stack.key_values, start, 20)
    padded = torch.stack([torch.cat([torch.randn(9 - n, 64), row[:n]]) for n, row in zip(LENGTHS, rows, strict=True)])
    got = [stack.prefill(padded, cache)[:, -1]]
    got += list(
        stack.prefill(torch.stack([row[n : n + 2] for n, row in zip(LENGTHS, rows, strict=True)]), cache, 9).unbind(1)
    )
    for extra in range(2, 5):
        fresh = torch.stack([row[n + extra] for n, row in zip(LENGTHS, rows, strict=True)])
        got.append(stack.step(fresh, cache, torch.tensor([9 + extra]), 20 if extra == 4 else 10 + extra))
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(torch.stack(got)[:, row], expected[row][length - 1 :], atol=2e-5, rtol=1e-4)


def test_fused_weights_leave_the_network_as_it_was() -> None:
    llama, embeddings = network(), torch.randn(2, 7, 64)
    before = {name: value.clone() for name, value in llama.state_dict().items()}
    states = own_states(llama, embeddings)
    stack = LlamaStack(llama)
    assert all(torch.equal(value, before[name]) for name, value in llama.state_dict().items())
    torch.testing.assert_close(own_states(llama, embeddings), states)
    shared = llama.layers[0].self_attn.k_proj.weight.untyped_storage().data_ptr()
    weight = stack.layers[0].query_key_value
    assert isinstance(weight, Tensor)
    assert weight.untyped_storage().data_ptr() == shared, "nothing is stored twice"


def test_a_network_with_biases_is_refused() -> None:
    with pytest.raises(ModelError, match="bias"):
        LlamaStack(network(attention_bias=True))


@pytest.mark.parametrize(("precision", "error"), [("int8", 0.008), ("fp8", 0.04)])
def test_quantised_weights_are_near_and_products_are_those_of_the_dequantised(precision: str, error: float) -> None:
    llama = network()
    original = llama.layers[1].mlp.down_proj.weight.clone()
    weight: Weight = LlamaStack(llama, precision).layers[1].down
    assert isinstance(weight, QuantizedWeight)
    assert weight.values.dtype == {"int8": torch.int8, "fp8": torch.float8_e4m3fn}[precision]
    dequantised = weight.values.float() * weight.scale[:, None]
    assert 0 < (dequantised - original).norm() / original.norm() < error
    x = torch.randn(5, 96)
    torch.testing.assert_close(linear(x, weight), x @ dequantised.t(), atol=1e-5, rtol=1e-4)


def test_a_quantised_model_has_a_fingerprint_of_its_own(tiny_model: Path) -> None:
    names = (None, "int8", "fp8")
    models = [load_model(str(tiny_model), device="cpu", quantize=name) for name in names]
    assert len({model.fingerprint() for model in models}) == 3


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"'int9'.*Did you mean 'int8'"):
        load_model("mini", quantize="int9")


def test_quantisation_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(UsageError, match=r"milr\[quant\]"):
        load_model("mini", quantize="int8")

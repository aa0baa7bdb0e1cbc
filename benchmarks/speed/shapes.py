"""What is measured: `mini` itself, Janus-Pro-1B and 7B as random weights from their real configs, and a tiny one.

Weights are made where and as they are used (7B never passes through the CPU or fp32). Random weights read, compute and
cost what trained ones do; only the pictures are noise. Every id that a model can emit decodes to one word and back, so
that a reasoning of T tokens is T tokens of the image prompt too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from milr.models import load_model
from milr.models.base import ModelFacts
from milr.models.janus import Janus, Templates
from milr.models.loading import resolve_device, resolve_dtype

SPECIAL = ("<unk>", "<pad>", "<bos>", "<eos>", "<boi>", "<eoi>", "<image>")
_INSTRUCTION_WORDS = 86  # with twelve words of prompt and two marks: the hundred tokens of a real instruction
_WORDS_PROMPT = " ".join(f"w{number}" for number in range(10, 22))
_STANDARD_DEVIATION = 0.02  # of Llama's own initialisation


@dataclass(frozen=True)
class Shape:
    """One shape of model.

    Attributes:
        config: of random weights; None for `mini`, which is loaded.
        prompt: whose reasoning and picture are measured.
    """

    name: str
    config: JanusConfig | None
    prompt: str = _WORDS_PROMPT


def janus_pro(
    hidden: int, layers: int, heads: int, intermediate: int, vocabulary: int = 102_400, positions: int = 16_384
) -> JanusConfig:
    """Janus-Pro's config: what 1B and 7B share, and the four numbers in which they differ."""
    return JanusConfig(
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=positions,
            rms_norm_eps=1e-6,
            bos_token_id=SPECIAL.index("<bos>"),
            eos_token_id=SPECIAL.index("<eos>"),
            pad_token_id=SPECIAL.index("<pad>"),
        ),
        vision_config=JanusVisionConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=384,
            patch_size=16,
            num_image_tokens=576,
            projection_dim=hidden,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=16_384,
            latent_channels=256,
            base_channels=128,
            channel_multiplier=[1, 1, 2, 2, 4],
            num_res_blocks=2,
            num_patches=24,
            projection_dim=hidden,
            image_token_embed_dim=hidden,
        ),
        image_token_id=SPECIAL.index("<image>"),
        tie_word_embeddings=False,
    )


def tiny(vocabulary: int = 200, positions: int = 512, special: Sequence[str] = SPECIAL) -> JanusConfig:
    """Sixteen image tokens and pictures of eight pixels: for tests.

    Args:
        special: words of which the model knows some by their number.
    """
    return JanusConfig(
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=positions,
            bos_token_id=special.index("<bos>"),
            eos_token_id=special.index("<eos>"),
            pad_token_id=special.index("<pad>"),
        ),
        vision_config=JanusVisionConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=8,
            patch_size=2,
            num_image_tokens=16,
            projection_dim=32,
        ),
        vq_config=JanusVQVAEConfig(
            embed_dim=8,
            num_embeddings=24,
            latent_channels=32,
            base_channels=32,
            channel_multiplier=[1, 1],
            num_res_blocks=1,
            num_patches=4,
            projection_dim=32,
            image_token_embed_dim=32,
        ),
        image_token_id=special.index("<image>"),
        tie_word_embeddings=False,
    )


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("mini", None, "a photo of a red apple left of a dog"),
        Shape("janus-pro-1b", janus_pro(hidden=2048, layers=24, heads=16, intermediate=5632)),
        Shape("janus-pro-7b", janus_pro(hidden=4096, layers=30, heads=32, intermediate=11_008)),
        Shape("tiny", tiny()),
    )
}


def build(shape: Shape, device: str, dtype: str, seed: int = 0) -> Janus:
    """The model of a shape on its device, frozen.

    Raises:
        UsageError: no such device or dtype.
    """
    if shape.config is None:
        return cast(Janus, load_model(shape.name, device=device, dtype=dtype))
    target = resolve_device(device)
    network = random_network(shape.config, target, resolve_dtype(dtype, target), seed)
    side = shape.config.vq_config.num_patches
    facts = ModelFacts(
        name=shape.name,
        hidden_size=shape.config.text_config.hidden_size,
        text_vocabulary=shape.config.text_config.vocab_size,
        image_tokens=side * side,
        image_vocabulary=shape.config.vq_config.num_embeddings,
        grid=(side, side),
        resolution=shape.config.vision_config.image_size,
        context_length=shape.config.text_config.max_position_embeddings,
    )
    instruction = " ".join(f"w{number}" for number in range(30, 30 + _INSTRUCTION_WORDS))
    templates = Templates(
        reasoning=f"{{bos}} {instruction} {{prompt}} <eoi>",
        image="{bos} {prompt} {reasoning} {boi}",
        direct="{bos} {prompt} {boi}",
        question=None,
        describe=None,
    )
    return Janus(network, word_tokenizer(shape.config.text_config.vocab_size), facts, templates)


def random_network(
    config: JanusConfig, device: torch.device, dtype: torch.dtype, seed: int
) -> JanusForConditionalGeneration:
    """Normal weights of Llama's own deviation, norms at one, biases at zero; made on the device in the dtype."""
    torch.manual_seed(seed)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            network = JanusForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(default)
    with torch.no_grad():
        for module in network.modules():
            is_norm = "Norm" in type(module).__name__
            for name, parameter in module.named_parameters(recurse=False):
                if name == "bias":
                    nn.init.zeros_(parameter)
                elif is_norm:
                    nn.init.ones_(parameter)
                else:
                    nn.init.normal_(parameter, std=_STANDARD_DEVIATION)
    return network


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One word an id: `w7` is token 7; the first few are special."""
    ids = {word: index for index, word in enumerate(SPECIAL)}
    ids |= {f"w{index}": index for index in range(len(SPECIAL), vocabulary)}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        extra_special_tokens={"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<image>"},
    )

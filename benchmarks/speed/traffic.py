"""How many bytes one decode step must read, in closed form, and the time that the copy bandwidth allows for them.

A step reads every weight of the backbone and the image head once, whatever the batch, and the keys and values of every
row, two rows a picture, at the length reached. Nothing else counts: not activations, not what is written, not the table
of image embeddings (the aligner's outputs, made once), of which a step reads one row a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import JanusConfig


@dataclass(frozen=True)
class Traffic:
    """Bytes that one step of drawing image tokens reads."""

    weights: float
    cache: float

    @property
    def step(self) -> float:
        return self.weights + self.cache

    def roofline_seconds(self, steps: int, bytes_per_second: float) -> float:
        """The least time for that many steps."""
        return steps * self.step / bytes_per_second


def drawing_traffic(
    config: JanusConfig, pictures: int, prompt: int, dtype: torch.dtype, projection_bytes: int | None = None
) -> Traffic:
    """Of a step halfway through pictures drawn behind prompts of `prompt` tokens.

    Args:
        projection_bytes: of one weight of the backbone's projections; the dtype's own when not given.
    """
    tokens, projections = config.vq_config.num_patches**2, projection_weights(config)
    others = drawing_weights(config) - projections
    return Traffic(
        projections * (projection_bytes or dtype.itemsize) + others * dtype.itemsize,
        2 * pictures * (prompt + tokens / 2) * cached_numbers(config) * dtype.itemsize,
    )


def drawing_weights(config: JanusConfig) -> int:
    """Weights of the backbone and the image head."""
    return backbone_weights(config) + image_head_weights(config)


def backbone_weights(config: JanusConfig) -> int:
    """The projections of every layer, two norms each, and the last norm; no embeddings."""
    text = config.text_config
    return projection_weights(config) + (2 * text.num_hidden_layers + 1) * text.hidden_size


def projection_weights(config: JanusConfig) -> int:
    """Attention and MLP of every layer."""
    text = config.text_config
    width, heads = text.hidden_size, text.num_attention_heads + text.num_key_value_heads
    return text.num_hidden_layers * width * (2 * heads * _head_width(config) + 3 * text.intermediate_size)


def image_head_weights(config: JanusConfig) -> int:
    """Two layers with biases: to the projection, to the image vocabulary."""
    vq = config.vq_config
    return _linear(vq.image_token_embed_dim, vq.projection_dim) + _linear(vq.projection_dim, vq.num_embeddings)


def cached_numbers(config: JanusConfig) -> int:
    """Numbers that the cache holds for one position of one row: a key and a value in every layer."""
    text = config.text_config
    return 2 * text.num_hidden_layers * text.num_key_value_heads * _head_width(config)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _head_width(config: JanusConfig) -> int:
    text = config.text_config
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

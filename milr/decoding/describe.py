"""What a model sees in pictures, in its own words: the text loop after a prompt that holds a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from milr.decoding.engine import Engine
from milr.decoding.prompt_store import read
from milr.decoding.rollout import Sampling
from milr.decoding.streams import text_stream
from milr.latents import stack_prefixes
from milr.noise import NoiseRows, NoiseSource

_PICTURES_AT_ONCE = 64


def describe(engine: Engine, images: Sequence[Image.Image]) -> list[str]:
    """A description of each picture, the likeliest word each time.

    Raises:
        ModelError: the model cannot read.
    """
    model = engine.model
    greedy = Sampling(1.0, 1.0, reasoning_temperature=0.0, max_reasoning_tokens=model.facts.max_reasoning_tokens)
    stream = replace(text_stream(model, greedy), stops=model.stop_ids | model.end_ids)
    texts: list[str] = []
    for start in range(0, len(images), _PICTURES_AT_ONCE):
        batch = images[start : start + _PICTURES_AT_ONCE]
        prompts = read(model.backbone, model.read_picture(batch), [0] * len(batch))
        nothing = stack_prefixes([None] * len(batch), 1, model.facts.hidden_size, model.device)
        silent = NoiseRows([NoiseSource.of(0, "")] * len(batch), [0] * len(batch), [0] * len(batch), model.device)
        written = engine.write_after(prompts, nothing, silent, stream)
        texts += [
            model.decode_text([token for token in row.ids.tolist() if token not in stream.stops]) for row in written
        ]
    return texts

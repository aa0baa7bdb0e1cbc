"""Training of the tiny contrastive model: open_clip's own `CLIP`, a small ResNet and a small text transformer.

Besides the other captions of its batch, every picture meets two captions of its own with one thing wrong; without them
the model learns which things are there and nothing about colours, counts or places.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from . import language
from .corruptions import corrupt
from .language import CAPTION_LENGTH
from .layout import lay_out
from .training import Averaged, Batch, Losses, Schedule, train
from .world import Painter, Requests, Scenes, sample_requests

_WRONG_CAPTIONS = 2
_WEIGHTS = "open_clip_model.safetensors"
_PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}


def train_clip(
    config: dict[str, Any],
    painter: Painter,
    tokenizer: PreTrainedTokenizerFast,
    schedule: Schedule,
    generator: torch.Generator,
    pool: int,
    start: Path | None = None,
) -> nn.Module:
    """A trained model; pictures are drawn anew, captions come from a pool of `pool` scenes.

    With `start`, the folder of a model of the same shape, trained on from there.
    """
    torch.manual_seed(generator.initial_seed())
    device = generator.device
    model = open_clip.CLIP(**config).to(device)
    if start:
        model.load_state_dict(load_file(start / _WEIGHTS))
    scenes, captions = _captioned_scenes(painter, tokenizer, pool, generator)

    def draw(step: int) -> Batch:
        rows = torch.randint(len(captions), (schedule.batch,), generator=generator, device=device)
        return normalised(painter.render(scenes[rows])), captions[rows].transpose(0, 1).flatten(0, 1)

    right = torch.arange(schedule.batch, device=device)

    def losses(batch: Batch, share: Tensor) -> Losses:
        images, words = batch
        seen = model.encode_image(images, normalize=True).float()
        said = model.encode_text(words, normalize=True).float()
        scale = model.logit_scale.exp().clamp(max=100.0)
        logits = scale * seen @ said.T  # [B, 3B], the true captions first
        own = logits.view(schedule.batch, -1, schedule.batch).diagonal(dim1=0, dim2=2).T  # [B, 3]
        return {
            "image": F.cross_entropy(logits, right),
            "text": 0.5 * F.cross_entropy(logits[:, : schedule.batch].T, right),
            "wrong": F.cross_entropy(own, torch.zeros_like(right)),
        }

    average = Averaged(model, 0.997)
    train("clip", model.parameters(), draw, losses, schedule, average.update, capture=True)
    average.apply()
    return model.requires_grad_(False).eval()


def similarity(model: nn.Module, tokenizer: PreTrainedTokenizerFast, images: Tensor, captions: list[str]) -> Tensor:
    """Cosine of each picture and its own caption, [B]."""
    with torch.inference_mode():
        seen = torch.cat([model.encode_image(normalised(part), normalize=True) for part in images.split(512)])  # type: ignore[operator]
        said = model.encode_text(encode(tokenizer, captions).to(images.device), normalize=True)  # type: ignore[operator]
    return (seen * said).sum(-1)


def encode(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> Tensor:
    """Token ids [N, length], padded on the right, as open_clip's own wrapper of the tokenizer gives them."""
    pad = tokenizer.pad_token_id
    lines = tokenizer.backend_tokenizer.encode_batch(captions, add_special_tokens=False)
    return torch.tensor([(line.ids + [pad] * CAPTION_LENGTH)[:CAPTION_LENGTH] for line in lines])


def normalised(images: Tensor) -> Tensor:
    """Pictures in 0 to 1 as the model wants them."""
    return images * 2 - 1


def save_clip(model: nn.Module, config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """A folder that `open_clip.create_model_from_pretrained("local-dir:...")` and `get_tokenizer` read."""
    folder.mkdir(parents=True, exist_ok=True)
    text = config["text_cfg"] | {"hf_tokenizer_name": "local"}  # any name: open_clip reads the folder itself
    described = {"model_cfg": config | {"text_cfg": text}, "preprocess_cfg": _PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(described, indent=2) + "\n")
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(state, folder / _WEIGHTS)
    side, tokenizer.padding_side = tokenizer.padding_side, "right"
    tokenizer.save_pretrained(str(folder))
    tokenizer.padding_side = side


def _captioned_scenes(
    painter: Painter, tokenizer: PreTrainedTokenizerFast, count: int, generator: torch.Generator
) -> tuple[Scenes, Tensor]:
    """Scenes and ids [N, 3, length]: the true caption, then wrong ones."""
    rng = random.Random(generator.initial_seed())
    classes = len(painter.classes)
    requests = sample_requests(count, classes, generator)
    parts = [lay_out(requests[slice(i, i + 8192)], generator) for i in range(0, count, 8192)]
    scenes = parts[0]
    for part in parts[1:]:
        scenes = scenes.joined(part)
    versions: list[Requests] = [requests]
    versions += [corrupt(requests, classes, generator)[0] for _ in range(_WRONG_CAPTIONS)]
    ids = [encode(tokenizer, language.prompts(version, painter.classes, rng)) for version in versions]
    return scenes, torch.stack(ids, dim=1).to(generator.device)

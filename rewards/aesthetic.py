"""The critic `aesthetic`: how beautiful people would find a picture, from 1 to 10, whatever the prompt says.

The improved aesthetic predictor (github.com/christophschuhmann/improved-aesthetic-predictor, Apache-2.0): a few linear
layers, with nothing between them, on the unit-length embedding of CLIP ViT-L-14, trained on ratings of pictures (SAC,
LAION-Logos and AVA). Most pictures get 4 to 7. The prompt is ignored: alone it lets a search forget what was asked, so
weigh it with a critic that reads the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .networks.checkpoints import Weights
from .networks.open_clip_models import OpenClip

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

CLIP = "ViT-L-14"
FILE = "aesthetic-model.pth"
RULE_VERSION = 1  # raise it when the same embeddings may score otherwise


class Aesthetic(Reward):
    """Beauty of the picture, about 1 to 10, by a linear predictor on CLIP embeddings; ignores the prompt.

    Args:
        facts: of the model whose pictures are scored.
        device: where the model runs.
        model: where the predictor's weights are: a hub id or a folder.
        file: these weights, `.pth` or `.safetensors`.
        clip: the CLIP whose embeddings the predictor reads: an architecture of open_clip (with OpenAI's weights),
            "hf-hub:OWNER/NAME", or a folder with `open_clip_config.json`.

    Raises:
        UsageError: open_clip is not installed, or there is no such CLIP; on loading, that there are no such weights.
    """

    name = "aesthetic"
    checkpoint = "trl-lib/ddpo-aesthetic-predictor"
    licence = "Apache-2.0 (predictor), MIT (OpenAI's CLIP)"
    size_mb = 1715.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = checkpoint,
        file: str = FILE,
        clip: str = CLIP,
    ) -> None:
        self._device, self._file = device, file
        self._weights = Weights(self.name, model)
        self._clip = OpenClip(self.name, clip, device=device, option="clip")
        self.kin = self._weights.kin | self._clip.kin

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        return f"{RULE_VERSION}-{self._weights.version}-{self._file}-{self._clip.version}"

    def check(self, prompt: Prompt) -> None:
        """Load the weights and try them, so that unusable ones are an error before anything starts."""
        super().check(prompt)
        self._clip.load()
        with self._weights.explained():
            self.score([Image.new("RGB", (8, 8))], [prompt])

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        values = self._predictor(self._clip.embed_images(images)).squeeze(-1)  # [images]
        return [Score(value, reason=f"beauty {value:.1f} of 10") for value in values.tolist()]

    @cached_property
    def _predictor(self) -> torch.nn.Sequential:
        with self._weights.explained():
            return linear_layers(self._weights.tensors(self._file), "layers.").to(self._device)


def linear_layers(tensors: Mapping[str, torch.Tensor], prefix: str) -> torch.nn.Sequential:
    """Linear layers in a row, frozen, in float32, from the tensors PREFIX + "NUMBER.weight" and "NUMBER.bias".

    Raises:
        ValueError: there are none, or other tensors have that prefix.
    """
    named = {key.removeprefix(prefix): tensor.float() for key, tensor in tensors.items() if key.startswith(prefix)}
    numbers = sorted({int(key.partition(".")[0]) for key in named if re.fullmatch(r"\d+\.(weight|bias)", key)})
    if not numbers or set(named) != {f"{number}.{part}" for number in numbers for part in ("weight", "bias")}:
        raise ValueError(f"no linear layers are named {prefix}0.weight, {prefix}0.bias and so on")
    layers = torch.nn.Sequential()
    for number in numbers:
        weight, bias = named[f"{number}.weight"], named[f"{number}.bias"]
        layer = torch.nn.utils.skip_init(torch.nn.Linear, weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers.append(layer)
    return layers.requires_grad_(False).eval()

"""The critic `image-reward`: ImageReward, a BLIP that learned which pictures people prefer for a prompt.

The picture is encoded by a ViT-L, the prompt by a BERT that looks at the picture through cross-attention, and five
linear layers turn its first hidden state into one number, standardised over pictures people had ranked ("ImageReward",
arXiv 2304.05977, section 2.2; the constants are those of the authors' code). So 0 is an average picture and 1 is one
standard deviation better; most lie between -2 and 2. Prompts are cut at 35 tokens.

The authors' own package does not work with today's transformers. Here its weights are loaded into the BLIP of
transformers: `blip_names` says which tensor is which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from milr.prompts import Prompt
from milr.rewards import Reward, Score

from .aesthetic import linear_layers
from .networks.batching import batches
from .networks.checkpoints import Weights

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

BATCH = 32  # pictures per forward pass; keeps memory flat
FILE = "ImageReward.pt"
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072  # of the raw value, in the authors' code
TOKENIZER = "google-bert/bert-base-uncased"
TOKENS = 35
RULE_VERSION = 1  # raise it when the same weights may score otherwise

# BLIP as the authors' `med_config.json` and ViT-L have it.
_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
}
_TEXT = {"num_attention_heads": 12}  # the rest is what transformers has by default

# From timm's names for the parts of a ViT to those of transformers.
_VIT_NAMES = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.(\d+)\.norm", r"encoder.layers.\1.layer_norm"),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
)


class ImageReward(Reward):
    """Human preference as ImageReward sees it: 0 for an average picture of a prompt, 1 for one deviation better.

    Args:
        facts: of the model whose pictures are scored.
        device: where the model runs.
        model: where the weights `ImageReward.pt` are: a hub id or a folder. A folder may also hold a `config.json`,
            a `BlipConfig` of transformers, for a model of another size.
        tokenizer: a hub id or a folder; when not given, the folder of the model, or BERT's.

    Raises:
        UsageError: on loading, that there are no such weights, or open_clip is not installed.
    """

    name = "image-reward"
    checkpoint = "zai-org/ImageReward"
    licence = "Apache-2.0"
    size_mb = 1790.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        model: str = checkpoint,
        tokenizer: str | None = None,
    ) -> None:
        self._device = device
        self._weights = Weights(self.name, model)
        self.kin = self._weights.kin
        self._words = Weights(
            self.name, tokenizer or (model if self._weights.folder else TOKENIZER), option="tokenizer"
        )

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        version = f"{RULE_VERSION}-{self._weights.version}"
        if self._words.source != self._weights.source:
            version += f"-{self._words.version}"
        return version

    def check(self, prompt: Prompt) -> None:
        """Load the weights, so that missing ones are an error before anything starts."""
        super().check(prompt)
        _ = self._loaded

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        pairs = list(zip(images, prompts, strict=True))
        raw = [value for batch in batches(pairs, BATCH) for value in self._raw(batch)]
        values = [(value - MEAN) / DEVIATION for value in raw]
        return [Score(value, reason=f"{value:+.2f} deviations from an average picture") for value in values]

    def _raw(self, pairs: Sequence[tuple[Image.Image, Prompt]]) -> list[float]:
        """What the linear layers say, before it is standardised."""
        vision, text, head, preprocess, tokenizer = self._loaded
        pixels = torch.stack([preprocess(image.convert("RGB")) for image, _ in pairs])  # [pairs, 3, side, side]
        tokens = tokenizer(
            [prompt.text for _, prompt in pairs],
            padding="max_length",
            truncation=True,
            max_length=TOKENS,
            return_tensors="pt",
            return_token_type_ids=False,
        ).to(self._device)
        seen = vision(pixels.to(self._device)).last_hidden_state  # [pairs, 1 + patches, vision width]
        read = text(**tokens, encoder_hidden_states=seen).last_hidden_state  # [pairs, TOKENS, text width]
        return head(read[:, 0]).squeeze(-1).tolist()

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any, Any, Any]:
        """What sees, what reads, the linear layers, what prepares pictures, and the tokenizer."""
        # Networks are born with random weights; the fork keeps that from the generator of whoever calls.
        with self._weights.explained(), torch.random.fork_rng(devices=[]):
            import open_clip
            from transformers import AutoTokenizer, BlipTextModel, BlipVisionModel

            tensors = blip_names(self._weights.tensors(FILE))
            config = self._config()
            vision = BlipVisionModel(config.vision_config)
            vision.load_state_dict(_under("vision.", tensors))
            text = BlipTextModel(config.text_config, add_pooling_layer=False)
            text.load_state_dict(_under("text.", tensors))
            head = linear_layers(tensors, "head.")
            # The shorter side fitted, the middle cut out, and OpenAI's mean and deviation, as the authors do.
            preprocess = open_clip.image_transform(config.vision_config.image_size, is_train=False)
        tokenizer = self._words.processor(AutoTokenizer)
        vision, text, head = (part.requires_grad_(False).eval().to(self._device) for part in (vision, text, head))
        return vision, text, head, preprocess, tokenizer

    def _config(self) -> Any:
        from transformers import BlipConfig

        folder = self._weights.folder
        if folder and (folder / "config.json").is_file():
            return BlipConfig.from_pretrained(folder)
        return BlipConfig(vision_config=_VISION, text_config=_TEXT)


def blip_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """ImageReward's tensors under the names of transformers: "vision.", "text." and "head." before each.

    Tensors that scoring does not need (the projections of BLIP's contrastive loss, positions) are left out.
    """
    renamed = {}
    for key, tensor in tensors.items():
        if key.startswith("blip.visual_encoder."):
            name = key.removeprefix("blip.visual_encoder.")
            for pattern, replacement in _VIT_NAMES:
                name = re.sub(pattern, replacement, name)
            renamed[f"vision.{name}"] = tensor
        elif key.startswith("blip.text_encoder.") and not key.endswith("position_ids"):
            renamed[key.replace("blip.text_encoder.", "text.", 1)] = tensor
        elif key.startswith("mlp.layers."):
            renamed[key.replace("mlp.layers.", "head.", 1)] = tensor
    return renamed


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}

"""Every size, seed and number of steps of the recipe, in its full and in its toy form.

The toy form runs all stages on a CPU in half a minute; its models are worth nothing, its code paths are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from transformers import JanusConfig, JanusVQVAEConfig

from .concepts import MAX_OBJECTS
from .detectors import Diet
from .language import CAPTION_LENGTH
from .language_model import IMAGE_TOKENS
from .training import Schedule
from .world import IMAGE_SIZE


@dataclass(frozen=True)
class DetectorRecipe:
    """One detector: its kind and its two phases of training."""

    context: str
    width: int
    seed: int
    diet: Diet
    clean: Schedule
    adapted: Schedule


@dataclass(frozen=True)
class Recipe:
    """The whole recipe. Seeds of training, choosing and reporting never meet."""

    detectors: dict[str, DetectorRecipe]
    tokeniser: Schedule
    tokeniser_warm_steps: int
    vq: dict[str, Any]
    sight: Schedule
    reading_pool: int
    language_model: Schedule
    reading_batch: int
    pool: int
    text: dict[str, Any]
    vision: dict[str, Any]
    clip: Schedule
    clip_pool: int
    clip_model: dict[str, Any]
    fresh_scenes: int = 4096
    compare_settings: bool = True
    reported_images: int = 4
    seed: int = 7
    choosing_seed: int = 1_000_003
    reporting_seed: int = 2_000_003

    def vq_config(self) -> JanusVQVAEConfig:
        """The tokeniser as the model's config describes it."""
        return JanusVQVAEConfig(**self.vq, num_patches=IMAGE_SIZE // 8)

    def janus_config(self, image_token_id: int, pad: int, bos: int, eos: int) -> JanusConfig:
        """The configuration of `mini`."""
        text = {"model_type": "llama", "pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos}
        vision = {"image_size": IMAGE_SIZE, "patch_size": 8, "num_image_tokens": IMAGE_TOKENS}
        return JanusConfig(
            text_config=self.text | text,
            vision_config=self.vision | vision,
            vq_config=self.vq | {"num_patches": IMAGE_SIZE // 8},
            image_token_id=image_token_id,
        )


def _vq(base: int, multiplier: list[int], blocks: int, latent: int, codes: int, hidden: int) -> dict[str, Any]:
    return {
        "embed_dim": 8,
        "num_embeddings": codes,
        "latent_channels": latent,
        "base_channels": base,
        "channel_multiplier": multiplier,
        "num_res_blocks": blocks,
        "projection_dim": hidden,
        "image_token_embed_dim": hidden,
    }


def _text(hidden: int, layers: int, heads: int, mlp: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": mlp,
        "vocab_size": 1024,  # more than the tokenizer has words: room for words to come
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
    }


def _vision(hidden: int, layers: int, heads: int, projection: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "projection_dim": projection,
        "mlp_ratio": 4,
    }


def _clip(width: int, layers: list[int], text_width: int, text_layers: int) -> dict[str, Any]:
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": IMAGE_SIZE, "layers": layers, "width": width, "head_width": 64},
        "text_cfg": {
            "context_length": CAPTION_LENGTH,
            "vocab_size": 1024,
            "width": text_width,
            "heads": text_width // 64,
            "layers": text_layers,
            "pool_type": "last",
        },
    }


def _detectors(
    widths: tuple[int, int, int], clean: Schedule, adapted: Schedule, diets: tuple[Diet, Diet, Diet]
) -> dict[str, DetectorRecipe]:
    """A critic, a judge that took no part in training anything, and a third that checks the judge."""
    kinds = zip(
        ("critic", "judge", "third"), ("pyramid", "dilated", "attention"), (11, 23, 37), widths, diets, strict=True
    )
    return {
        name: DetectorRecipe(context, width, seed, diet, clean, adapted) for name, context, seed, width, diet in kinds
    }


_DIETS = (
    Diet(),
    Diet(prompted=0.4, broken=0.4, things=(2, MAX_OBJECTS), ground=0.04, jitter=1.4, blur=0.5, gain=1.5),
    Diet(prompted=0.3, broken=0.35, ground=0.02, jitter=1.2, noise=2.0, gain=0.5),
)

FULL = Recipe(
    detectors=_detectors(
        (44, 48, 48), Schedule(1800, 256, 2e-3, seconds=45), Schedule(1300, 256, 1e-3, warmup=20, seconds=65), _DIETS
    ),
    tokeniser=Schedule(14000, 96, 9e-4, seconds=350, weight_decay=1e-4, betas=(0.9, 0.95)),
    tokeniser_warm_steps=200,
    vq=_vq(32, [1, 2, 4, 4], 1, 64, 1024, 384),
    sight=Schedule(8000, 256, 1e-3, seconds=75, warmup=200, weight_decay=0.05),
    reading_pool=240_000,
    language_model=Schedule(12000, 512, 1.2e-3, warmup=150, seconds=400, weight_decay=0.05, betas=(0.9, 0.95)),
    reading_batch=128,
    pool=700_000,
    text=_text(384, 7, 6, 1024),
    vision=_vision(192, 6, 3, 384),
    clip=Schedule(6000, 512, 1.5e-3, seconds=80, weight_decay=0.05),
    clip_pool=150_000,
    clip_model=_clip(16, [1, 2, 2, 1], 128, 3),
)

# From models that are there already, in less time; the detectors need no clean phase.
CONTINUED = replace(
    FULL,
    tokeniser=Schedule(6000, 96, 9e-4, seconds=115, weight_decay=1e-4, betas=(0.9, 0.95)),
    sight=Schedule(8000, 256, 5e-4, seconds=40, warmup=100, weight_decay=0.05),
    reading_pool=120_000,
    language_model=Schedule(12000, 512, 5e-4, warmup=100, seconds=275, weight_decay=0.05, betas=(0.9, 0.95)),
    pool=500_000,
    clip=Schedule(6000, 512, 1e-3, seconds=40, weight_decay=0.05),
    clip_pool=100_000,
)

TOY = replace(
    FULL,
    detectors=_detectors((8, 8, 8), Schedule(8, 8, 4e-3, warmup=5), Schedule(2, 4, 1e-3, warmup=2), _DIETS),
    tokeniser=Schedule(8, 4, 1e-3, warmup=2),
    tokeniser_warm_steps=4,
    vq=_vq(32, [1, 1, 1, 2], 1, 32, 64, 64),
    sight=Schedule(4, 8, 1e-3, warmup=2),
    reading_pool=64,
    language_model=Schedule(8, 8, 1e-3, warmup=2),
    reading_batch=4,
    pool=48,
    text=_text(64, 2, 2, 128),
    vision=_vision(64, 1, 2, 64),
    clip=Schedule(8, 16, 1e-3, warmup=2),
    clip_pool=64,
    clip_model=_clip(8, [1, 1, 1, 1], 64, 1),
    fresh_scenes=24,
    compare_settings=False,
    reported_images=1,
)


def shortened(recipe: Recipe, share: float) -> Recipe:
    """The same recipe with a share of every number of steps: to see throughput and that all stages run."""

    def cut(schedule: Schedule) -> Schedule:
        return replace(schedule, steps=max(2, int(schedule.steps * share)))

    def cut_detector(detector: DetectorRecipe) -> DetectorRecipe:
        return replace(detector, clean=cut(detector.clean), adapted=cut(detector.adapted))

    return replace(
        recipe,
        detectors={name: cut_detector(detector) for name, detector in recipe.detectors.items()},
        tokeniser=cut(recipe.tokeniser),
        tokeniser_warm_steps=max(1, int(recipe.tokeniser_warm_steps * share)),
        sight=cut(recipe.sight),
        reading_pool=max(1024, int(recipe.reading_pool * share)),
        language_model=cut(recipe.language_model),
        pool=max(4096, int(recipe.pool * share)),
        clip=cut(recipe.clip),
        clip_pool=max(1024, int(recipe.clip_pool * share)),
    )

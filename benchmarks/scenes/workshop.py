"""Where the recipe runs, and what its stages share: sprites, words, random numbers, what earlier stages left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from transformers import JanusConfig, JanusForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.janus.modeling_janus import JanusVQVAE

from milr.models.base import UnifiedModel
from milr.models.loading import load_from
from milr_rewards.networks.scene_detector import SceneDetector

from . import language, tokeniser
from .language_model import new_model, text_workers
from .reading import PatchHeads, ReadingPool, build_reading_pool
from .recipe import Recipe
from .sprites import Sprites
from .world import Painter


@dataclass(frozen=True)
class Workshop:
    """Where the recipe runs, and the things that all stages share."""

    out: Path
    recipe: Recipe
    sprites: Sprites
    device: torch.device
    geneval_prompts: Path | None = None  # GenEval's own prompt file, for the figures; without it, prompts like them
    max_shard_size: str = "50MB"
    start: Path | None = None  # finished models to train on from: `mini` and the folders `scenes-...`

    @cached_property
    def painter(self) -> Painter:
        """Sprites on the device."""
        return Painter(self.sprites, self.device)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The words of the world."""
        return language.build_tokenizer()

    def generator(self, offset: int) -> torch.Generator:
        """Random numbers of one stage."""
        return torch.Generator(self.device).manual_seed(self.recipe.seed + 1000 * offset)

    def new_model(self) -> JanusForConditionalGeneration:
        """`mini` before it learns anything but the tokeniser, or the one to train on from around the tokeniser."""
        model = new_model(self.config(), self.vq(), self.recipe.seed)
        if self.start:
            known = {name: value for name, value in mini_in(self.start).state_dict().items() if "vqmodel" not in name}
            model.load_state_dict(known, strict=False)
        return model

    def config(self) -> JanusConfig:
        """The configuration of `mini`."""
        tokenizer = self.tokenizer
        ids = (tokenizer.convert_tokens_to_ids(language.IMAGE), tokenizer.pad_token_id)
        return self.recipe.janus_config(*ids, tokenizer.bos_token_id, tokenizer.eos_token_id)

    def new_heads(self) -> PatchHeads:
        """Heads for the patches that the vision tower sees."""
        return PatchHeads(self.recipe.text["hidden_size"], len(self.sprites.classes)).to(self.device)

    def reading_pool(self, offset: int, reconstruct: Callable[[torch.Tensor], torch.Tensor] | None) -> ReadingPool:
        """Pictures to read, half of them through `reconstruct`."""
        with text_workers(self.recipe.reading_pool) as workers:
            return build_reading_pool(
                self.painter, self.recipe.reading_pool, self.generator(offset), reconstruct, workers
            )

    def detector(self, name: str) -> SceneDetector:
        """A detector that an earlier stage left."""
        return SceneDetector.load(self.out / name, self.device)

    def vq(self) -> JanusVQVAE:
        """The tokeniser that an earlier stage left."""
        model = JanusVQVAE.from_pretrained(self.out / "tokeniser").to(self.device).requires_grad_(False).eval()
        tokeniser.with_fused_blocks(model)
        return model

    def mini(self) -> UnifiedModel:
        """The model that an earlier stage left, as the library runs it."""
        return load_from(str(self.out / "mini"), str(self.device), "auto", revision=None)


def mini_in(folder: Path) -> JanusForConditionalGeneration:
    """The `mini` of a folder of finished models, to train on from."""
    return JanusForConditionalGeneration.from_pretrained(folder / "mini", dtype=torch.float32)

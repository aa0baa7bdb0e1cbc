"""The stages of the recipe, in order. Each reads what earlier ones left in a folder and leaves its own there.

    detectors -> tokeniser -> adapted -> language-model -> clip -> figures

A stage whose output is there is skipped, so a run that was cut off goes on where it stopped. Outputs appear under their
final name only when they are complete.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.janus.modeling_janus import JanusVQVAE

from milr_rewards.detector import DetectorConfig, SceneDetector

from . import evaluate, language, tokeniser
from .detectors import new_detector, train_detector
from .export import DEFAULT_SETTING, save_mini
from .language_model import build_pool, train_language_model
from .recipe import COLOR_NAMES, DetectorRecipe, Recipe
from .sampling import Setting
from .sprites import Sprites
from .world import Painter, sample_requests

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workshop:
    """Where the recipe runs, and the things that all stages share."""

    out: Path
    recipe: Recipe
    sprites: Sprites
    device: torch.device
    geneval_prompts: Path | None = None  # GenEval's own prompt file, for the figures; without it, prompts like them
    max_shard_size: str = "50MB"

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

    def detector(self, name: str) -> SceneDetector:
        """A detector that an earlier stage left."""
        return SceneDetector.load(self.out / name, self.device)

    def vq(self) -> JanusVQVAE:
        """The tokeniser that an earlier stage left."""
        model = JanusVQVAE.from_pretrained(self.out / "tokeniser").to(self.device).requires_grad_(False).eval()
        tokeniser.with_fused_blocks(model)
        return model

    def mini(self) -> JanusForConditionalGeneration:
        """The model that an earlier stage left, in bf16 as it ships on a GPU, in fp32 on a CPU."""
        kind = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        model = JanusForConditionalGeneration.from_pretrained(self.out / "mini", dtype=kind)
        return model.to(self.device).requires_grad_(False).eval()


def detectors(shop: Workshop) -> None:
    """Critic and judge on clean scenes."""
    for name, recipe in (("critic", shop.recipe.critic), ("judge", shop.recipe.judge)):
        with _new_output(shop.out / f"clean-{name}") as folder:
            if folder:
                config = DetectorConfig(
                    shop.sprites.classes,
                    COLOR_NAMES,
                    width=recipe.width,
                    context=recipe.context,
                )
                detector = new_detector(config, shop.device, recipe.seed)
                generator = shop.generator(recipe.seed)
                train_detector(f"clean {name}", detector, shop.painter, recipe.clean, generator, recipe.jitter)
                detector.save(folder)


def image_tokeniser(shop: Workshop) -> None:
    """The image tokeniser, with the critic's features."""
    with _new_output(shop.out / "tokeniser") as folder:
        if folder:
            model = tokeniser.train_tokeniser(
                shop.recipe.vq_config(),
                shop.painter,
                shop.detector("clean-critic"),
                shop.recipe.tokeniser,
                shop.generator(1),
                shop.recipe.tokeniser_warm_steps,
            )
            model.save_pretrained(str(folder))


def adapted_detectors(shop: Workshop) -> None:
    """Critic and judge on half reconstructions: the ones that ship."""
    reconstruct = partial(tokeniser.reconstruct, shop.vq())
    for name, recipe in (("critic", shop.recipe.critic), ("judge", shop.recipe.judge)):
        with _new_output(shop.out / f"scenes-{name}") as folder:
            if folder:
                _adapt(shop, name, recipe, reconstruct).save(folder)


def _adapt(
    shop: Workshop, name: str, recipe: DetectorRecipe, reconstruct: Callable[[torch.Tensor], torch.Tensor]
) -> SceneDetector:
    detector = shop.detector(f"clean-{name}")
    generator = shop.generator(recipe.seed + 1)
    return train_detector(
        f"adapted {name}", detector, shop.painter, recipe.adapted, generator, recipe.jitter, reconstruct
    )


def language_model(shop: Workshop) -> None:
    """The language part, and with it the whole of `mini`."""
    with _new_output(shop.out / "mini") as folder:
        if folder:
            recipe, tokenizer, vq = shop.recipe, shop.tokenizer, shop.vq()
            ids = (tokenizer.convert_tokens_to_ids(language.IMAGE), tokenizer.pad_token_id)
            config = recipe.janus_config(*ids, tokenizer.bos_token_id, tokenizer.eos_token_id)
            vocabulary = config.text_config.vocab_size
            began = time.monotonic()
            pool = build_pool(shop.painter, vq, tokenizer, vocabulary, recipe.pool, shop.generator(2))
            log.info("pool of %d tokenised scenes: %.1f s", recipe.pool, time.monotonic() - began)
            generator = shop.generator(3)
            model = train_language_model(config, vq, pool, tokenizer, recipe.language_model, generator)
            save_mini(model, tokenizer, folder, shop.max_shard_size)


def contrastive_model(shop: Workshop) -> None:
    """The tiny open_clip model."""
    from .clip import save_clip, train_clip  # open_clip is slow to import

    with _new_output(shop.out / "scenes-clip") as folder:
        if folder:
            recipe = shop.recipe
            model = train_clip(
                recipe.clip_model, shop.painter, shop.tokenizer, recipe.clip, shop.generator(4), recipe.clip_pool
            )
            save_clip(model, recipe.clip_model, shop.tokenizer, folder)


def figures(shop: Workshop) -> None:
    """Every figure of the README, and a sheet of a hundred pictures."""
    with _new_output(shop.out / "figures") as folder:
        if folder:
            table = {
                "detectors": _detector_figures(shop),
                "pairs": _pair_figures(shop),
                "mini": _mini_figures(shop, folder),
            }
            (folder / "figures.json").write_text(json.dumps(table, indent=2) + "\n")
            log.info("%s", json.dumps(table, indent=2))


def _detector_figures(shop: Workshop) -> dict[str, Any]:
    seed, count = shop.recipe.reporting_seed, shop.recipe.fresh_scenes
    reconstruct = partial(tokeniser.reconstruct, shop.vq())
    table: dict[str, Any] = {}
    for name in ("clean-critic", "clean-judge", "scenes-critic", "scenes-judge"):
        detector = shop.detector(name)
        table[name] = {
            "clean": evaluate.detector_figures(detector, shop.painter, count, seed),
            "reconstructed": evaluate.detector_figures(detector, shop.painter, count, seed, reconstruct),
        }
    images, _ = evaluate.true_scenes(shop.painter, count, seed)
    error = (reconstruct(images) - images).square().mean((1, 2, 3))
    table["tokeniser PSNR"] = round((-10 * error.log10()).mean().item(), 2)
    usage = torch.bincount(tokeniser.encode(shop.vq(), images).flatten(), minlength=shop.recipe.vq["num_embeddings"])
    share = usage / usage.sum()
    table["tokeniser perplexity"] = round((-(share * (share + 1e-9).log()).sum()).exp().item(), 1)
    return table


def _pair_figures(shop: Workshop) -> dict[str, Any]:
    import open_clip

    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{shop.out / 'scenes-clip'}", device=shop.device)
    judges = {"critic": shop.detector("scenes-critic"), "judge": shop.detector("scenes-judge")}
    seed, count = shop.recipe.reporting_seed, shop.recipe.fresh_scenes
    common = (shop.painter, judges, model, shop.tokenizer, count, seed)
    reconstruct = partial(tokeniser.reconstruct, shop.vq())
    return {"clean": evaluate.pair_figures(*common), "reconstructed": evaluate.pair_figures(*common, reconstruct)}


def _mini_figures(shop: Workshop, folder: Path) -> dict[str, Any]:
    model, tokenizer, recipe = shop.mini(), shop.tokenizer, shop.recipe
    judges = {"judge": shop.detector("scenes-judge"), "critic": shop.detector("scenes-critic")}
    rows = _geneval_rows(shop)
    prompts = [row["prompt"] for row in rows]
    table: dict[str, Any] = {}
    for setting in _settings_to_compare(DEFAULT_SETTING) if recipe.compare_settings else ():
        images, _ = evaluate.generate(model, tokenizer, prompts, recipe.choosing_seed, setting)
        table[f"choosing seed, {setting}"] = evaluate.geneval_figures(judges, images, rows)
    for number in range(recipe.reported_images):
        images, plans = evaluate.generate(model, tokenizer, prompts, recipe.reporting_seed + number, DEFAULT_SETTING)
        table[f"reporting seed {number}, {DEFAULT_SETTING}"] = evaluate.geneval_figures(judges, images, rows)
        if number == 0:
            shown = torch.randperm(len(rows), generator=torch.Generator().manual_seed(recipe.seed))[:100].tolist()
            evaluate.contact_sheet(images[shown]).save(folder / "sheet.png")
            passed = evaluate.verdicts(judges["judge"], images, rows)
            lines = [f"{index}: {passed[row]!s:5} {prompts[row]} | {plans[row]}" for index, row in enumerate(shown)]
            (folder / "sheet.txt").write_text("\n".join(lines) + "\n")
    return table


def _settings_to_compare(default: Setting) -> list[Setting]:
    """The default, then one thing changed at a time."""
    others = [default._replace(guidance=value) for value in (1.25, 2.0, 3.0)]
    others += [default._replace(temperature=value) for value in (1.0, 0.8, 0.4)]
    others += [default._replace(reasoning_temperature=value) for value in (1.0, 0.7, 0.0)]
    return list(dict.fromkeys([default, *others]))


def _geneval_rows(shop: Workshop) -> list[dict[str, Any]]:
    if shop.geneval_prompts:
        return [json.loads(line) for line in shop.geneval_prompts.read_text().splitlines()]
    generator = shop.generator(5)
    rows: list[dict[str, Any]] = []
    for tag in evaluate.OFFICIAL_TAGS:
        requests = sample_requests(max(1, shop.recipe.fresh_scenes // 48), len(shop.sprites.classes), generator, tag)
        texts = language.prompts(requests, shop.sprites.classes, random.Random(0))
        described = language.metadata(requests, shop.sprites.classes)
        rows += [row | {"prompt": text} for row, text in zip(described, texts, strict=True)]
    return rows


@contextmanager
def _new_output(folder: Path) -> Iterator[Path | None]:
    """A folder to fill, moved to its place when the block ends well; None when it is there already."""
    if folder.exists():
        log.info("%s is there, skipped", folder.name)
        yield None
        return
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    began = time.monotonic()
    yield draft
    draft.replace(folder)
    log.info("%s done in %.1f s", folder.name, time.monotonic() - began)


STAGES: dict[str, Callable[[Workshop], None]] = {
    "detectors": detectors,
    "tokeniser": image_tokeniser,
    "adapted": adapted_detectors,
    "language-model": language_model,
    "clip": contrastive_model,
    "figures": figures,
}

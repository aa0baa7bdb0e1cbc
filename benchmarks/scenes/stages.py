"""The stages of the recipe, in order. Each reads what earlier ones left in a folder and leaves its own there.

    detectors -> tokeniser -> adapted
    sight                  -> language-model -> clip -> detector-figures, model-figures

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
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import JanusConfig, JanusForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.janus.modeling_janus import JanusVQVAE

from milr.decoding import Sampling
from milr.models.base import UnifiedModel
from milr.models.loading import load_from
from milr_rewards.detector import DetectorConfig, SceneDetector

from . import benchmark, calibration, evaluate, language, tokeniser
from .detectors import DETECTOR_COLORS, new_detector, train_detector
from .export import DEFAULT_SAMPLING, save_mini
from .language_model import Sight, build_pool, new_model, text_workers, train_language_model
from .reading import PatchHeads, ReadingPool, build_reading_pool, train_vision
from .reading_figures import own_picture_figures, reading_figures
from .recipe import Recipe
from .sprites import Sprites
from .world import Painter, sample_requests

log = logging.getLogger(__name__)
_SIGHT = ("vision", "aligner", "heads")  # what the stage `sight` trains, and its files


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
            known = {name: value for name, value in _mini_in(self.start).state_dict().items() if "vqmodel" not in name}
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


def detectors(shop: Workshop) -> None:
    """Critic, judge and third on clean scenes; finished ones are taken as they are."""
    for name, recipe in shop.recipe.detectors.items():
        with _new_output(shop.out / f"clean-{name}") as folder:
            if folder and shop.start:
                SceneDetector.load(shop.start / f"scenes-{name}").save(folder)
            elif folder:
                config = DetectorConfig(
                    shop.sprites.classes, DETECTOR_COLORS, width=recipe.width, context=recipe.context
                )
                detector = new_detector(config, shop.device, recipe.seed)
                generator = shop.generator(recipe.seed)
                train_detector(f"clean {name}", detector, shop.painter, recipe.clean, generator, recipe.diet)
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
                _mini_in(shop.start).model.vqmodel if shop.start else None,
            )
            model.save_pretrained(str(folder))


def adapted_detectors(shop: Workshop) -> None:
    """The detectors on pictures from the tokeniser too: the ones that ship."""
    vq = shop.vq()
    for name, recipe in shop.recipe.detectors.items():
        with _new_output(shop.out / f"scenes-{name}") as folder:
            if folder:
                detector = shop.detector(f"clean-{name}")
                generator = shop.generator(recipe.seed + 1)
                train_detector(f"adapted {name}", detector, shop.painter, recipe.adapted, generator, recipe.diet, vq)
                detector.save(folder)


def sight(shop: Workshop) -> None:
    """The vision tower and its aligner, by naming what covers each patch."""
    with _new_output(shop.out / "sight") as folder:
        if folder:
            # The rest of the model, and its tokeniser, are not needed yet.
            whole = _mini_in(shop.start) if shop.start else JanusForConditionalGeneration(shop.config())
            model, heads = whole.to(shop.device).model, shop.new_heads()
            pool = shop.reading_pool(5, reconstruct=None)
            parts = (model.vision_model, model.aligner)
            train_vision(*parts, heads, pool, shop.recipe.sight, shop.generator(6), capture=True)
            for part, name in zip((*parts, heads), _SIGHT, strict=True):
                save_file(part.state_dict(), folder / f"{name}.safetensors")


def language_model(shop: Workshop) -> None:
    """The language part, which writes, draws and reads, and with it the whole of `mini`."""
    with _new_output(shop.out / "mini") as folder:
        if folder:
            recipe, tokenizer = shop.recipe, shop.tokenizer
            model, heads = shop.new_model(), shop.new_heads()
            for part, name in zip((model.model.vision_model, model.model.aligner, heads), _SIGHT, strict=True):
                part.load_state_dict(load_file(shop.out / "sight" / f"{name}.safetensors"))
            vocabulary = model.config.text_config.vocab_size
            began = time.monotonic()
            seen = Sight(shop.reading_pool(7, partial(tokeniser.reconstruct, shop.vq())), heads)
            pool = build_pool(shop.painter, shop.vq(), tokenizer, vocabulary, recipe.pool, shop.generator(2))
            log.info("pools: %.1f s", time.monotonic() - began)
            schedule = recipe.language_model
            train_language_model(model, pool, seen, tokenizer, schedule, recipe.reading_batch, shop.generator(3))
            save_mini(model, tokenizer, folder, shop.max_shard_size)


def contrastive_model(shop: Workshop) -> None:
    """The tiny open_clip model."""
    from .clip import save_clip, train_clip  # open_clip is slow to import

    with _new_output(shop.out / "scenes-clip") as folder:
        if folder:
            recipe = shop.recipe
            model = train_clip(
                recipe.clip_model,
                shop.painter,
                shop.tokenizer,
                recipe.clip,
                shop.generator(4),
                recipe.clip_pool,
                shop.start / "scenes-clip" if shop.start else None,
            )
            save_clip(model, recipe.clip_model, shop.tokenizer, folder)


def detector_figures(shop: Workshop) -> None:
    """What the README says of the tokeniser, the detectors and the contrastive model, and of `mini` as a critic."""
    with _new_output(shop.out / "detector-figures") as folder:
        if folder:
            _write(folder / "detector-figures.json", _detector_figures(shop))


def _detector_figures(shop: Workshop) -> dict[str, Any]:
    painter, seed, count = shop.painter, shop.recipe.reporting_seed, shop.recipe.fresh_scenes
    names = [f"{phase}-{name}" for name in shop.recipe.detectors for phase in ("clean", "scenes")]
    detectors = {name: shop.detector(name) for name in names}
    table: dict[str, Any] = {"tokeniser": _tokeniser_figures(shop), "pairs": _pair_figures(shop)}
    table |= {name: {} for name in names}
    true, rows = evaluate.true_scenes(painter, count, seed)
    for kind, reconstruct in (("rendered", None), ("reconstructed", partial(tokeniser.reconstruct, shop.vq()))):
        shown = reconstruct(true) if reconstruct else true
        whole = calibration.fresh_pictures(painter, count, seed, 0.0, reconstruct)
        broken = calibration.fresh_pictures(painter, count, seed, reconstruct=reconstruct)
        for name, detector in detectors.items():
            table[name][kind] = {
                "rule": evaluate.by_tag(evaluate.verdicts(detector, shown, rows), rows),
                "broken": calibration.broken_figures(detector, painter, *broken),
                "calibration": calibration.calibration_figures(detector, painter, *whole),
            }
    return table


def model_figures(shop: Workshop) -> None:
    """What the README says of `mini`, and a sheet of a hundred pictures."""
    with _new_output(shop.out / "model-figures") as folder:
        if folder:
            _write(folder / "model-figures.json", _mini_figures(shop, folder))


def _write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2) + "\n")
    log.info("%s", json.dumps(table, indent=2))


def _tokeniser_figures(shop: Workshop) -> dict[str, float]:
    vq = shop.vq()
    images, _ = evaluate.true_scenes(shop.painter, shop.recipe.fresh_scenes, shop.recipe.reporting_seed)
    tokens = tokeniser.encode(vq, images)
    error = (tokeniser.decode(vq, tokens) - images).square().mean((1, 2, 3))
    share = torch.bincount(tokens.flatten(), minlength=shop.recipe.vq["num_embeddings"]) / tokens.numel()
    things, ground = tokeniser.steadiness(vq, shop.painter, shop.generator(8))
    return {
        "PSNR": round((-10 * error.log10()).mean().item(), 2),
        "perplexity": round((-(share * (share + 1e-9).log()).sum()).exp().item(), 1),
        "same tokens elsewhere": round(things, 4),
        "ground in the token of its tone": round(ground, 4),
    }


def _pair_figures(shop: Workshop) -> dict[str, Any]:
    import open_clip

    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{shop.out / 'scenes-clip'}", device=shop.device)
    judges = {name: shop.detector(f"scenes-{name}") for name in shop.recipe.detectors}
    seed, count = shop.recipe.reporting_seed, shop.recipe.fresh_scenes
    common = (shop.painter, judges, model, shop.tokenizer, count, seed)
    reconstruct = partial(tokeniser.reconstruct, shop.vq())
    table = partial(evaluate.pair_figures, *common, model=shop.mini())
    return {"clean": table(), "reconstructed": table(reconstruct)}


def _mini_figures(shop: Workshop, folder: Path) -> dict[str, Any]:
    model, recipe = shop.mini(), shop.recipe
    detectors = {name: shop.detector(f"scenes-{name}") for name in recipe.detectors}
    rows = _geneval_rows(shop)
    prompts = [row["prompt"] for row in rows]
    drawn: dict[str, Any] = {}
    for sampling in _samplings_to_compare(DEFAULT_SAMPLING) if recipe.compare_settings else ():
        images, _ = evaluate.generate(model, prompts, recipe.choosing_seed, sampling)
        drawn[f"choosing seed, {_shown(sampling)}"] = evaluate.geneval_figures(detectors, images, rows)
    for number in range(recipe.reported_images):
        images, plans = evaluate.generate(model, prompts, recipe.reporting_seed + number, DEFAULT_SAMPLING)
        drawn[f"reporting seed {number}, {_shown(DEFAULT_SAMPLING)}"] = evaluate.geneval_figures(
            detectors, images, rows
        )
    passed = evaluate.verdicts(detectors["judge"], images, rows)
    shown = torch.randperm(len(rows), generator=torch.Generator().manual_seed(recipe.seed))[:100].tolist()
    evaluate.contact_sheet(images[shown]).save(folder / "sheet.png")
    lines = [f"{index}: {passed[row]!s:5} {prompts[row]} | {plans[row]}" for index, row in enumerate(shown)]
    (folder / "sheet.txt").write_text("\n".join(lines) + "\n")

    harder = benchmark.load()[:: 1 if recipe.compare_settings else 64]
    pictures, _ = evaluate.generate(model, [row["prompt"] for row in harder], recipe.reporting_seed, DEFAULT_SAMPLING)
    read = partial(reading_figures, model, shop.painter, recipe.fresh_scenes, recipe.reporting_seed)
    return {
        "geneval": drawn,
        "agreement": calibration.agreement(detectors, images, rows),
        "scenes": evaluate.geneval_figures(detectors, pictures, harder),
        "reading": {
            "rendered": read(),
            "reconstructed": read(partial(tokeniser.reconstruct, shop.vq())),
            "own pictures": own_picture_figures(model, images, rows, passed),
        },
    }


def _samplings_to_compare(default: Sampling) -> list[Sampling]:
    """The default, then one thing changed at a time."""
    others = [replace(default, guidance=value) for value in (1.0, 1.5, 2.0, 3.0, 5.0)]
    others += [replace(default, temperature=value) for value in (0.6, 0.8, 1.0)]
    others += [replace(default, reasoning_temperature=value) for value in (0.0, 0.7, 1.0)]
    return [default, *others]


def _shown(sampling: Sampling) -> str:
    return (
        f"guidance {sampling.guidance}, temperature {sampling.temperature}, "
        f"reasoning temperature {sampling.reasoning_temperature}"
    )


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


def _mini_in(folder: Path) -> JanusForConditionalGeneration:
    """The `mini` of a folder of finished models, to train on from."""
    return JanusForConditionalGeneration.from_pretrained(folder / "mini", dtype=torch.float32)


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
    "sight": sight,
    "tokeniser": image_tokeniser,
    "adapted": adapted_detectors,
    "language-model": language_model,
    "clip": contrastive_model,
    "detector-figures": detector_figures,
    "model-figures": model_figures,
}

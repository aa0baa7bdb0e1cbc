"""The stages of the recipe, in order. Each reads what earlier ones left in a folder and leaves its own there.

    detectors -> tokeniser -> adapted
    sight                  -> language-model -> clip -> detector-figures, model-figures

A stage whose output is there is skipped, so a run that was cut off goes on where it stopped. Outputs appear under their
final name only when they are complete.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import JanusForConditionalGeneration

from milr_rewards.networks.scene_detector import DetectorConfig, SceneDetector

from . import figures, tokeniser
from .detectors import DETECTOR_COLORS, new_detector, train_detector
from .export import save_mini
from .language_model import Sight, build_pool, train_language_model
from .reading import train_vision
from .workshop import Workshop, mini_in

log = logging.getLogger(__name__)
FINISHED = ("mini", "scenes-critic", "scenes-judge", "scenes-third", "scenes-clip")  # what ships
_SIGHT = ("vision", "aligner", "heads")  # what the stage `sight` trains, and its files


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
                mini_in(shop.start).model.vqmodel if shop.start else None,
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
            whole = mini_in(shop.start) if shop.start else JanusForConditionalGeneration(shop.config())
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
            _write(folder / "detector-figures.json", figures.detector_figures(shop))


def model_figures(shop: Workshop) -> None:
    """What the README says of `mini`, and a sheet of a hundred pictures."""
    with _new_output(shop.out / "model-figures") as folder:
        if folder:
            _write(folder / "model-figures.json", figures.mini_figures(shop, folder))


def _write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2) + "\n")
    log.info("%s", json.dumps(table, indent=2))


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

"""Every figure of the README that the recipe itself can make: of tokeniser, detectors, critics and `mini`."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from milr.decoding import Sampling

from . import benchmark, calibration, evaluate, language, tokeniser
from .export import DEFAULT_SAMPLING
from .reading_figures import own_picture_figures, reading_figures
from .workshop import Workshop
from .world import sample_requests


def detector_figures(shop: Workshop) -> dict[str, Any]:
    """Of the tokeniser, of every critic on true and nearly true captions, and of the detectors, plain and adapted."""
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


def mini_figures(shop: Workshop, folder: Path) -> dict[str, Any]:
    """Of `mini` on GenEval and `scenes`, and as a reader; writes a sheet of a hundred pictures into `folder`."""
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
        "agreement": calibration.agreement(detectors, pictures, harder),
        "scenes": evaluate.geneval_figures(detectors, pictures, harder),
        "reading": {
            "rendered": read(),
            "reconstructed": read(partial(tokeniser.reconstruct, shop.vq())),
            "own pictures": own_picture_figures(
                model, pictures, harder, evaluate.verdicts(detectors["judge"], pictures, harder)
            ),
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

"""Train every model that ships with the package: `python -m milr_benchmarks.scenes all --out DIR --device cuda`."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import torch

from .recipe import CONTINUED, FULL, TOY, shortened
from .sprites import FontMissingError, drawn_sprites, load_sprites
from .stages import FINISHED, STAGES
from .workshop import Workshop


@click.command()
@click.argument("stages", nargs=-1, required=True, type=click.Choice([*STAGES, "all"]))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where results go.")
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--font", type=click.Path(dir_okay=False, path_type=Path), help="A NotoColorEmoji.ttf.")
@click.option("--toy", is_flag=True, help="A tiny world and tiny models: all stages in half a minute on a CPU.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Share of the steps to take.")
@click.option(
    "--geneval-prompts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="GenEval's evaluation_metadata.jsonl, for the figures.",
)
@click.option(
    "--start-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Train on from the finished models in this folder (mini, scenes-critic, ...), in half of the time.",
)
@click.option("--max-shard-size", default="50MB", show_default=True, help="Split the model's weights above this.")
def main(
    stages: tuple[str, ...],
    out: Path,
    device: str,
    font: Path | None,
    toy: bool,
    share: float,
    geneval_prompts: Path | None,
    start_from: Path | None,
    max_shard_size: str,
) -> None:
    """Run STAGES of the recipe in their order; finished ones are skipped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    missing = [name for name in FINISHED if start_from and not (start_from / name).is_dir()]
    if missing:
        raise click.BadParameter(f"{str(start_from)!r} has no {', '.join(missing)}.", param_hint="--start-from")
    try:
        sprites = drawn_sprites() if toy else load_sprites(font)
    except FontMissingError as error:
        raise click.ClickException(str(error)) from error
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    recipe = TOY if toy else shortened(CONTINUED if start_from else FULL, share)
    shop = Workshop(out, recipe, sprites, torch.device(device), geneval_prompts, max_shard_size, start_from)
    for name, stage in STAGES.items():
        if name in stages or "all" in stages:
            stage(shop)


if __name__ == "__main__":
    main()

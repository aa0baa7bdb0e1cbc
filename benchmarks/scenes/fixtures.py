"""Pictures with true and false captions for tests: `python -m milr_benchmarks.scenes.fixtures --out tests/data/scenes`.

Rendered, not generated, so what they show is known; small enough to be kept in the repository, so that tests of critics
need no font. Half of the captions have one thing wrong. Each line of `metadata.jsonl` is GenEval's form plus `file`,
`correct` and, for false captions, `wrong`: class, color, count or place.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import click
import torch

from . import language
from .corruptions import KINDS, corrupt
from .evaluate import OFFICIAL_TAGS, to_picture
from .layout import lay_out
from .sprites import load_sprites
from .world import Painter, sample_requests

_PER_TAG = 6
_SEED = 61


def write_fixtures(painter: Painter, folder: Path) -> None:
    """Six pictures per official tag and four coloured counts, every second one with a false caption."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(_SEED)
    rng = random.Random(_SEED)
    classes = len(painter.classes)
    lines = []
    for tag in (*OFFICIAL_TAGS, "colored_count"):
        count = _PER_TAG if tag in OFFICIAL_TAGS else 4
        requests = sample_requests(count, classes, generator, tag)
        requests.count.clamp_(max=4)
        images = painter.render(lay_out(requests, generator, rounds=4))
        wrong, kinds = corrupt(requests, classes, generator)
        for row, (image, kind) in enumerate(zip(images, kinds.tolist(), strict=True)):
            correct = row % 2 == 0
            said = (requests if correct else wrong)[slice(row, row + 1)]
            file = f"{tag}-{row}.png"
            to_picture(image).save(folder / file, optimize=True)
            line = {"file": file, "prompt": language.prompts(said, painter.classes, rng)[0], "correct": correct}
            fault = {} if correct else {"wrong": KINDS[kind]}
            lines.append(line | fault | language.metadata(said, painter.classes)[0])
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--font", type=click.Path(dir_okay=False, path_type=Path), help="A NotoColorEmoji.ttf.")
def main(out: Path, font: Path | None) -> None:
    """Write the fixture pictures."""
    write_fixtures(Painter(load_sprites(font), "cpu"), out)


if __name__ == "__main__":
    main()

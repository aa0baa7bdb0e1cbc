"""A third party's package in a folder: a critic that needs no weights, found through entry points like any other."""

from __future__ import annotations

from pathlib import Path

BRIGHTNESS = '''
import numpy as np
from milr.rewards import Reward, Score


class Brightness(Reward):
    """Mean brightness of a picture."""

    name, version, range = "brightness", "1", (0.0, 1.0)

    def __init__(self, *, facts=None, device="cpu", scale: float = 1.0):
        self.scale = scale

    def score(self, images, prompts):
        means = [float(np.asarray(image).mean()) / 255 for image in images]
        return [Score(self.scale * mean, reason=f"brightness {mean:.2f}") for mean in means]


class Picky(Brightness):
    """Needs metadata that a plain prompt has not."""

    name, needs = "picky", frozenset({"include"})


class Unready(Brightness):
    """Cannot be made."""

    def __init__(self, *, facts=None, device="cpu"):
        raise RuntimeError("not today")


class Broken(Brightness):
    """Raises over every picture."""

    name = "broken"

    def score(self, images, prompts):
        raise ValueError("the critic is out")
'''

ENTRY_POINTS = """[milr.rewards]
brightness = brightness:Brightness
picky = brightness:Picky
broken = brightness:Broken
unready = brightness:Unready
missing-module = no_such_module:Critic
"""


def write_plugin(folder: Path) -> Path:
    """Writes the package; it is installed wherever the folder is on Python's path."""
    information = folder / "brightness-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / "brightness.py").write_text(BRIGHTNESS)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder

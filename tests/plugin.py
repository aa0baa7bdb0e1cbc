"""A third party's package in a folder: critics without weights and a benchmark, found through entry points as any."""

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


class Redness(Reward):
    """Mean of the red channel."""

    name, version, range, channel = "redness", "1", (0.0, 1.0), 0

    def __init__(self, *, facts=None, device="cpu", power: float = 1.0):
        self.power = power

    def score(self, images, prompts):
        means = [float(np.asarray(image)[..., self.channel].mean()) / 255 for image in images]
        return [Score(mean**self.power) for mean in means]


class Greenness(Redness):
    """Mean of the green channel."""

    name, channel = "greenness", 1


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

SHADES = '''
from pathlib import PurePosixPath
from milr.evaluation.contract import Benchmark, Role, Roles
from milr.prompts import Prompt

TEXTS = {"fruit": ("a red apple", "a green apple", "two apples"), "beast": ("a dog", "a blue cat", "two cats")}


class Shades(Benchmark):
    """Six prompts of two kinds, judged by their red."""

    name, description, licence = "shades", "six prompts of two kinds", "none"
    categories, images_per_prompt = ("fruit", "beast"), 2

    def load(self, path=None, categories=()):
        return [
            Prompt(text, f"{tag}-{number}", {"tag": tag})
            for tag in categories or self.categories
            for number, text in enumerate(TEXTS[tag])
        ]

    def image_path(self, prompt, image_index, images):
        return PurePosixPath(prompt.id, f"{image_index}.png")

    def other_files(self, images):
        return {PurePosixPath("prompts.txt"): "\\n".join(prompt.text for prompt, _ in images).encode()}

    def roles(self, facts):
        return Roles(Role("redness"), Role("brightness"), Role("greenness"))
'''

ENTRY_POINTS = """[milr.benchmarks]
shades = shades:Shades
[milr.rewards]
brightness = brightness:Brightness
redness = brightness:Redness
greenness = brightness:Greenness
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
    (folder / "shades.py").write_text(SHADES)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder

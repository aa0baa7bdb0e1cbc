"""What the world of scenes is made of, and its words: 80 things, ten colours, counts, places and relations.

Names, colours and relations are GenEval's, so that its 553 prompts are prompts of this world. Pure data and grammar:
nothing here imports torch. The critics read the same words, in `milr_rewards.language.vocabulary`.
"""

from __future__ import annotations

from milr_rewards.language import vocabulary
from milr_rewards.language.vocabulary import CLASSES, plural, with_article

__all__ = [
    "CLASSES",
    "COLORS",
    "MAX_OBJECTS",
    "NUMBERS",
    "PLACES",
    "RELATIONS",
    "geneval_plural",
    "plural",
    "with_article",
]

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.10, 0.12),
    "orange": (1.00, 0.52, 0.05),
    "yellow": (0.99, 0.87, 0.10),
    "green": (0.15, 0.66, 0.22),
    "blue": (0.13, 0.36, 0.90),
    "purple": (0.53, 0.18, 0.72),
    "pink": (1.00, 0.52, 0.74),
    "brown": (0.48, 0.28, 0.13),
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
}

MAX_OBJECTS = 5
NUMBERS: tuple[str, ...] = vocabulary.NUMBERS[: MAX_OBJECTS + 1]

# Row by row on a 3 x 3 grid; a place is the cell that holds the centre of an object.
PLACES: tuple[str, ...] = (
    "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip

# Index 0 means that nothing is said about where things are.
RELATIONS: tuple[str, ...] = ("", *vocabulary.RELATIONS)


def geneval_plural(noun: str) -> str:
    """The plural that GenEval's prompts use: "two benchs", "four knifes"."""
    return noun + ("es" if noun.endswith("s") else "s")

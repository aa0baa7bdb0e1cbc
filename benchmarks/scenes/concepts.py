"""What the world of scenes is made of, and its words: 80 things, ten colours, counts, places and relations.

Names, colours and relations are GenEval's, so that its 553 prompts are prompts of this world. Pure data and grammar:
nothing here imports torch. A new kind of thing, word or relation is added here first.
"""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote",
    "computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock",
    "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

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

NUMBERS: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five")
MAX_OBJECTS = 5

# Row by row on a 3 x 3 grid; a place is the cell that holds the centre of an object.
PLACES: tuple[str, ...] = (
    "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip

# Index 0 means that nothing is said about where things are.
RELATIONS: tuple[str, ...] = ("", "left of", "right of", "above", "below")

_IRREGULAR_PLURALS = {
    "person": "people",
    "sheep": "sheep",
    "skis": "skis",
    "scissors": "scissors",
    "knife": "knives",
    "broccoli": "broccoli",
    "computer mouse": "computer mice",
}


def with_article(noun: str) -> str:
    """`apple` -> `an apple`. GenEval says "a skis" too, so every noun takes an article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural that a dictionary gives."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    return noun + ("es" if noun.endswith(("s", "sh", "ch")) else "s")


def geneval_plural(noun: str) -> str:
    """The plural that GenEval's prompts use: "two benchs", "four knifes"."""
    return noun + ("es" if noun.endswith("s") else "s")

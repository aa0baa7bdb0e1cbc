"""The words of GenEval: its 80 classes, ten colours, numbers and four relations, and how English counts them.

`SYNONYMS` are other names that people use, each for one class only: none is here that may mean something else ("bat").
Names are the official ones (`computer mouse`, not COCO's `mouse`). Knows nothing about sentences or pictures.
"""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote"),
    *("computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book"),
    *("clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)

# In the order of the official colour classifier: where two are equally likely, the first one is named.
COLORS: tuple[str, ...] = (*("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),)

NUMBERS: tuple[str, ...] = (*("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),)

RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")

SYNONYMS: dict[str, str] = {
    "bike": "bicycle", "automobile": "car", "motorbike": "motorcycle", "plane": "airplane", "aeroplane": "airplane",
    "lorry": "truck", "ship": "boat", "stoplight": "traffic light", "hydrant": "fire hydrant", "rucksack": "backpack",
    "purse": "handbag", "necktie": "tie", "ball": "sports ball", "soccer ball": "sports ball",
    "baseball mitt": "baseball glove", "racket": "tennis racket", "mug": "cup", "wineglass": "wine glass",
    "hotdog": "hot dog", "doughnut": "donut", "sofa": "couch", "houseplant": "potted plant", "plant": "potted plant",
    "table": "dining table", "television": "tv", "tv set": "tv", "mouse": "computer mouse", "remote": "tv remote",
    "remote control": "tv remote", "keyboard": "computer keyboard", "phone": "cell phone", "cellphone": "cell phone",
    "mobile phone": "cell phone", "smartphone": "cell phone", "fridge": "refrigerator", "microwave oven": "microwave",
    "teddy": "teddy bear", "hair dryer": "hair drier", "hairdryer": "hair drier",
}  # fmt: skip

# Last word of a class -> its plural, where adding "s" or "es" would be wrong.
_IRREGULAR = {
    "broccoli": "broccoli",
    "knife": "knives",
    "lorry": "lorries",
    "mouse": "mice",
    "person": "people",
    "scissors": "scissors",
    "sheep": "sheep",
    "skis": "skis",
    "teddy": "teddies",
}


def plural(name: str) -> str:
    """'knives' of 'knife', 'computer mice' of 'computer mouse', 'skis' of 'skis'."""
    *first, last = name.split(" ")
    ending = "es" if last.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return " ".join([*first, _IRREGULAR.get(last, last + ending)])


def plural_forms(name: str) -> set[str]:
    """Every plural a prompt may use: the right one, and the bare endings of GenEval's prompts ("four knifes")."""
    return {plural(name), f"{name}s"} | ({f"{name}es"} if name.endswith("s") else set())


def counted(count: int, name: str) -> str:
    """'2 cats', '1 cat', 'no cat'."""
    if count == 0:
        return f"no {name}"
    return f"{count} {name if count == 1 else plural(name)}"


def with_article(phrase: str) -> str:
    """'an orange car', 'a red apple'; GenEval says 'a skis' too."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"

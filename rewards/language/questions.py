"""Yes / no questions about a picture, in words: one wording for the critic `self` and for the training of `mini`.

Every kind of question has several wordings; the first is the one that critics ask. Pure text: knows nothing of models.

    things("dog")                     is there a dog?
    things("apple", "red", 2)         are there two red apples?
    colored("dog", "red")             is the dog red?
    related("dog", "left of", "cup")  is the dog left of the cup?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .vocabulary import NUMBERS, plural, with_article

MOST = len(NUMBERS) - 1  # the greatest number that has a word
_SINGLE = ("is there {}?", "does the picture show {}?", "can you see {}?", "is there {} in the picture?")
_SEVERAL = ("are there {}?", "does the picture show {}?", "can you see {}?", "are there {} in the picture?")
_COLORED = ("{be} the {things} {color}?", "does the {things} have the color {color}?")
_RELATED = ("{be} the {things} {relation} {target}?", "{be} the {things} {to}{relation} {target}?")


@dataclass(frozen=True)
class Question:
    """A question and the answer that a picture as asked for would get."""

    text: str
    wanted: bool = True


def things(name: str, color: str | None = None, count: int | None = None, wording: int = 0, many: str = "") -> str:
    """Whether a thing is there, or exactly `count` of it.

    Args:
        many: the plural to use; nothing means the right one.
    """
    paint = f"{color} " if color else ""
    if count is None:
        return _SINGLE[wording].format(with_article(paint + name))
    if count == 1:
        return _SINGLE[wording].format(f"one {paint}{name}")
    return _SEVERAL[wording].format(f"{NUMBERS[count]} {paint}{many or plural(name)}")


def colored(name: str, color: str, count: int = 1, wording: int = 0) -> str:
    """Whether the thing, or each of several, has a colour."""
    template = _COLORED[wording % len(_COLORED)] if count == 1 else _COLORED[0]
    return template.format(be=_be(count), things=_named(name, count), color=color)


def related(name: str, relation: str, target: str, counts: tuple[int, int] = (1, 1), wording: int = 0) -> str:
    """Whether every thing of one class stands in relation to every thing of another."""
    to = "to the " if relation.endswith(" of") else ""
    return _RELATED[wording % len(_RELATED)].format(
        be=_be(counts[0]),
        things=_named(name, counts[0]),
        to=to,
        relation=relation,
        target=f"the {_named(target, counts[1])}",
    )


def questions_of(metadata: Mapping[str, Any]) -> list[Question]:
    """One question per clause of GenEval's metadata, each once; a number is asked for where more are excluded.

    Where more than the number would do, every smaller number is asked for and must be wrong.
    """
    include, exclude = metadata["include"], metadata.get("exclude", [])
    first_excluded = {clause["class"]: clause["count"] for clause in reversed(exclude)}
    asked: list[Question] = []
    for clause in include:
        name, count, color = clause["class"], clause["count"], clause.get("color")
        exact = first_excluded.get(name) == count + 1
        if exact:
            asked.append(Question(things(name, None, count)))
        else:
            asked.append(Question(things(name)))
            asked += [Question(things(name, None, fewer), wanted=False) for fewer in range(1, count)]
        if color:
            asked.append(Question(things(name, color, count if exact and count > 1 else None)))
        if "position" in clause:
            relation, index = clause["position"]
            target = include[index]
            asked.append(Question(related(name, relation, target["class"], (count, target["count"]))))
    included = {clause["class"]: clause["count"] for clause in include}
    for clause in exclude:
        name, count = clause["class"], clause["count"]
        if count == 1:
            asked.append(Question(things(name), wanted=False))
        elif included.get(name) != count - 1:
            asked.append(Question(things(name, None, min(count, MOST)), wanted=False))
    return list(dict.fromkeys(asked))


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _named(name: str, count: int) -> str:
    return name if count == 1 else plural(name)

"""From a sentence in the manner of GenEval to GenEval's metadata: what must be in the picture.

    a photo of three red apples to the left of a dog
    {"tag": "counted_position",
     "include": [{"class": "dog", "count": 1},
                 {"class": "apple", "count": 3, "color": "red", "position": ["left of", 0]}],
     "exclude": [{"class": "apple", "count": 4}]}

A sentence is a list of things joined by commas and "and"; a thing is a number or an article, a colour and a class,
perhaps followed by a relation to another thing. A number is exact: one more is excluded, as in GenEval's counting
prompts. For GenEval's own prompts the result is the official metadata. Forms that GenEval does not have get tags of
their own: `colored_count`, `colored_position`, `counted_position`, `three_objects`.

Words that GenEval's rule cannot check ("a shiny apple", "a unicorn and a dog") are left out and handed back by name, so
that the rest can still be checked. A sentence whose sense would be lost that way ("a dog without a tie", "a dog on a
couch") is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milr.errors import PromptError

from .vocabulary import CLASSES, COLORS, NUMBERS, plural_forms

_OPENING = re.compile(r"^(?:(?:a|an|the) )?(?:photo|photograph|picture|image) of ")
_RELATION = re.compile(r" (?:(?:is|are) )?(?:(?:(?:to|on) the )?(left|right) of|(above|below)) ")
_AND = re.compile(r",? and |, ")
_ARTICLES = frozenset({"a", "an", "the", "some"})
_COUNTS = {word: count for count, word in enumerate(NUMBERS) if count} | {str(count): count for count in range(1, 11)}
_OTHER_NAMES = {
    "mouse": "computer mouse",
    "keyboard": "computer keyboard",
    "remote": "tv remote",
    "hair dryer": "hair drier",
    "doughnut": "donut",
}
# Words that change what the words around them mean; a phrase with one of them is not understood.
_BINDING = _ARTICLES | {
    *("at", "behind", "beneath", "beside", "between", "by", "from", "full", "has", "have", "holding", "in", "inside"),
    *(
        "is",
        "are",
        "near",
        "next",
        "no",
        "not",
        "of",
        "off",
        "on",
        "onto",
        "or",
        "over",
        "that",
        "to",
        "under",
        "which",
    ),
    *("with", "without", "zero", "eleven", "twelve", "dozen", "few", "many", "several"),
}


@dataclass(frozen=True)
class Requirements:
    """What a picture must show.

    Attributes:
        metadata: `tag`, `include` and perhaps `exclude`.
        unchecked: words and things that the rule cannot check, as they stand in the prompt.
    """

    metadata: dict[str, Any]
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Thing:
    """`name` is None for a thing that is no class of GenEval; `exact` when a number was said."""

    name: str | None
    count: int = 1
    exact: bool = False
    color: str | None = None
    unchecked: tuple[str, ...] = ()
    position: tuple[str, _Thing] | None = None


def parse(text: str) -> Requirements:
    """What must be in a picture of this sentence.

    Raises:
        PromptError: the sentence has another form, names nothing that can be checked, or names a class twice.
    """
    body = " ".join(re.findall(r"[^\s,.;!?\"]+|,", text.lower())).replace(" ,", ",").strip(" ,")
    body = _OPENING.sub("", body)
    try:
        return _requirements([_related(part) for part in _AND.split(body)])
    except _NotUnderstoodError as problem:
        raise PromptError(
            f"cannot tell what must be in {text!r}: {problem}; expected a sentence such as 'a photo of two red apples "
            "left of a dog', or the prompt as a JSON line with metadata, such as "
            '{"prompt": "...", "include": [{"class": "dog", "count": 1}]}.'
        ) from None


class _NotUnderstoodError(Exception):
    """Why a sentence, or a part of it, cannot be read."""


def _requirements(things: Sequence[_Thing]) -> Requirements:
    include: list[dict[str, Any]] = []
    for thing in things:
        _include(thing, include)
    if not include:
        raise _NotUnderstoodError("it names none of GenEval's 80 classes")
    named = [thing for thing in _flat(things) if thing.name]
    exclude = [{"class": thing.name, "count": thing.count + 1} for thing in named if thing.exact]
    metadata: dict[str, Any] = {"tag": _tag(include, counted=bool(exclude)), "include": include}
    if exclude:
        metadata["exclude"] = exclude
    return Requirements(metadata, tuple(word for thing in _flat(things) for word in thing.unchecked))


def _include(thing: _Thing, include: list[dict[str, Any]]) -> int | None:
    """Append the clauses of a thing, those it relates to first, as GenEval has them; the index of its own."""
    relation, target = thing.position or ("", None)
    index = _include(target, include) if target else None
    if thing.name is None:
        return None
    if any(clause["class"] == thing.name for clause in include):
        raise _NotUnderstoodError(f"it names {thing.name!r} twice, which GenEval's rule cannot tell apart")
    clause: dict[str, Any] = {"class": thing.name, "count": thing.count}
    if thing.color:
        clause["color"] = thing.color
    if index is not None:
        clause["position"] = [relation, index]
    include.append(clause)
    return len(include) - 1


def _tag(include: Sequence[Mapping[str, Any]], counted: bool) -> str:
    colored = any("color" in clause for clause in include)
    if any("position" in clause for clause in include):
        return "counted_position" if counted else "colored_position" if colored else "position"
    if len(include) == 1:
        if counted:
            return "colored_count" if colored else "counting"
        return "colors" if colored else "single_object"
    if len(include) == 2:
        return "color_attr" if colored else "two_object"
    return f"{NUMBERS[len(include)] if len(include) < len(NUMBERS) else 'many'}_objects"


def _flat(things: Sequence[_Thing]) -> list[_Thing]:
    """Things in the order of the sentence, with those they relate to."""
    return [one for thing in things for one in (thing, *(_flat([thing.position[1]]) if thing.position else ()))]


def _related(part: str) -> _Thing:
    """'a cow left of a dog' or a single thing; a chain relates each thing to the next."""
    match = _RELATION.search(part)
    if match is None:
        return _thing(part)
    relation = f"{match[1]} of" if match[1] else match[2]
    thing, target = _thing(part[: match.start()]), _related(part[match.end() :])
    return _Thing(thing.name, thing.count, thing.exact, thing.color, thing.unchecked, (relation, target))


def _thing(phrase: str) -> _Thing:
    words = phrase.split()
    if words and words[0] in _ARTICLES:
        words = words[1:]
    count = _COUNTS.get(words[0]) if words else None
    if count:
        words = words[1:]
    length, name, many = _class_at_end(words)
    before = words[: len(words) - length]
    strange = [word for word in before if word not in COLORS]
    for word in before:
        if word in _BINDING or word[0].isdigit() or (word in _FORMS and word not in COLORS):
            raise _NotUnderstoodError(f"{phrase!r} is not a number, a colour and one of GenEval's 80 classes")
    if name is None:
        if not strange:
            raise _NotUnderstoodError(f"{phrase!r} is not a thing" if phrase else "a thing is missing")
        return _Thing(None, unchecked=(" ".join(before),))
    colors = [word for word in before if word in COLORS]
    if len(colors) > 1:
        raise _NotUnderstoodError(f"{phrase!r} has two colours")
    return _Thing(name, count or (2 if many else 1), bool(count), next(iter(colors), None), tuple(strange))


def _class_at_end(words: Sequence[str]) -> tuple[int, str | None, bool]:
    """How many of the last words name a class, which one, and whether they can only mean several; longest first."""
    for length in (2, 1):
        if len(words) >= length and (form := " ".join(words[-length:])) in _FORMS:
            name = _FORMS[form]
            return length, name, form not in (name, *_OTHER_NAMES)
    return 0, None, False


def _forms() -> dict[str, str]:
    names = {name: name for name in CLASSES} | _OTHER_NAMES
    return {form: name for word, name in names.items() for form in plural_forms(word)} | names


_FORMS = _forms()

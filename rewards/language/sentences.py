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

The order of words is free where the sense stays:

    left of a dog, a red apple              a dog with a red apple to its left        a dog and, left of it, an apple
    under the cat is a dog                  three apples, all red                     apples, three of them, red
    a dog left of a cat, which is above a bird

"over" and "on top of" mean above, "under" and "beneath" below; other names of a class (`SYNONYMS`) and descriptions
of it (`knowledge`: "the animal that gives us wool") mean the class.

Words that GenEval's rule cannot check ("a shiny apple", "a unicorn and a dog") are left out and handed back by name, so
that the rest can still be checked. A sentence whose sense would be lost that way ("a dog without a tie", "a dog on a
couch") is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from milr.errors import PromptError

from . import knowledge
from .vocabulary import CLASSES, COLORS, NUMBERS, SYNONYMS, plural_forms

_ARTICLES = frozenset({"a", "an", "the", "some"})
_COUNTS = {word: count for count, word in enumerate(NUMBERS) if count} | {str(count): count for count in range(1, 11)}
_OPENING = re.compile(
    r"^(?:please )?(?:(?:show|draw|paint)(?: me)? )?"
    r"(?:(?:(?:a|an|the) )?(?:photo|photograph|picture|image|drawing) (?:of|with|where|in which) )?"
    r"(?:there (?:is|are) )?"
)
# What is said of places, in GenEval's words. A side "of it" is one of the thing that was named before.
_PLAIN_WORDS = (
    (re.compile(r"\b(?:to|on) (?:its|their) (left|right)\b"), r"\1 of it"),
    (re.compile(r"\b(?:to|on) the (left|right) of\b"), r"\1 of"),
    (re.compile(r"\b(left of|right of|above|over|on top of|below|under|beneath|underneath) them\b"), r"\1 it"),
    (re.compile(r"\b(?:over|on top of)\b"), "above"),
    (re.compile(r"\b(?:under|beneath|underneath)\b"), "below"),
)
_SIDE = "(left of|right of|above|below)"
_COLOR = f"({'|'.join(COLORS)})"
_RELATION = re.compile(rf" (?:(?:that|which) )?(?:(?:is|are) )?{_SIDE} ")
# "left of it", "left of it a cat"
_OF_IT = re.compile(rf"^{_SIDE} it(?: (?:there )?(?:is|are))?(?: (.+))?$")
# "left of a dog", "left of a dog is a cat"
_FRONTED = re.compile(rf"^{_SIDE} (.+?)(?: (?:there )?(?<!that )(?<!which )(?:is|are) (.+))?$")
_CLAUSE = re.compile(rf"^(?:that|which) (?:is|are) (?:{_SIDE} (.+)|{_COLOR})$")  # "which is above a bird"
_ALL = re.compile(rf"^(?:both|all)(?: of them)? {_COLOR}$")
_OF_THEM = re.compile(rf"^({'|'.join(_COUNTS)}) of them$")
_PAINTED = re.compile(rf"^(.+) (?:that|which) (?:is|are) {_COLOR}$")
# "a dog with a cat left of it" is a dog and a cat left of it; other uses of "with" are not understood.
_AND = re.compile(r",? and,? |, | with (?=(?:(?! and )[^,])* (?:left of|right of|above|below) it\b)")
# Words that change what the words around them mean; a phrase with one of them is not understood.
_BINDING = _ARTICLES | {
    *("all", "are", "at", "behind", "beneath", "beside", "between", "both", "by", "from", "full", "has", "have"),
    *("holding", "in", "inside", "is", "it", "near", "next", "no", "not", "of", "off", "on", "onto", "or", "over"),
    *("that", "them", "there", "to", "under", "which", "with", "without", "zero", "eleven", "twelve", "dozen", "few"),
    *("many", "several"),
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
    body = knowledge.named(_OPENING.sub("", body))
    for pattern, plain in _PLAIN_WORDS:
        body = pattern.sub(plain, body)
    try:
        return _requirements(_things(_AND.split(body)))
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


def _things(parts: Sequence[str]) -> list[_Thing]:
    """The things of a list, where a part may also say more of the thing before it, or where the next one is."""
    things: list[_Thing] = []
    waiting: tuple[str, _Thing] | None = None  # the place of the next thing
    after_count = False
    for part in parts:
        counted, after_count = after_count, False
        if waiting is None and (fronted := _fronted(part, things)):
            waiting, part = fronted
        if waiting:
            if part:
                things.append(_placed(_related(part), *waiting))
                waiting = None
        elif match := _CLAUSE.match(part):
            last = _last(things)
            things.append(_deepest(last, match[1], _related(match[2])) if match[1] else _colored(last, match[3]))
        elif match := _ALL.match(part):
            things.append(_colored(_plain(things), match[1]))
        elif match := _OF_THEM.match(part):
            things.append(replace(_plain(things), count=_COUNTS[match[1]], exact=True))
            after_count = True
        elif counted and part in COLORS:  # after "three of them", "orange" is no fruit
            things.append(_colored(_plain(things), part))
        else:
            things.append(_related(part, things))
    if waiting:  # "a dog, left of a cat"
        if not things:
            raise _NotUnderstoodError(f"nothing is said to be {waiting[0]} it")
        things.append(_placed(_plain(things), *waiting))
    return things


def _fronted(part: str, things: list[_Thing]) -> tuple[tuple[str, _Thing], str] | None:
    """The place that a part begins with, and what it says is there: 'left of a dog' is a place without a thing."""
    if match := _OF_IT.match(part):
        return (match[1], _plain(things)), match[2] or ""
    if match := _FRONTED.match(part):
        return (match[1], _related(match[2])), match[3] or ""
    return None


def _last(things: list[_Thing]) -> _Thing:
    """Take the thing that was named before."""
    if not things:
        raise _NotUnderstoodError("it says more of a thing that it has not named")
    return things.pop()


def _plain(things: list[_Thing]) -> _Thing:
    """Take the thing before, which "it" can only mean if it is not related to another one."""
    thing = _last(things)
    if thing.position:
        raise _NotUnderstoodError("it does not say which of two things is meant")
    return thing


def _placed(thing: _Thing, relation: str, target: _Thing) -> _Thing:
    if thing.position:
        raise _NotUnderstoodError("it relates a thing to two others, which GenEval's rule cannot check")
    return replace(thing, position=(relation, target))


def _deepest(thing: _Thing, relation: str, target: _Thing) -> _Thing:
    """Relate the last thing of a chain to one more."""
    if thing.position:
        return replace(thing, position=(thing.position[0], _deepest(thing.position[1], relation, target)))
    return replace(thing, position=(relation, target))


def _colored(thing: _Thing, color: str) -> _Thing:
    if thing.color:
        raise _NotUnderstoodError("a thing has two colours")
    return replace(thing, color=color)


def _related(part: str, before: list[_Thing] | None = None) -> _Thing:
    """'a cow left of a dog' or a single thing; a chain relates each thing to the next, "it" is the one before."""
    match = _RELATION.search(part)
    if match is None:
        return _thing(part)
    thing, rest = _thing(part[: match.start()]), part[match.end() :]
    target = _plain(before) if rest == "it" and before else _related(rest)
    return _placed(thing, match[1], target)


def _thing(phrase: str) -> _Thing:
    if match := _PAINTED.match(phrase):
        return _colored(_thing(match[1]), match[2])
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
            return length, name, form not in (name, *SYNONYMS)
    return 0, None, False


def _forms() -> dict[str, str]:
    names = {name: name for name in CLASSES} | SYNONYMS
    return {form: name for word, name in names.items() for form in plural_forms(word)} | names


_FORMS = _forms()

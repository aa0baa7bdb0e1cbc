"""What a prompt's picture must show, by GenEval's rule: the prompt's own metadata, checked, or its sentence, parsed.

What passes here can be graded: `geneval_rule` trusts it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from milr.errors import PromptError
from milr.prompts import Prompt

from .sentences import Requirements, parse
from .vocabulary import CLASSES, COLORS, RELATIONS


def requirements_of(
    prompt: Prompt, classes: Collection[str] | None = CLASSES, colors: Collection[str] | None = COLORS
) -> Requirements:
    """What the picture must show, and the words that will go unchecked.

    Args:
        prompt: metadata with an `include` counts; without one the text is parsed.
        classes: what the critic can find; None for anything that has a name.
        colors: what it can tell apart; None for any.

    Raises:
        PromptError: the sentence cannot be parsed, or the metadata is malformed or asks for what cannot be found.
    """
    wanted = Requirements(dict(prompt.metadata)) if "include" in prompt.metadata else parse(prompt.text)
    try:
        _check(wanted.metadata, classes, colors)
    except _MalformedError as problem:
        raise PromptError(f"cannot grade a picture of {prompt.text!r}: {problem}.") from None
    return wanted


class _MalformedError(Exception):
    """What is wrong with metadata."""


def _check(metadata: Mapping[str, Any], classes: Collection[str] | None, colors: Collection[str] | None) -> None:
    include, exclude = metadata["include"], metadata.get("exclude", [])
    if not isinstance(include, list) or not isinstance(exclude, list) or not include + exclude:
        raise _MalformedError("'include' and 'exclude' must be lists of clauses, and not both empty")
    for index, clause in enumerate(include):
        _check_thing(clause, classes)
        if "color" in clause:
            _check_name("color", clause["color"], colors)
        if "position" in clause:
            _check_position(clause["position"], index)
    for clause in exclude:
        _check_thing(clause, classes)


def _check_thing(clause: Any, classes: Collection[str] | None) -> None:
    if not isinstance(clause, dict) or "class" not in clause or "count" not in clause:
        raise _MalformedError(f'a clause looks like {{"class": "dog", "count": 1}}, not like {clause!r}')
    _check_name("class", clause["class"], classes)
    if type(clause["count"]) is not int or clause["count"] < 1:
        raise _MalformedError(f"the count of {clause['class']!r} must be a whole number of at least 1")


def _check_name(kind: str, name: Any, known: Collection[str] | None) -> None:
    if not isinstance(name, str) or not name.strip():
        raise _MalformedError(f"a {kind} is a name, not {name!r}")
    if known is not None and name not in known:
        near = get_close_matches(str(name), known, n=1)
        raise _MalformedError(
            f"the detector knows no {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        )


def _check_position(position: Any, index: int) -> None:
    if not isinstance(position, list | tuple) or len(position) != 2:
        raise _MalformedError(f'a position looks like ["left of", 0], not like {position!r}')
    relation, target = position
    _check_name("relation", relation, RELATIONS)
    if type(target) is not int or not 0 <= target < index:
        raise _MalformedError(f"the position of clause {index} must point to an earlier clause, not to {target!r}")

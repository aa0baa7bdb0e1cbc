"""What a judge is asked, how its reply is read, and what the reply is worth: one `Preset` for each protocol.

The rubrics follow the meaning of published ones in words of our own, because the originals have no licence. So these
scores are close to the official ones and are not them: for numbers to compare with a leaderboard, run the official
scripts on the pictures of a run, which lie as those scripts expect them.

A reply is one JSON object and nothing else. It is read strictly, since a digit that is found somewhere in a sentence is
not a grade: reasoning up to `</think>` and a code fence around the object are forgiven, and nothing more.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any

from milr.prompts import Prompt

READER_VERSION = 1  # raise it when the same reply may be read otherwise

SYSTEM = (
    "You examine pictures that were drawn by a text-to-image model. Judge only what can be seen, be strict, and answer "
    "in exactly the form that is asked for."
)


@dataclass(frozen=True)
class Verdict:
    """What a reply says: a value in [0, 1], its parts, and the judge's own words."""

    value: float
    parts: dict[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Preset:
    """One way to judge a picture.

    Attributes:
        name: as the user writes it.
        model: who judges unless told otherwise; as the protocol that the preset follows says.
        max_tokens: the length of a reply, reasoning included.
        template: the question, with $prompt and perhaps $explanation in it.
        read: the verdict of a reply.
        target: the value of a success; None for none.

    `read` raises ValueError, in words for a person, for a reply that is not what was asked for.
    """

    name: str
    model: str
    max_tokens: int
    template: str
    read: Callable[[str], Verdict]
    target: float | None

    @property
    def explained(self) -> bool:
        """Whether a prompt must come with an explanation of what it means."""
        return "$explanation" in self.template

    @property
    def version(self) -> str:
        """Changes with the question and with the way a reply is read."""
        return f"{READER_VERSION}.{hashlib.sha256(f'{SYSTEM}{self.template}'.encode()).hexdigest()[:8]}"

    def question(self, prompt: Prompt) -> str:
        return Template(self.template).substitute(prompt=prompt.text, explanation=explanation_of(prompt))


def explanation_of(prompt: Prompt) -> str:
    """What WISE says that a prompt means, its rows spell the key with a capital; empty where nothing is said."""
    for key in ("explanation", "Explanation"):
        text = prompt.metadata.get(key)
        if isinstance(text, str) and text.strip():
            return text.strip()
    return ""


def read_wise(reply: str) -> Verdict:
    """The normalised WiScore, (0.7 consistency + 0.2 realism + 0.1 aesthetic quality) / 2, of grades from 0 to 2.

    Source: Niu et al., "WISE", arXiv 2503.07265, and the README of PKU-YuanGroup/WISE.

    Raises:
        ValueError: the reply is not the object that was asked for.
    """
    fields = _fields(reply)
    parts = {axis: float(_choice(fields, axis, (0, 1, 2))) for axis in ("consistency", "realism", "aesthetic_quality")}
    value = (0.7 * parts["consistency"] + 0.2 * parts["realism"] + 0.1 * parts["aesthetic_quality"]) / 2
    return Verdict(round(value, 6), parts, _words(fields))


def read_score(reply: str) -> Verdict:
    """The 0 or 1 of WISE_Verified; errors as `read_wise`."""
    fields = _fields(reply)
    return Verdict(float(_choice(fields, "score", (0, 1))), reason=_words(fields))


def read_answer(reply: str) -> Verdict:
    """1 for yes and 0 for no; errors as `read_wise`."""
    fields = _fields(reply)
    return Verdict(float(_choice(fields, "answer", ("no", "yes")) == "yes"), reason=_words(fields))


def _fields(reply: str) -> dict[str, Any]:
    """The JSON object that a reply consists of."""
    # Chat templates that open the reasoning themselves leave only its end in the reply.
    text = reply.rpartition("</think>")[2].strip()
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*)\n\s*```", text, re.DOTALL)
    try:
        fields = json.loads(fenced.group(1) if fenced else text, object_pairs_hook=_named_once)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("it is not one JSON object") from None
    if not isinstance(fields, dict):
        raise ValueError("it is not one JSON object")
    return fields


def _named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("it says something twice")
    return fields


def _choice(fields: dict[str, Any], name: str, choices: tuple[Any, ...]) -> Any:
    """The value of a field, of the very type of the choices: neither true nor 1.0 is a 1."""
    value = fields.get(name)
    if type(value) is not type(choices[0]) or value not in choices:
        raise ValueError(f"its {name!r} is not one of {', '.join(map(str, choices))}")
    return value


def _words(fields: dict[str, Any]) -> str:
    reason = fields.get("reason")
    return reason if isinstance(reason, str) else ""


_WISE = """\
Grade the picture on three scales. Every grade is 0, 1 or 2. A 2 is rare; between two grades, give the lower one.

consistency: is what the prompt means in the picture? The explanation says what it means.
 0 = the main thing is missing, or the picture contradicts it
 1 = some of it is there, and something is missing, wrong or vague
 2 = all of it is there, beyond doubt
realism: could this be a photograph of something real?
 0 = plainly artificial, or physically impossible
 1 = believable at a glance, with faults that one can point at
 2 = nothing gives it away: light, materials, shapes and space are right
aesthetic_quality: is it a good picture?
 0 = badly composed or unpleasant
 1 = decent and ordinary
 2 = outstanding in composition, colour and style

Prompt: $prompt
Explanation: $explanation

Answer with one JSON object and nothing else:
{"reason": "<at most 20 words>", "consistency": <grade>, "realism": <grade>, "aesthetic_quality": <grade>}"""

_WISE_VERIFIED = """\
Decide whether the picture is right: 1 or 0.

The prompt does not name outright what belongs in the picture; one has to know it. The explanation tells it to you.
Score 1 only if all of this holds:
- the picture shows what the explanation says, so that the knowledge behind the prompt can be seen in it;
- the things in it are related as the prompt and the explanation say;
- it is realistic and clear enough to tell, without faults of drawing that get in the way.
Otherwise, and when in doubt, score 0. Beauty does not count.

Prompt: $prompt
Explanation: $explanation

Answer with one JSON object and nothing else:
{"reason": "<at most 20 words>", "score": <0 or 1>}"""

_BINARY = """\
Does the picture show what the prompt asks for?

Say "yes" only if everything that the prompt names is there, in the number, with the properties and in the places that
it says, nothing contradicts it, and the picture is coherent, without plain faults of drawing. Otherwise, and when in
doubt, say "no".

Prompt: $prompt

Answer with one JSON object and nothing else:
{"reason": "<at most 20 words>", "answer": <"yes" or "no">}"""

PRESETS = {
    preset.name: preset
    for preset in (
        # April 2026; a binary score of an open judge, which reasons before it answers.
        Preset("wise-verified", "Qwen/Qwen3.5-35B-A3B", 8192, _WISE_VERIFIED, read_score, 1.0),
        # March 2025, now "legacy": three grades of a commercial judge.
        Preset("wise", "gpt-4o-2024-05-13", 2000, _WISE, read_wise, None),
        # What MILR's authors ask GPT-4o (its rewards are 0 and -1 where ours are 1 and 0).
        Preset("gpt-4o-binary", "gpt-4o-2024-11-20", 2000, _BINARY, read_answer, 1.0),
    )
}

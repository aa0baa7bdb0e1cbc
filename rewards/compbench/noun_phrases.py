"""The noun phrases of a prompt, without a parser: what T2I-CompBench asks about, one question each.

    a green bench and a blue bowl                     a green bench | a blue bowl
    The soft pillow was on top of the hard chair.     The soft pillow | the hard chair
    four tents, two boats and one pig                 four tents | two boats | one pig

The benchmark takes spaCy's noun chunks. This module takes the stretches between the words that can stand in no noun
phrase: prepositions, verbs, pronouns, adverbs. Verbs are told from nouns by short word lists and by where "-ed" and
"-ing" stand, which is enough for descriptions of pictures and not for English at large. Two phrases joined by "and" are
two; two adjectives joined by "and" or a comma stay together: "the striped black and white cat".

Accepted differences to spaCy's chunks: pronouns ("it", "they") are left out, since "they?" asks nothing; so is the noun
of a relation ("on top of", "on the left of", "in front of"), of which the benchmark strikes out four.

Knows nothing about pictures. Where its reading is wrong, metadata can say what is right: see `phrases_of`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from milr.errors import PromptError
from milr.prompts import Prompt

from ..language.vocabulary import NUMBERS
from .words import ADJECTIVES, BREAKS, DETERMINERS, MATERIALS, NO_ADVERBS, NO_PARTICIPLES, PLURAL_VERBS, VERBS

LIMIT = 8  # phrases that the benchmark asks about

COUNTS = {"a": 1, "an": 1} | {word: count for count, word in enumerate(NUMBERS) if count}

# What a relation is called: its nouns ("top", "the left") are no things in the picture.
_RELATION = re.compile(
    r"\b(?:(?:on|to|at|in|by)\s+(?:the\s+)?(?:very\s+)?"
    r"(?:top|bottom|side|left|right|left\s+side|right\s+side|front|back|middle|cent(?:er|re)|edge)\s+(?:of|by)\b"
    r"|side\s+by\s+side\b)",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"^(?:(?:an?|the)\s+)?(?:photo|photograph|picture|image)\s+of\s+", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")  # a word, hyphens and all, or one mark
_ADJECTIVE_ENDING = re.compile(r"\w\w(?:ous|ful|less|ical)$")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase.

    Attributes:
        text: as in the prompt.
        start: where it stands there, in characters.
        end: just behind it.
    """

    text: str
    start: int
    end: int

    @property
    def count(self) -> int | None:
        """What "two" or "a" says; None without a number or article."""
        return COUNTS.get(self.text.split()[0].lower())

    @property
    def name(self) -> str:
        """The thing alone: "coat rack" of "the brown coat rack"."""
        words = [word for word in _WORD.findall(self.text.lower()) if word[0].isalnum()]
        kept = [word for word in words[:-1] if word not in DETERMINERS and word != "and" and not _is_adjective(word)]
        return " ".join([*kept, words[-1]])


def phrases_of(prompt: Prompt) -> list[str]:
    """The phrases to ask about: those of `metadata["noun_phrases"]`, or those of the text; at most `LIMIT`.

    Raises:
        PromptError: there are none, or the metadata is no list of texts.
    """
    given = prompt.metadata.get("noun_phrases")
    if given is None:
        texts = noun_phrases(prompt.text)
    elif isinstance(given, list | tuple) and all(isinstance(text, str) and text.strip() for text in given):
        texts = list(given)
    else:
        raise PromptError(f"noun_phrases of {prompt.text!r} must be a list of texts, not {given!r}.")
    if not texts:
        raise PromptError(
            f'there is nothing to ask about in {prompt.text!r}; name it: {{"prompt": "...", "noun_phrases": ["..."]}}.'
        )
    return texts[:LIMIT]


def noun_phrases(text: str) -> list[str]:
    """The noun phrases of a text, in their order."""
    return [phrase.text for phrase in chunks(text)]


def without_adjectives(text: str) -> str:
    """The text with the adjectives of its noun phrases left out: "The pillow was on top of the chair ." of above.

    As the benchmark has it, words and marks are joined by spaces.
    """
    heads = [(phrase.start, phrase.end) for phrase in chunks(text)]
    kept = []
    for match in _WORD.finditer(text):
        inside = [end for start, end in heads if start <= match.start() < end]
        last = bool(inside) and match.end() == inside[0]
        if not inside or last or not _is_adjective(match[0].lower()):
            kept.append(match[0])
    return " ".join(kept)


def chunks(text: str) -> list[Phrase]:
    """The noun phrases of a text and where they stand."""
    skipped = [match.span() for match in (*_RELATION.finditer(text), *_PICTURE.finditer(text))]
    tokens = list(_WORD.finditer(text))
    words = [match[0].lower() for match in tokens]
    phrases: list[Phrase] = []
    run: list[int] = []  # tokens of the phrase that is being read

    def close() -> None:
        while run and (not words[run[-1]][0].isalnum() or words[run[-1]] == "and"):
            run.pop()
        if _names_a_thing([words[index] for index in run]):
            start, end = tokens[run[0]].start(), tokens[run[-1]].end()
            phrases.append(Phrase(text[start:end], start, end))
        run.clear()

    for index, word in enumerate(words):
        if any(start <= tokens[index].start() < end for start, end in skipped):
            close()
        elif word in ("and", ",", "&"):
            if run and _joins_adjectives(words, index):
                run.append(index)
            else:
                close()
        elif not word[0].isalnum() or _ends(words, index, run):
            close()
        else:
            if word in DETERMINERS and run:
                close()
            run.append(index)
    close()
    return phrases


def leading(phrases: Sequence[Phrase], text: str) -> list[Phrase]:
    """The first phrases of a text, as far as nothing but commas and "and" stands between them."""
    count = 1
    while count < len(phrases):
        between = text[phrases[count - 1].end : phrases[count].start].lower()
        if between.replace(",", " ").split() not in ([], ["and"]):
            break
        count += 1
    return list(phrases[:count])


def _ends(words: Sequence[str], index: int, run: Sequence[int]) -> bool:
    """Whether a word can stand in no phrase here."""
    if words[index] == "can" and run and (_breaks(words, index + 1) or _describes(words[run[-1]])):
        return False  # of soda
    if words[index] in BREAKS:
        return True
    return _is_adverb(words, index) or _is_verb(words, index, run)


def _names_a_thing(words: Sequence[str]) -> bool:
    """Whether a phrase has a noun: "the brave" has one by its article, "lying" and "ripe and ready" have none."""
    if not words or words[-1] in DETERMINERS or words[-1].isdigit():
        return False
    bare = words[0] not in DETERMINERS
    last = words[-1]
    return not bare or last in MATERIALS or not (_describes(last) or (last in VERBS and len(words) == 1))


def _joins_adjectives(words: Sequence[str], index: int) -> bool:
    """Whether "and" or a comma stands between two adjectives of one phrase, as in "black and white cat"."""
    if _breaks(words, index + 1) or not _describes(words[index - 1]):
        return False
    noun_follows = not _breaks(words, index + 2)
    return noun_follows and (_describes(words[index + 1]) or words[index - 1] not in MATERIALS)


def _is_adjective(word: str) -> bool:
    return word in ADJECTIVES or "-" in word or bool(_ADJECTIVE_ENDING.search(word))


def _is_participle(word: str) -> bool:
    return word.endswith(("ed", "ing")) and word not in NO_PARTICIPLES


def _describes(word: str) -> bool:
    return _is_adjective(word) or _is_participle(word)


def _breaks(words: Sequence[str], index: int) -> bool:
    """Whether no phrase goes on at a word: it is none, or one that begins another."""
    if not 0 <= index < len(words) or not words[index][0].isalnum():
        return True
    return words[index] in BREAKS or words[index] in DETERMINERS


def _is_adverb(words: Sequence[str], index: int) -> bool:
    """Whether a word is an adverb that ends a phrase: "lazily", but not the one of "the freshly brewed coffee"."""
    word = words[index]
    if not word.endswith("ly") or word in NO_ADVERBS or _is_adjective(word):
        return False
    return _breaks(words, index + 1) or not _describes(words[index + 1])


def _is_verb(words: Sequence[str], index: int, run: Sequence[int]) -> bool:
    """Whether a word is the verb behind a phrase: it follows a noun, and the phrase cannot go on behind it."""
    if not run or words[run[-1]] in DETERMINERS or words[run[-1]] in ("and", ","):
        return False
    word, before = words[index], words[run[-1]]
    if _describes(before) and before not in MATERIALS:
        return False
    following = words[index + 1] if index + 1 < len(words) else ""
    if word in VERBS:
        noun = word in PLURAL_VERBS and (COUNTS.get(words[run[0]]) == 1 or not following[:1].isalnum())
        return following not in VERBS and not noun
    ends = _breaks(words, index + 1) or (following.endswith(("ly", "s")) and not following.endswith("ss"))
    return _is_participle(word) and (ends or (word.endswith("ed") and _describes(following)))

"""The words of the world: prompts, plans, what a picture must show, and the tokenizer.

Most prompts are GenEval's sentences to the letter. The others say the same in other words and another order, or
describe a thing instead of naming it; `milr_rewards.language.sentences` reads every one of them as `metadata` does.

A plan is the reasoning that `mini` writes before it draws: one clause per thing, with its place on a 3 x 3 grid.

    a photo of three red apples left of a dog
    four objects: a red apple, top left; a red apple, left; a red apple, bottom left; a dog, right.

Plans hold no plurals: sampled plans of an earlier model said "a skateboards" when plurals were words of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from milr_rewards.language import knowledge
from milr_rewards.language.vocabulary import SYNONYMS

from .concepts import CLASSES, COLORS, MAX_OBJECTS, NUMBERS, PLACES, RELATIONS, geneval_plural, plural, with_article
from .world import TAGS, Requests, Scenes

PAD, BOS, EOS, UNK, THINK, BOI, EOI, IMAGE = "<pad>", "<bos>", "<eos>", "<unk>", "<think>", "<boi>", "<eoi>", "<image>"
SPECIAL_TOKENS = (PAD, BOS, EOS, UNK, THINK, BOI, EOI, IMAGE)
REASONING_PROMPT = BOS + "{prompt}" + THINK
IMAGE_PROMPT = BOS + "{prompt}" + THINK + "{reasoning}" + BOI
DIRECT_PROMPT = BOS + "{prompt}" + BOI
QUESTION_PROMPT = BOS + BOI + "{image}" + EOI + "{question}" + THINK
DESCRIBE_PROMPT = BOS + BOI + "{image}" + EOI + THINK
CAPTION_LENGTH = 32  # tokens; no prompt is longer

_EXACT = 0.6  # the share of prompts in GenEval's own words
_DESCRIBED = 0.3  # the share of mixed prompts that describe one of their things, where they can
_COLOR_NAMES = ("", *COLORS)
_NOUN_OPENINGS = (
    *("a photo of ", "a photo of ", "a photo of ", "a photo of ", "a picture of ", "an image of ", "the picture of "),
    *("photo of ", "picture of ", "a drawing of ", "show me ", "draw ", "draw me ", "please draw ", "", "", "", ""),
)
_CLAUSE_OPENINGS = ("", "", "", "a photo where ", "a picture where ", "an image where ")
_SIDES = ("left of", "to the left of", "to the left of", "on the left of")
_WORDINGS = {
    "left of": _SIDES,
    "right of": tuple(words.replace("left", "right") for words in _SIDES),
    "above": ("above", "above", "over", "on top of"),
    "below": ("below", "below", "under", "underneath", "beneath"),
}
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    name: tuple(other for other, meant in SYNONYMS.items() if meant == name) for name in CLASSES
}
# What the prompts are made of besides things, and what is asked about pictures.
_GRAMMAR = """
    a an the one and with of to in on at that which where it its them their is are there all both , . : ; ? ! - '
    photo photograph picture image drawing show me draw paint please object objects thing things nothing
    is are any does do has have how many number count what color colour colors colours colored they you see can i
    yes no s this these left right side above below over under underneath beneath top bottom center middle
    0 1 2 3 4 5
"""


class _Group(NamedTuple):
    """Equal things, and the words for them in one prompt."""

    name: str
    color: str
    number: int
    words: str

    @property
    def be(self) -> str:
        return "is" if self.number == 1 else "are"

    @property
    def it(self) -> str:
        return "it" if self.number == 1 else "them"


def prompts(requests: Requests, classes: tuple[str, ...], rng: random.Random) -> list[str]:
    """One prompt per request to train on: three in five in GenEval's own words."""
    lines = []
    for tag, groups, chain in _wishes(requests, classes):
        if tag == "knowledge":
            words = _one_of(knowledge.TRAINED[groups[0].name], rng)
            lines.append((_NOUN_OPENINGS[0] if rng.random() < _EXACT else _one_of(_NOUN_OPENINGS, rng)) + words)
            continue
        exact = rng.random() < _EXACT
        if not exact:
            groups = [group._replace(words=_noun_phrase(group, len(groups), rng)) for group in groups]
        if tag == "mixed" and rng.random() < _DESCRIBED:
            _describe_one(groups, rng)
        lines.append(_official(groups, chain) if exact else _varied(groups, chain, rng))
    return lines


def official_prompts(requests: Requests, classes: tuple[str, ...]) -> list[str]:
    """The prompt of each request as GenEval would say it."""
    return [_official(groups, chain) for _, groups, chain in _wishes(requests, classes)]


def plans(scenes: Scenes, classes: tuple[str, ...]) -> list[str]:
    """One plan per scene; equal things follow each other in reading order."""
    lines = []
    for labels, colors, cells in zip(
        scenes.label.tolist(), scenes.color.tolist(), scenes.cells().tolist(), strict=True
    ):
        things = [thing for thing in zip(labels, colors, cells, strict=True) if thing[0] >= 0]
        order: dict[tuple[int, int], int] = {}
        for label, color, _ in things:
            order.setdefault((label, color), len(order))
        things.sort(key=lambda thing: (order[thing[:2]], thing[2]))
        clauses = [f"{_one(classes[label], _COLOR_NAMES[color])}, {PLACES[cell]}" for label, color, cell in things]
        noun = "object" if len(things) == 1 else "objects"
        lines.append(f"{NUMBERS[len(things)]} {noun}: {'; '.join(clauses)}.")
    return lines


def metadata(requests: Requests, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """What each picture must show, in the form of GenEval's prompt files (without the prompt)."""
    rows = []
    names = list(TAGS)
    for tag, labels, colors, counts, relations in zip(*_columns(requests), strict=True):
        clauses: list[dict[str, Any]] = []
        exclude: list[dict[str, Any]] = []
        for label, color, count in zip(labels, colors, counts, strict=True):
            if count:
                clause: dict[str, Any] = {"class": classes[label], "count": count}
                clauses.append(clause | ({"color": _COLOR_NAMES[color]} if color else {}))
            if count > 1:
                exclude.append({"class": classes[label], "count": count + 1})
        # GenEval names the target of a relation before the thing that stands in relation to it.
        related = 1 + sum(relation > 0 for relation in relations) if relations[0] else 0
        clauses[:related] = clauses[:related][::-1]
        for index in range(1, related):
            clauses[index]["position"] = [RELATIONS[relations[related - 1 - index]], index - 1]
        rows.append({"tag": names[tag], "include": clauses} | ({"exclude": exclude} if exclude else {}))
    return rows


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One id per word, lower case, punctuation apart; what is not a word of this world is `<unk>`.

    Decoding gives tidy text ("a dog, right.") that encodes to the same ids.
    """
    words = dict.fromkeys(SPECIAL_TOKENS)
    forms = [form for name in (*CLASSES, *SYNONYMS) for form in (name, plural(name), geneval_plural(name))]
    phrases = [phrase for phrases in knowledge.TRAINED.values() for phrase in phrases]
    for text in (_GRAMMAR, *NUMBERS, *PLACES, *RELATIONS, *COLORS, *forms, *phrases):
        words.update(dict.fromkeys(text.split()))
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNK))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    # WordPiece joins with blanks and tidies commas and full stops; the others follow it token by token.
    backend.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=True), decoders.Replace(" ;", ";"), decoders.Replace(" :", ":")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=256,
        extra_special_tokens={"image_token": IMAGE, "boi_token": BOI, "eoi_token": EOI, "think_token": THINK},
    )


def _columns(requests: Requests) -> tuple[list[Any], ...]:
    return tuple(
        column.tolist() for column in (requests.tag, requests.label, requests.color, requests.count, requests.relation)
    )


def _wishes(requests: Requests, classes: tuple[str, ...]) -> Iterator[tuple[str, list[_Group], list[str]]]:
    """Tag, groups in GenEval's words, and the relations of each group to the next, as far as there are any."""
    names = list(TAGS)
    for tag, labels, colors, counts, relations in zip(*_columns(requests), strict=True):
        groups = [
            _group(classes[label], _COLOR_NAMES[color], count)
            for label, color, count in zip(labels, colors, counts, strict=True)
            if count
        ]
        yield names[tag], groups, [RELATIONS[relation] for relation in relations if relation]


@cache
def _group(name: str, color: str, count: int) -> _Group:
    words = _one(name, color) if count == 1 else f"{NUMBERS[count]} {_painted(geneval_plural(name), color)}"
    return _Group(name, color, count, words)


@cache
def _one(name: str, color: str) -> str:
    return with_article(_painted(name, color))


def _painted(name: str, color: str) -> str:
    return f"{color} {name}" if color else name


def _one_of(choices: Sequence[str], rng: random.Random) -> str:
    return choices[int(rng.random() * len(choices))]  # several times as fast as rng.choice


def _describe_one(groups: list[_Group], rng: random.Random) -> None:
    """Describe one thing in a scene of few: with the long plan of many, the row of text would be too long."""
    index = int(rng.random() * len(groups))
    name, color, count, _ = group = groups[index]
    if count == 1 and not color and sum(group.number for group in groups) < MAX_OBJECTS:
        groups[index] = group._replace(words=_one_of(knowledge.TRAINED[name], rng))


def _noun_phrase(group: _Group, groups: int, rng: random.Random) -> str:
    """'a red apple', 'the apple', 'apple', '3 red apples', 'three apples that are red' (not in a list: too long)."""
    name, color, count, _ = group
    others = _OTHER_NAMES[name]
    if others and rng.random() < 0.3:
        name = _one_of(others, rng)
    after = ""
    if color and groups < 3 and rng.random() < 0.15:
        after, color = f" {_one_of(('that', 'which'), rng)} {group.be} {color}", ""
    if count > 1:
        many = geneval_plural(name) if rng.random() < 0.4 else plural(name)
        number = str(count) if rng.random() < 0.25 else NUMBERS[count]
        return f"{number} {_painted(many, color)}{after}"
    article = rng.random()
    if article < 0.6:
        return _one(name, color) + after
    return f"{'the ' if article < 0.75 else 'one ' if article < 0.82 else ''}{_painted(name, color)}{after}"


def _official(groups: Sequence[_Group], chain: Sequence[str]) -> str:
    return "a photo of " + _listed([_joined(groups, chain), *_rest(groups, chain)])


def _joined(groups: Sequence[_Group], relations: Sequence[str]) -> str:
    """'a dog left of a cat above a bird'."""
    related = groups[1 : len(relations) + 1]
    later = [f" {relation} {group.words}" for relation, group in zip(relations, related, strict=True)]
    return groups[0].words + "".join(later)


def _rest(groups: Sequence[_Group], chain: Sequence[str]) -> list[str]:
    """The words of the groups that no relation speaks of."""
    return [group.words for group in groups[len(chain) + 1 :]]


def _listed(things: Sequence[str], last: str = " and ") -> str:
    """'a dog, a cat and a bird'."""
    return last.join([", ".join(things[:-1]), things[-1]] if len(things) > 1 else things)


def _varied(groups: Sequence[_Group], chain: Sequence[str], rng: random.Random) -> str:
    rest = _rest(groups, chain)
    if not chain:
        several = len(groups) == 1 and groups[0].number > 1
        first = _apposed(groups[0], rng) if several and rng.random() < 0.4 else groups[0].words
        things = [first, *rest]
        body = " and ".join(things) if rng.random() < 0.3 else _listed(things, _one_of((" and ", ", and ", ", "), rng))
        return _opening(groups[0], rng) + body
    relations = [_one_of(_WORDINGS[relation], rng) for relation in chain]
    form = rng.random()
    if len(chain) == 1 and form < 0.35:
        return _listed([_target_first(groups[0], groups[1], chain[0], relations[0], rng), *rest])
    if not rest and form < 0.6:
        target = _joined(groups[1:], _further(groups[1:], relations[1:], rng))
        if rng.random() < 0.6:
            return f"{relations[0]} {target}, {groups[0].words}"
        return f"{relations[0]} {target} {_one_of(('', 'there '), rng)}{groups[0].be} {groups[0].words}"
    further = _further(groups[1:], relations[1:], rng)
    if rng.random() < 0.3:
        sentence = _joined(groups, [f"{groups[0].be} {relations[0]}", *further])
        return _listed([_one_of(_CLAUSE_OPENINGS, rng) + sentence, *rest])
    return _listed([_opening(groups[0], rng) + _joined(groups, [relations[0], *further]), *rest])


def _opening(first: _Group, rng: random.Random) -> str:
    return _one_of(_NOUN_OPENINGS, rng) if rng.random() < 0.95 else f"there {first.be} "


def _apposed(group: _Group, rng: random.Random) -> str:
    """'apples, three of them, red' or 'three apples, all red'."""
    number = NUMBERS[group.number]
    if not group.color or rng.random() < 0.5:
        return f"{plural(group.name)}, {number} of them" + (f", {group.color}" if group.color else "")
    return f"{number} {plural(group.name)}, {_one_of(('all', 'all of them'), rng)} {group.color}"


def _further(groups: Sequence[_Group], relations: Sequence[str], rng: random.Random) -> list[str]:
    """The relations of a chain after its first: 'above', 'that is above' or ', which is above'."""
    openings = ("", f"that {groups[0].be} ", f"which {groups[0].be} ")
    return [_one_of(openings, rng) + relation for relation in relations]


def _target_first(group: _Group, target: _Group, relation: str, wording: str, rng: random.Random) -> str:
    """'a dog with a cat to its left', 'a dog and, left of it, a cat'."""
    place = f"{wording} {target.it}"
    if relation.endswith(" of") and rng.random() < 0.6:
        place = f"{_one_of(('to', 'on'), rng)} {'its' if target.number == 1 else 'their'} {relation[:-3]}"
    form = rng.random()
    opening = _opening(target, rng)
    if form < 0.6:
        return f"{opening}{target.words} with {group.words} {place}"
    if form < 0.8:
        return f"{opening}{target.words} and, {place}, {group.words}"
    return f"{opening}{target.words} and {group.words} {place}"

"""The words of the world: prompts as GenEval phrases them, plans, what a picture must show, and the tokenizer.

A plan is the reasoning that `mini` writes before it draws: one clause per thing, with its place on a 3 x 3 grid.

    a photo of three red apples left of a dog
    four objects: a red apple, top left; a red apple, left; a red apple, bottom left; a dog, right.

Plans hold no plurals: sampled plans of an earlier model said "a skateboards" when plurals were words of their own.
"""

from __future__ import annotations

import random
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .concepts import CLASSES, COLORS, NUMBERS, PLACES, RELATIONS, geneval_plural, plural, with_article
from .world import COUNTED_TAGS, TAGS, Requests, Scenes

PAD, BOS, EOS, UNK, THINK, BOI, EOI, IMAGE = "<pad>", "<bos>", "<eos>", "<unk>", "<think>", "<boi>", "<eoi>", "<image>"
SPECIAL_TOKENS = (PAD, BOS, EOS, UNK, THINK, BOI, EOI, IMAGE)
REASONING_PROMPT = BOS + "{prompt}" + THINK
IMAGE_PROMPT = BOS + "{prompt}" + THINK + "{reasoning}" + BOI
DIRECT_PROMPT = BOS + "{prompt}" + BOI
CAPTION_LENGTH = 24  # tokens; no prompt is longer

_OPENINGS = ("a photo of ", "a picture of ", "an image of ", "")
_OPENING_WEIGHTS = (0.85, 0.05, 0.05, 0.05)
_GRAMMAR = "a an the and of to in on at with photo picture image object objects nothing , . : ; ? ! - '"


def prompts(requests: Requests, classes: tuple[str, ...], rng: random.Random) -> list[str]:
    """One prompt per request, mostly in GenEval's words, some in nearby ones."""
    lines = []
    tags = list(TAGS)
    for tag, labels, colors, counts, relation in zip(*_columns(requests), strict=True):
        things = [
            _noun_phrase(classes[label], color, count, rng)
            for label, color, count in zip(labels, colors, counts, strict=True)
            if count
        ]
        if tags[tag] == "three_objects":
            body = f"{things[0]}, {things[1]} and {things[2]}"
        elif relation:
            words = RELATIONS[relation]
            if words.endswith(" of") and rng.random() < 0.2:
                words = f"to the {words}"
            body = f"{things[0]} {words} {things[1]}"
        else:
            body = " and ".join(things)
        lines.append(rng.choices(_OPENINGS, _OPENING_WEIGHTS)[0] + body)
    return lines


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
        clauses = [f"{with_article(_painted(classes[label], color))}, {PLACES[cell]}" for label, color, cell in things]
        noun = "object" if len(things) == 1 else "objects"
        lines.append(f"{NUMBERS[len(things)]} {noun}: {'; '.join(clauses)}.")
    return lines


def metadata(requests: Requests, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """What each picture must show, in the form of GenEval's prompt files (without the prompt)."""
    rows = []
    names = list(TAGS)
    for tag, labels, colors, counts, relation in zip(*_columns(requests), strict=True):
        clauses: list[dict[str, Any]] = []
        exclude: list[dict[str, Any]] = []
        for label, color, count in zip(labels, colors, counts, strict=True):
            if count:
                clause: dict[str, Any] = {"class": classes[label], "count": count}
                clauses.append(clause | ({"color": list(COLORS)[color - 1]} if color else {}))
        if names[tag] in COUNTED_TAGS:
            exclude.append({"class": classes[labels[0]], "count": counts[0] + 1})
        if relation:  # GenEval names the target of a relation first
            clauses = [clauses[1], clauses[0] | {"position": [RELATIONS[relation], 0]}, *clauses[2:]]
        rows.append({"tag": names[tag], "include": clauses} | ({"exclude": exclude} if exclude else {}))
    return rows


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One id per word, lower case, punctuation apart; what is not a word of this world is `<unk>`.

    Decoding gives tidy text ("a dog, right.") that encodes to the same ids.
    """
    words = dict.fromkeys(SPECIAL_TOKENS)
    forms = [form for name in CLASSES for form in (name, plural(name), geneval_plural(name))]
    for text in (_GRAMMAR, *NUMBERS, *PLACES, *RELATIONS, *COLORS, *forms):
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


def _painted(name: str, color: int) -> str:
    return f"{list(COLORS)[color - 1]} {name}" if color else name


def _noun_phrase(name: str, color: int, count: int, rng: random.Random) -> str:
    if count == 1:
        return with_article(_painted(name, color))
    many = geneval_plural(name) if rng.random() < 0.6 else plural(name)
    return f"{NUMBERS[count]} {_painted(many, color)}"

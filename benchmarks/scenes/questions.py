"""Yes / no questions about scenes whose content is known: what `mini` learns to read with, and is examined on.

    content = content_of(painter, broken)                      # on the painter's device
    rows = ask(content, classes, natural, rng)                 # per picture some `Asked`: kind, text, answer

Of every kind half the answers are "yes". The wrong ones are hard to tell: another colour of the same picture, a count
that is off by one, the opposite relation, a thing that is only there in part. What is open is not asked: a thing of
which too little shows, relations near GenEval's cut, the colour of an unpainted thing unless it is plainly another.
Wordings are the critic's own (`milr_rewards.language.questions`). Asking is Python, for the CPU;
it knows nothing of tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from milr_rewards.geneval_rule import SHRINK
from milr_rewards.language import questions

from .broken import Broken
from .concepts import COLORS, MAX_OBJECTS, RELATIONS, geneval_plural, plural
from .world import SIZES, Painter, Scenes, _Rows

KINDS = ("presence", "colored presence", "count", "colored count", "color", "relation")
_WEIGHTS = (2.0, 1.5, 2.0, 3.0, 1.5, 2.5)  # few pictures have what a coloured count needs
_COLOR_NAMES = tuple(COLORS)
_PLAIN, _OPEN = 0.6, 0.25  # GenEval's rule cuts at 0.5: a relation above one holds plainly, below the other it does not
_FAR = 0.22  # mean difference of RGB from which an unpainted thing plainly has another colour
_NAIVE_PLURAL = 0.4
_ABSENT = 0.12  # share of false counts and relations that name a thing which is not there
_MIXED = -1  # the colour of a thing in two paints
_UNPAINTED = 0.15  # how often a picture without paint is asked for a colour, which can only be wrong

Answer = tuple[str, bool]


@dataclass(frozen=True)
class Asked:
    """A question and its true answer."""

    kind: str
    text: str
    answer: bool


@dataclass(frozen=True)
class Content(_Rows):
    """What is in pictures, and what can be said of it. Slots are those of `Broken`."""

    label: Tensor  # [B, S] of what is there, else -1
    color: Tensor  # [B, S]
    size: Tensor  # [B, S]
    corner: Tensor  # [B, S, 2]
    background: Tensor  # [B, 3]
    gone: Tensor  # [B, S] label of what is only there in part, else -1
    unsure: Tensor  # [B, S] label of what is neither there nor not, else -1
    mixed: Tensor  # [B, S] there, in two paints
    relations: Tensor  # [B, S, S, 5] int8, from `relation_table`

    def __len__(self) -> int:
        return len(self.label)

    @property
    def scenes(self) -> Scenes:
        """What is there."""
        return Scenes(self.label, self.color, self.size, self.corner, self.background)

    def describable(self) -> Tensor:
        """[B] whether a plan says all of it: one to five things, none of them open."""
        things = (self.label >= 0).sum(1)
        return (things > 0) & (things <= MAX_OBJECTS) & ~self.mixed.any(1) & (self.unsure < 0).all(1)


def content_of(painter: Painter, broken: Broken) -> Content:
    """The content of pictures, on their device."""
    seen = broken.seen
    gone = torch.where((seen.label < 0) & (broken.unsure < 0), broken.drawn.label, -1)
    relations = relation_table(painter.boxes(broken.drawn)).to(torch.int8)
    return Content(
        seen.label, seen.color, seen.size, seen.corner, seen.background, gone, broken.unsure, broken.mixed, relations
    )


class _Picture:
    """One picture, as the kinds of questions need it."""

    def __init__(
        self,
        labels: list[int],
        colors: list[int],
        gone: list[int],
        unsure: list[int],
        mixed: list[bool],
        relations: list[list[list[int]]],
    ) -> None:
        self.relations = relations  # slot, slot, relation -> 1 plainly, 0 plainly not, -1 open
        self.open = {label for label in unsure if label >= 0}
        self.slots: dict[int, list[int]] = {}
        self.colors: dict[int, list[int]] = {}
        for slot, label in enumerate(labels):
            if label >= 0 and label not in self.open:
                self.slots.setdefault(label, []).append(slot)
                self.colors.setdefault(label, []).append(_MIXED if mixed[slot] else colors[slot])
        self.gone = [label for label in gone if label >= 0 and label not in self.open]
        self.paint = sorted({color for group in self.colors.values() for color in group if color > 0})


def natural_distance(painter: Painter) -> list[list[float]]:
    """[classes][1 + colours] mean absolute difference of RGB between the unpainted thing and each painted one."""
    side = SIZES[-1]
    atlas = painter.atlas[painter.starts[-1] :].float().cpu().view(len(painter.classes), painter.variants, side**2, 4)
    difference = (atlas[..., :3] - atlas[:, :1, :, :3]).abs().mean(-1).sum(-1)
    distances: list[list[float]] = (difference / atlas[..., 3].sum(-1).clamp(min=1)).tolist()
    return distances


def ask(
    content: Content,
    classes: Sequence[str],
    natural: list[list[float]],
    rng: random.Random,
    count: int = 9,
    kind: str | None = None,
) -> list[list[Asked]]:
    """Up to `count` different questions about each picture, of all kinds or of one; `natural`: `natural_distance`."""
    makers = dict(zip(KINDS, (_presence, _colored_presence, _count, _colored_count, _color, _relation), strict=True))
    names = _Names(classes, natural, rng)
    columns = (content.label, content.color, content.gone, content.unsure, content.mixed, content.relations)
    rows = []
    for row in zip(*(column.tolist() for column in columns), strict=True):
        picture = _Picture(*row)
        kinds = [kind] * count if kind else rng.choices(KINDS, _WEIGHTS, k=count)
        asked: dict[str, Asked] = {}
        for name in kinds:
            made = makers[name](picture, rng.random() < 0.5, names)
            if made is not None and made[0] not in asked:
                asked[made[0]] = Asked(name, *made)
        rows.append(list(asked.values()))
    return rows


def relation_table(boxes: Tensor) -> Tensor:
    """[B, K, K, 5]: does a thing stand in relation (index into RELATIONS) to another? 1 yes, 0 no, -1 not plain."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = (boxes[..., 2:] - boxes[..., :2]).abs()
    offset = (centre[:, :, None] - centre[:, None]).float()  # [B, K, K, 2] first minus second
    slack = SHRINK * (size[:, :, None] + size[:, None])
    toward = offset.sign() * (offset.abs() - slack).clamp(min=0) / offset.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    along = torch.stack([-toward[..., 0], toward[..., 0], -toward[..., 1], toward[..., 1]], dim=-1)  # [B, K, K, 4]
    plain = torch.where(along > _PLAIN, 1, torch.where(along < _OPEN, 0, -1))
    return torch.cat([torch.full_like(plain[..., :1], -1), plain], dim=-1)


class _Names:
    """Words, choices and chances, shared by all kinds of questions."""

    def __init__(self, classes: Sequence[str], natural: list[list[float]], rng: random.Random) -> None:
        self.classes, self.natural, self.rng = classes, natural, rng

    def wording(self) -> int:
        # The critic asks in the first wording.
        return self.rng.choice((0, 0, 1, 2, 3))

    def things(self, label: int, color: int = 0, count: int | None = None) -> str:
        name = self.classes[label]
        many = geneval_plural(name) if self.rng.random() < _NAIVE_PLURAL else plural(name)
        return questions.things(name, _COLOR_NAMES[color - 1] if color else None, count, self.wording(), many)

    def absent(self, picture: _Picture) -> int:
        while (label := self.rng.randrange(len(self.classes))) in picture.slots or label in picture.open:
            pass
        return label

    def wrong_color(self, picture: _Picture, label: int) -> int | None:
        """A colour that no thing of the class has, mostly one of another thing; None where none is sure."""
        own = set(picture.colors[label])
        wrong = [color for color in picture.paint if color not in own and self._not_natural(own, label, color)]
        if wrong and self.rng.random() < 0.6:
            return self.rng.choice(wrong)
        other = [c for c in range(1, 1 + len(COLORS)) if c not in own and self._not_natural(own, label, c)]
        return self.rng.choice(other) if other else None

    def _not_natural(self, own: set[int], label: int, color: int) -> bool:
        return _MIXED not in own and (0 not in own or self.natural[label][color] > _FAR)


def _presence(picture: _Picture, yes: bool, names: _Names) -> Answer | None:
    if yes:
        return (names.things(names.rng.choice(list(picture.slots))), True) if picture.slots else None
    gone = [label for label in picture.gone if label not in picture.slots]
    if gone and names.rng.random() < 0.6:
        return names.things(names.rng.choice(gone)), False
    return names.things(names.absent(picture)), False


def _colored_presence(picture: _Picture, yes: bool, names: _Names) -> Answer | None:
    rng = names.rng
    painted = [(label, color) for label, group in picture.colors.items() for color in group if color > 0]
    if not painted:
        if yes or not picture.slots or rng.random() > _UNPAINTED:
            return None
    elif yes:
        return names.things(*rng.choice(painted)), True
    elif rng.random() < 0.25:
        return names.things(names.absent(picture), rng.choice(picture.paint)), False
    label = rng.choice(list(picture.slots))
    color = names.wrong_color(picture, label)
    return (names.things(label, color), False) if color else None


def _count(picture: _Picture, yes: bool, names: _Names) -> Answer | None:
    rng = names.rng
    if not picture.slots:
        return None
    label = rng.choice(list(picture.slots))
    if rng.random() < 0.5:  # a picture of several is asked for those several
        label = max(picture.slots, key=lambda each: len(picture.slots[each]))
    number = len(picture.slots[label])
    if number > MAX_OBJECTS:
        return None
    if yes:
        return names.things(label, 0, number), True
    if rng.random() < _ABSENT:
        return names.things(names.absent(picture), 0, rng.randint(1, 3)), False
    broken = picture.gone.count(label)
    if broken and number + broken <= MAX_OBJECTS and rng.random() < 0.7:
        return names.things(label, 0, number + broken), False
    return names.things(label, 0, _off_by_one(number, rng)), False


def _colored_count(picture: _Picture, yes: bool, names: _Names) -> Answer | None:
    rng = names.rng
    # Beside an unpainted one of the same class it would be open how many are red.
    several = [label for label, colors in picture.colors.items() if 1 < len(colors) <= MAX_OBJECTS and min(colors) > 0]
    if not several:
        return None
    label = rng.choice(several)
    colors = picture.colors[label]
    color = rng.choice(colors)
    number = colors.count(color)
    if yes:
        return names.things(label, color, number), True
    chance = rng.random()
    if chance < 0.4 and (wrong := names.wrong_color(picture, label)):
        return names.things(label, wrong, number), False
    if chance < 0.7 and len(colors) != number:
        return names.things(label, color, len(colors)), False
    return names.things(label, color, _off_by_one(number, rng)), False


def _color(picture: _Picture, yes: bool, names: _Names) -> Answer | None:
    rng = names.rng
    plain = [label for label, colors in picture.colors.items() if len(set(colors)) == 1]
    painted = [label for label in plain if picture.colors[label][0] > 0]
    if not painted:
        if yes or not plain or rng.random() > _UNPAINTED:
            return None
        painted = plain
    label = rng.choice(painted)
    color = picture.colors[label][0] if yes else names.wrong_color(picture, label)
    if not color:
        return None
    number = len(picture.slots[label])
    return questions.colored(names.classes[label], _COLOR_NAMES[color - 1], number, names.wording()), yes


def _relation(picture: _Picture, yes: bool, names: _Names) -> Answer | None:
    rng = names.rng
    if not picture.slots:
        return None
    here = list(picture.slots)
    if not yes and rng.random() < (_ABSENT if len(here) > 1 else _ABSENT / 4):
        pair = [rng.choice(here), names.absent(picture)]
        rng.shuffle(pair)
        return _related(picture, pair[0], rng.randint(1, 4), pair[1], names), False
    if len(here) < 2:
        return None
    first, second = rng.sample(here, 2)
    # True ones first: the opposite of a true one is the hardest wrong one.
    holding = [r for r in range(1, 5) if _shown(picture, first, r, second, 1)]
    if yes:
        return (_related(picture, first, rng.choice(holding), second, names), True) if holding else None
    opposite = [r for r in range(1, 5) if _shown(picture, second, r, first, 1)]
    if opposite and rng.random() < 0.7:
        return _related(picture, first, rng.choice(opposite), second, names), False
    wrong = [r for r in range(1, 5) if _shown(picture, first, r, second, 0)]
    return (_related(picture, first, rng.choice(wrong), second, names), False) if wrong else None


def _shown(picture: _Picture, first: int, relation: int, second: int, state: int) -> bool:
    """Whether every pair of two classes is in that state of a relation."""
    table = picture.relations
    return all(table[a][b][relation] == state for a in picture.slots[first] for b in picture.slots[second])


def _related(picture: _Picture, first: int, relation: int, second: int, names: _Names) -> str:
    counts = (len(picture.slots.get(first, "1")), len(picture.slots.get(second, "1")))
    name, target = names.classes[first], names.classes[second]
    return questions.related(name, RELATIONS[relation], target, counts, names.wording())


def _off_by_one(number: int, rng: random.Random) -> int:
    near = [other for other in (number - 1, number + 1) if 1 <= other <= MAX_OBJECTS]
    return rng.choice(near)

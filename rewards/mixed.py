"""The critic `mixed`: MILR's MixedReward, put together from the critics that it is made of.

Where things are and how many (`grounding-dino`), whether they are there in their colours (`git-vqa`), how well the
caption is met (`unified-reward`), in one recipe also what people prefer (`hps`). Every part is brought to 0..1 by its
range and enters with the weight that MILR's code (`MixedReward/reward*.py`, arXiv 2509.22761) gives it:

    recipe   prompts about colours            other prompts
    v1       .4 DINO  .4  GIT  .2 Unified              the same
    v2       .35 DINO .35 GIT  .2 Unified  .1 HPS      the same
    v3       .4 DINO  .4  GIT  .2 Unified              .6 DINO  .2  GIT  .2 Unified
    v4       .5 DINO  .5  GIT                          .75 DINO .25 GIT

v3 is the one that the paper calls MixedReward. What differs from the reference: it takes 1 from the sum, so that its
best is 0; here the sum stays in 0..1. It asks version 1 of UnifiedReward for a final score that holds quality too; here
version 2.0 gives its score for alignment. Its GroundingDINO is the small one (Swin-T), its HPS is version 2.0.

Knows nothing about pictures: what a part sees is in its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from PIL import Image

from milr.errors import UnknownNameError
from milr.prompts import Prompt
from milr.rewards import Reward, Score, kin_of, score_safely

from .language.requirements import requirements_of
from .networks.checkpoints import as_part_of

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

Recipe = Literal["v1", "v2", "v3", "v4"]
ABOUT_COLORS = frozenset({"colors", "color_attr"})  # tags of GenEval
RULE_VERSION = 1  # raise it when the same parts may score otherwise

_THREE = {"grounding-dino": 0.4, "git-vqa": 0.4, "unified-reward": 0.2}
_FOUR = {"grounding-dino": 0.35, "git-vqa": 0.35, "unified-reward": 0.2, "hps": 0.1}
# Weights for prompts about colours, and for the others.
_RECIPES: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
    "v1": (_THREE, _THREE),
    "v2": (_FOUR, _FOUR),
    "v3": (_THREE, {"grounding-dino": 0.6, "git-vqa": 0.2, "unified-reward": 0.2}),
    "v4": ({"grounding-dino": 0.5, "git-vqa": 0.5}, {"grounding-dino": 0.75, "git-vqa": 0.25}),
}
_OPTIONS = {"grounding-dino": "grounding_dino", "git-vqa": "git", "unified-reward": "unified", "hps": "hps"}


class Mixed(Reward):
    """MILR's MixedReward: a detector, a network for questions and a trained judge, weighted by the kind of prompt.

    Parts are the critics, each in 0..1. A picture that one of them cannot score has no score.

    Args:
        facts: of the model whose pictures are scored.
        device: where the critics run.
        recipe: which critics count how much.
        grounding_dino: hub id or folder of that critic's weights; its default when not given.
        git: the same for `git-vqa`.
        unified: the same for `unified-reward`.
        hps: the same for `hps`.

    Raises:
        UnknownNameError: another recipe.
    """

    name = "mixed"
    range = (0.0, 1.0)
    checkpoint = "those of grounding-dino, git-vqa and unified-reward"
    licence = "those of its parts"
    size_mb = 19133.0

    def __init__(
        self,
        *,
        facts: ModelFacts | None = None,
        device: str = "cpu",
        recipe: Recipe = "v3",
        grounding_dino: str | None = None,
        git: str | None = None,
        unified: str | None = None,
        hps: str | None = None,
    ) -> None:
        if recipe not in get_args(Recipe):
            raise UnknownNameError(f"recipe of reward {self.name!r}:", recipe, get_args(Recipe))
        self._recipe = recipe
        sources = {"grounding-dino": grounding_dino, "git-vqa": git, "unified-reward": unified, "hps": hps}
        self._critics = {name: _critic(name, facts, device, sources[name]) for name in _RECIPES[recipe][0]}
        self.size_mb = sum(critic.size_mb for critic in self._critics.values())
        self.kin = kin_of(self._critics.values())

    @property
    def version(self) -> str:  # type: ignore[override]
        """Exact once the weights are loaded: before, a commit on the hub is not known."""
        parts = "+".join(f"{name}@{critic.version}" for name, critic in self._critics.items())
        return f"{RULE_VERSION}-{self._recipe}-{parts}"

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that a part cannot score, and weights that cannot be used."""
        super().check(prompt)
        for name, critic in self._critics.items():
            with as_part_of(self.name, {f"{name}.model": _OPTIONS[name]}):
                critic.check(prompt)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Score]:
        ranges = {name: critic.range for name, critic in self._critics.items()}
        columns = {name: score_safely(critic, images, prompts) for name, critic in self._critics.items()}
        return [
            mix(weights_of(self._recipe, _tag(prompt)), {name: columns[name][row] for name in columns}, ranges)
            for row, prompt in enumerate(prompts)
        ]


def weights_of(recipe: str, tag: str | None) -> Mapping[str, float]:
    """How much each part counts for a prompt of GenEval's `tag`; the weights add up to 1."""
    about_colors, others = _RECIPES[recipe]
    return about_colors if tag in ABOUT_COLORS else others


def mix(weights: Mapping[str, float], scores: Mapping[str, Score], ranges: Mapping[str, tuple[float, float]]) -> Score:
    """The weighted sum of the scores of one picture, each brought to 0..1; a failure where one of them is."""
    parts = {}
    for name in weights:
        value = scores[name].value
        if value is None:
            return Score(None, error=f"{name}: {scores[name].error}")
        low, high = ranges[name]
        parts[name] = min(max((value - low) / (high - low), 0.0), 1.0)
    total = sum(weight * parts[name] for name, weight in weights.items())
    return Score(total, parts, "; ".join(f"{name}: {scores[name].reason}" for name in weights if scores[name].reason))


def _tag(prompt: Prompt) -> str | None:
    return requirements_of(prompt, None, None).metadata.get("tag")


def _critic(name: str, facts: ModelFacts | None, device: str, source: str | None) -> Reward:
    """One part, with its default weights unless a source is given."""
    from .git_vqa import GitVqa
    from .grounding_dino import GroundingDino
    from .hps import Hps
    from .unified_reward import UnifiedReward

    kinds: dict[str, Callable[..., Reward]] = {
        "grounding-dino": GroundingDino,
        "git-vqa": GitVqa,
        "unified-reward": UnifiedReward,
        "hps": Hps,
    }
    chosen = {} if source is None else {"model": source}
    return kinds[name](facts=facts, device=device, **chosen)

"""The contract of a benchmark: prompts, where its pictures lie, who judges them, and which numbers it reports.

A benchmark is a plugin of group `milr.benchmarks`: a subclass of `Benchmark`. It describes; it loads no network, draws
nothing and writes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from milr.prompts import Prompt

if TYPE_CHECKING:
    from milr.models.base import ModelFacts

Weights = Callable[[Mapping[str, int]], Mapping[str, float]]


@dataclass(frozen=True)
class SourceFile:
    """One official file.

    Attributes:
        name: under which it lies in the folder of the benchmark.
        path: in the repository.
        sha256: of its content.
        size: bytes.
    """

    name: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Source:
    """Where the official files of a benchmark come from: one commit of one repository on GitHub."""

    repository: str
    commit: str
    licence: str
    files: tuple[SourceFile, ...]


@dataclass(frozen=True)
class Role:
    """A critic in a role: who judges, who steers.

    Attributes:
        critic: as `--reward` takes it: "geneval", "judge:wise".
        options: of its plugin, e.g. {"mode": "binary"}.
        title: what results call it; the critic itself when empty. "geneval-hf" is GenEval's rule with other weights.
    """

    critic: str
    options: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def name(self) -> str:
        """What results call it."""
        return self.title or self.critic


@dataclass(frozen=True)
class Roles:
    """Who does what where nobody says otherwise, for the pictures of one model.

    Attributes:
        judge: measures as the benchmark does.
        critic: may steer a search of which the judge reports: no kin of the judge.
        held_out: reports beside the judge where the judge itself, or its kin, has steered.
    """

    judge: Role
    critic: Role
    held_out: Role


def equal_tags(counts: Mapping[str, int]) -> Mapping[str, float]:
    """Each tag counts the same, however many prompts it has."""
    return {tag: 1 / len(counts) for tag in counts}


def equal_prompts(counts: Mapping[str, int]) -> Mapping[str, float]:
    """Each prompt counts the same."""
    total = sum(counts.values())
    return {tag: count / total for tag, count in counts.items()}


@dataclass(frozen=True)
class Figure:
    """One number that a benchmark reports: a weighted mean of the means of its tags.

    Attributes:
        name: "overall", "prompts with any correct image".
        weights: from the number of prompts per tag to the weight of each; they sum to 1. A tag that it leaves out has
            no part in the figure, and a figure without weights is not reported.
        part: which part of a judge's score is meant; the score's value when None.
        over_images: the mean over a prompt's pictures, or the greatest of them.
    """

    name: str
    weights: Weights = equal_tags
    part: str | None = None
    over_images: Literal["mean", "any"] = "mean"


class Benchmark(ABC):
    """A benchmark. Subclasses are made without arguments.

    Attributes:
        name: as registered.
        description: one line.
        licence: of the prompts.
        source: of the official files; None when the prompts ship with the package.
        categories: the tags, in the order of the table.
        images_per_prompt: of the official protocol.
        figures: what may be reported; the first one that is reported is the headline. One that would be misread where
            tags are missing gives no weights there, and where none gives any, the mean of the tags is reported.
        paper_targets: by tag, the score from which a search of MILR's published protocol is done; those of the judge
            itself where a tag is missing.
    """

    name: str
    description: str
    licence: str = "unknown"
    source: Source | None = None
    categories: tuple[str, ...]
    images_per_prompt: int = 1
    figures: tuple[Figure, ...] = (Figure("overall"),)
    paper_targets: Mapping[str, float] = {}

    @abstractmethod
    def load(self, path: Path | None = None, categories: Sequence[str] = ()) -> list[Prompt]:
        """The prompts, all or those of some categories, in the official order.

        Every prompt has its official id, safe as a file name, and in its metadata `tag`, one of `categories`, and what
        critics need (`include`, `explanation`, `vqa_list`, ...).

        Args:
            path: a folder with the official files by name, or the file itself where there is but one; None for those
                that ship with the package.

        Raises:
            PromptError: a file is missing or not what it should be; the message has file, line and reason.
        """

    @abstractmethod
    def image_path(self, prompt: Prompt, image_index: int, images: int) -> PurePosixPath:
        """Where a picture lies below the folder of images, as the official scorers expect it, of so many a prompt."""

    def find_images(self, folder: Path, prompt: Prompt) -> list[Path]:
        """The pictures of a prompt, in their order, in a folder of images that others made in the official layout.

        The default knows the names that `image_path` gives.
        """
        found: list[Path] = []
        while (path := Path(folder, self.image_path(prompt, len(found), self.images_per_prompt))).is_file():
            found.append(path)
        return found

    def other_files(self, images: Sequence[tuple[Prompt, int]]) -> Mapping[PurePosixPath, bytes]:
        """What official scorers want beside the pictures, by path below the folder of images."""
        return {}

    @abstractmethod
    def roles(self, facts: ModelFacts | None) -> Roles:
        """Who judges and who may steer, for the pictures of a model; None for pictures of unknown origin."""

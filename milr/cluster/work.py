"""Which searches wait, which are out with a worker, and where each stands. Knows nothing of Ray.

The work is what survives a worker: its searches go to another one and go on from the last step that was heard of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from milr.errors import RunError
from milr.events import Event, Failed, Finished, Key, Progress, Stepped
from milr.prompts import Prompt

DEATHS = 3  # of workers, one after another over the same searches; a machine that is taken away rarely does that


@dataclass
class Part:
    """Searches that are out with one worker.

    Attributes:
        prompts: of the searches that have not ended.
        resume: where they stood when they were handed out.
    """

    prompts: dict[Key, Prompt]
    resume: dict[Key, Progress]


@dataclass
class Work:
    """The searches of one run that have not ended.

    Attributes:
        waiting: those that no worker has, in the order they are handed out.
        progress: where they stand.
        deaths: how many workers died over a search since its last step.
    """

    waiting: dict[Key, Prompt]
    progress: dict[Key, Progress]
    deaths: dict[Key, int] = field(default_factory=dict)

    @staticmethod
    def of(prompts: Sequence[Prompt], images: int, skip: frozenset[Key], resume: Mapping[Key, Progress] | None) -> Work:
        """The work of a run; arguments as of `milr.search.refine`."""
        keys = {(prompt.id, index): prompt for prompt in prompts for index in range(images)}
        waiting = {key: prompt for key, prompt in keys.items() if key not in skip}
        return Work(waiting, {key: progress for key, progress in (resume or {}).items() if key in waiting})

    def take(self, count: int) -> Part:
        """The next searches."""
        keys = list(self.waiting)[:count]
        resume = {key: self.progress[key] for key in keys if key in self.progress}
        return Part({key: self.waiting.pop(key) for key in keys}, resume)

    def hear(self, part: Part, event: Event) -> None:
        """What happened to a search of a part."""
        key = (event.prompt.id, event.image_index)
        if isinstance(event, Stepped):
            self.progress[key] = event.progress
            for other in part.prompts:  # they are decoded together: one step shows that none of them kills
                self.deaths.pop(other, None)
        elif isinstance(event, Finished | Failed):
            del part.prompts[key]
            self.progress.pop(key, None)

    def lose(self, part: Part, why: str) -> None:
        """A worker died; its searches are done by the next one.

        Raises:
            RunError: too many have died over them.
        """
        for key in part.prompts:
            self.deaths[key] = self.deaths.get(key, 0) + 1
        self.waiting = part.prompts | self.waiting
        worst = max(part.prompts, key=self.deaths.__getitem__, default=None)
        if worst is not None and self.deaths[worst] >= DEATHS:
            raise RunError(
                f"{DEATHS} workers died one after another before a step of {part.prompts[worst].text[:60]!r} was done "
                f"({why}); what was done is kept. If memory ran out, go on with --resume and a smaller --batch."
            )

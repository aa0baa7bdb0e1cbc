"""The crew: workers that hold a model and a critic, and the searches brought to them. Runs in the driver.

A worker that dies is replaced, and its searches go on from the last step that was heard of; what it was doing then is
all that is lost. Noise depends on the search alone, so the pictures are those of a single process.

Accepted: on GPUs and on CPUs with other numbers of threads, sums round differently in the last bit, as between any two
machines. A driver whose cluster loses its head ends with it; the run folder goes on with --resume.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from milr.cluster.joining import import_ray, joined
from milr.cluster.shares import Share, searches_for_one, share_of
from milr.cluster.work import DEATHS, Part, Work
from milr.cluster.worker import Home, Load, Raised, Worker
from milr.errors import RunError, UsageError
from milr.events import Event, Key, Progress
from milr.prompts import Prompt
from milr.rewards import one_line

_log = logging.getLogger(__name__)

_PATIENCE = 600.0  # seconds until some worker finds room on a busy cluster


@contextmanager
def open_crew(
    load: Load,
    address: str | None = None,
    *,
    workers: int | None = None,
    cpus_per_worker: int | None = None,
    device: str = "auto",
    variables: Collection[str] = (),
) -> Iterator[Crew]:
    """Workers on a Ray cluster until the end of the block; they start when there is something to search.

    Args:
        load: makes model and critic on a device; called once in each worker.
        address: of a cluster to join, "host:port" or "auto"; RAY_ADDRESS, or else a new one on this machine.
        workers: how many; as many as there is room for when not given.
        cpus_per_worker: CPUs of each, and so its threads; its part of the node's beside a GPU, 1 elsewhere.
        device: "auto" (one GPU for each worker where the cluster has any), "cuda" or "cpu".
        variables: environment variables that workers need as they are here, beside those that `Home` carries anyway.

    Raises:
        UsageError: Ray is not installed, there is no cluster, or it has no room for the workers.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers is {workers!r}; it must be at least 1.")
    with joined(address) as started_here:
        ray = import_ray()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        share = share_of(nodes, device, cpus_per_worker)
        if share.room < (workers or 1) and (started_here or workers is None):  # others may get nodes when asked
            raise UsageError(
                f"there is room for {share.room} workers of {share} each, not for {workers or 1}; "
                "give fewer --workers or --cpus-per-worker."
            )
        crew = Crew(ray, load, Home.of_driver(variables), share, workers or share.room)
        try:
            yield crew
        finally:
            crew.dismiss()


@dataclass(eq=False)
class _Member:
    """A worker as the driver sees it.

    Attributes:
        pending: what it was asked for last: a reference, or the stream of a search's events; None when it is idle.
        part: the searches it has.
    """

    actor: Any
    pending: Any
    stage: Literal["placing", "loading", "idle", "searching"] = "placing"
    host: str = ""
    process_id: int = 0
    rows: int = 1
    part: Part | None = None


class Crew:
    """Workers of a cluster. Use `open_crew`.

    Attributes:
        share: what each worker holds.
        size: how many there are at most.
    """

    def __init__(self, ray: Any, load: Load, home: Home, share: Share, size: int) -> None:
        self.share, self.size = share, size
        self._ray, self._home = ray, home
        self._load = ray.cloudpickle.dumps(load)
        self._members: list[_Member] = []
        self._bad_starts = 0  # one after another

    @property
    def device(self) -> str:
        """Where the workers decode: "cuda" or "cpu"."""
        return self.share.device

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that have found a place."""
        return [member.process_id for member in self._members if member.process_id]

    def assemble(self) -> None:
        """Starts all workers and waits until each has loaded, for who wants to time them.

        Raises:
            RunError: a model that no worker can load.
        """
        nothing = Work({}, {})
        while len(self._members) < self.size or any(member.pending for member in self._members):
            self._hire(self.size)
            for member in self._answering():
                list(self._hear(member, nothing))

    def refine(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int = 4,
        images: int = 1,
        batch: int | None = None,
        skip: frozenset[Key] = frozenset(),
        resume: Mapping[Key, Progress] | None = None,
        **options: Any,
    ) -> Generator[Event, None, None]:
        """The events of `milr.search.refine`, those of each search in their order.

        A search whose worker died is started again, from where it stood. Rollouts come without states and latents.
        Closed before its end, it ends the workers that are searching.

        Args:
            options: the others of `milr.search.refine`.

        Raises:
            UsageError: as `milr.search.refine`.
            RunError: a model that no worker can load, or a search that kills whoever takes it.
        """
        work = Work.of(prompts, images, skip, resume)
        options = {"samples": samples, "batch": batch, **options}
        try:
            while work.waiting or any(member.part for member in self._members):
                out = sum(len(member.part.prompts) for member in self._members if member.part)
                self._hire(min(self.size, len(work.waiting) + out))
                self._hand_out(work, options)
                for member in self._answering():
                    yield from self._hear(member, work)
        finally:
            for member in [member for member in self._members if member.part]:  # an interrupted search
                self._let_go(member)

    def dismiss(self) -> None:
        """Ends all workers."""
        for member in list(self._members):
            self._let_go(member)

    # Members

    def _hire(self, wanted: int) -> None:
        """So many members, those included that replace the dead."""
        make = self._ray.remote(Worker).options(num_cpus=self.share.cpus, num_gpus=self.share.gpus)
        for _ in range(wanted - len(self._members)):
            actor = make.remote(self._home, self.share.cpus)
            self._members.append(_Member(actor, actor.place.remote()))

    def _let_go(self, member: _Member) -> None:
        self._members.remove(member)
        self._ray.kill(member.actor)

    def _hand_out(self, work: Work, options: Mapping[str, Any]) -> None:
        idle = [member for member in self._members if member.stage == "idle"]
        while idle and work.waiting:
            together = options["batch"] or max(1, idle[0].rows // options["samples"])
            count = searches_for_one(len(work.waiting), len(self._members), len(idle), together, self.device)
            member = idle.pop(0)
            member.part, member.stage = work.take(count), "searching"
            search = member.actor.search.options(num_returns="streaming")
            member.pending = search.remote(member.part.prompts, member.part.resume, options)

    def _answering(self) -> list[_Member]:
        """Waits for a member; several have something to say where the driver is slower than they are."""
        pending = [member.pending for member in self._members if member.pending is not None]
        unplaced = all(member.stage == "placing" for member in self._members)
        ready, _ = self._ray.wait(pending, timeout=_PATIENCE if unplaced else None)
        if not ready:
            raise RunError(
                f"no worker found room on the cluster in {_PATIENCE / 60:.0f} minutes; each takes {self.share}, and "
                "others seem to hold them."
            )
        more, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        return [member for member in self._members if member.pending in ready or member.pending in more]

    def _hear(self, member: _Member, work: Work) -> Iterator[Event]:
        """What a member answered."""
        try:
            answer = self._ray.get(next(member.pending) if member.stage == "searching" else member.pending)
        except StopIteration:
            member.part, member.pending, member.stage = None, None, "idle"
            return
        except self._ray.exceptions.RayError as error:
            self._lose(member, work, str(error).partition("\n")[0].strip(" .") or type(error).__name__)
            return
        if isinstance(answer, Raised):
            if member.stage == "searching":
                raise answer.error
            raise RunError(f"the worker on {member.host} cannot load: {answer.error}") from answer.error
        if member.stage == "placing":
            member.host, member.process_id = answer
            member.pending, member.stage = member.actor.load.remote(self._load, self.device), "loading"
        elif member.stage == "loading":
            member.rows, member.pending, member.stage = answer, None, "idle"
            self._bad_starts = 0
        elif member.part is not None:
            work.hear(member.part, answer)
            yield answer

    def _lose(self, member: _Member, work: Work, why: str) -> None:
        """A member is dead, or cut off."""
        part = member.part
        member.part = None
        self._let_go(member)
        if part is not None:
            _log.warning("a worker on %s is gone (%s); its searches go on elsewhere", member.host, one_line(why, 200))
            work.lose(part, one_line(why, 200))
            return
        self._bad_starts += 1
        if self._bad_starts >= DEATHS:
            raise RunError(f"{DEATHS} workers died one after another while they loaded ({one_line(why, 200)}).")

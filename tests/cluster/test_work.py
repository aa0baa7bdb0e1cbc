"""Who gets how many searches, and what a death costs."""

from __future__ import annotations

import pytest
from PIL import Image

from milr.cluster.shares import Share, searches_for_one, share_of
from milr.cluster.work import DEATHS, Work
from milr.cluster.worker import portable
from milr.errors import RunError, UnknownNameError, UsageError
from milr.events import Best, Failed, Finished, Progress, Step, Stepped
from milr.prompts import Prompt

APPLE, DOG = Prompt("an apple", id="apple"), Prompt("a dog", id="dog")
PROGRESS = Progress(Best(Image.new("RGB", (1, 1)), "", 0.5, "", 0, 0), 1, 1.0, 0.5, 0.1)


def work(*skip: tuple[str, int]) -> Work:
    return Work.of([APPLE, DOG], 2, frozenset(skip), None)


def stepped(prompt: Prompt) -> Stepped:
    return Stepped(prompt, 0, Step(0, [], [], {}, 0.1), PROGRESS, True)


def parts(waiting: int, workers: int, together: int, device: str) -> list[int]:
    """How a number of searches is given to a crew in which nobody is ever idle but at the start."""
    given: list[int] = []
    while waiting:
        idle = max(1, workers - len(given))
        given.append(searches_for_one(waiting, workers, idle, together, device))
        waiting -= given[-1]
    return given


def test_parts_become_smaller_so_that_all_end_together() -> None:
    assert parts(20, 2, 16, "cpu") == [5, 4, 3, 2, 2, 1, 1, 1, 1]
    assert parts(3, 2, 16, "cpu") == [1, 1, 1]
    assert parts(100, 2, 16, "cuda") == [25, 19, 16, 16, 16, 8]
    assert parts(10, 2, 16, "cuda") == [5, 5]


@pytest.mark.parametrize(
    ("nodes", "device", "cpus", "expected"),
    [
        ([{"CPU": 8}], "auto", None, Share("cpu", 1, 8)),
        ([{"CPU": 8}, {"CPU": 3}], "auto", 2, Share("cpu", 2, 5)),
        ([{"CPU": 4}, {"CPU": 64, "GPU": 8}], "auto", None, Share("cuda", 8, 8)),
        ([{"CPU": 64, "GPU": 8}, {"CPU": 8, "GPU": 4}], "cuda", None, Share("cuda", 2, 12)),
        ([{"CPU": 64, "GPU": 8}], "cpu", 16, Share("cpu", 16, 4)),
        ([{"CPU": 4}], "cuda", None, Share("cuda", 1, 0)),
    ],
)
def test_a_worker_holds_a_gpu_where_there_are_any_and_its_part_of_the_cpus(
    nodes: list[dict[str, float]], device: str, cpus: int | None, expected: Share
) -> None:
    assert share_of(nodes, device, cpus) == expected


def test_a_certain_gpu_is_refused() -> None:
    with pytest.raises(UsageError, match="cuda:1 does not go with --ray"):
        share_of([{"CPU": 1, "GPU": 2}], "cuda:1", None)


def test_searches_are_handed_out_in_order_without_those_that_are_done() -> None:
    waiting = work(("apple", 1))
    assert list(waiting.take(2).prompts) == [("apple", 0), ("dog", 0)]
    assert list(waiting.take(9).prompts) == [("dog", 1)]


def test_a_lost_search_goes_on_from_its_last_step_and_an_ended_one_is_not_redone() -> None:
    waiting = work()
    part = waiting.take(3)
    waiting.hear(part, stepped(APPLE))
    waiting.hear(part, Finished(DOG, 0, PROGRESS, "steps"))
    waiting.hear(part, Failed(APPLE, 1, "no score", None))
    waiting.lose(part, "killed")
    assert list(waiting.waiting) == [("apple", 0), ("dog", 1)]
    assert waiting.take(2).resume == {("apple", 0): PROGRESS}


def test_a_step_forgives_earlier_deaths() -> None:
    waiting = work(("dog", 0), ("dog", 1), ("apple", 1))
    for _ in range(2 * DEATHS):
        part = waiting.take(1)
        waiting.lose(part, "killed")
        part = waiting.take(1)
        waiting.hear(part, stepped(APPLE))
        waiting.lose(part, "killed")


def test_deaths_without_a_step_between_end_the_run() -> None:
    waiting = work()
    for _ in range(DEATHS - 1):
        waiting.lose(waiting.take(1), "killed")
    with pytest.raises(RunError, match=r"'an apple' was done \(killed\)"):
        waiting.lose(waiting.take(1), "killed")


def test_an_error_that_cannot_be_sent_becomes_the_nearest_that_can() -> None:
    assert type(portable(UnknownNameError("reward", "clpi", ["clip"]))) is UsageError
    assert str(portable(UnknownNameError("reward", "clpi", ["clip"]))).startswith("unknown reward 'clpi'.")
    assert type(portable(ValueError("no"))) is ValueError

    class LocalError(Exception):
        pass

    assert str(portable(LocalError("here"))) == "a worker failed: LocalError: here"

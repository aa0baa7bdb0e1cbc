"""Searches on a real Ray cluster of this machine: what a single process tells, whoever dies."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from milr import plugins
from milr.cluster import Crew, open_crew
from milr.cluster.joining import joined
from milr.errors import RunError, UsageError
from milr.events import Event, Stepped
from milr.search import refine

from .crews import OPTIONS, PROMPTS, histories, load_bright, load_mortal, load_nothing, load_telling, pictures

ray = pytest.importorskip("ray")

PATIENCE = 120  # seconds after which a process that does not get anywhere is given up

Driver = Callable[[int], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two CPUs that this process has joined."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def crew(cluster: None, tiny_model: Path, plugin_folder: Path) -> Iterator[Crew]:
    """Two workers that have found the plugin where the driver finds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(plugin_folder)
        plugins.plugins.cache_clear()
        with open_crew(partial(load_bright, str(tiny_model))) as crew:
            crew.assemble()
            yield crew
    plugins.plugins.cache_clear()


@pytest.fixture(scope="module")
def single(crew: Crew, tiny_model: Path) -> list[Event]:
    """What a single process tells."""
    model, reward = load_bright(str(tiny_model), "cpu")
    return list(refine(model, PROMPTS, reward, images=2, **OPTIONS))


@pytest.fixture
def graves(tmp_path: Path) -> Path:
    folder = tmp_path / "graves"
    folder.mkdir()
    return folder


def wait_for_end(process_id: int) -> bool:
    """Whether a process ends, or has ended."""
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)


def test_two_workers_tell_what_a_single_process_tells_and_stay_for_more(crew: Crew, single: list[Event]) -> None:
    told = list(crew.refine(PROMPTS, images=2, **OPTIONS))
    workers = crew.process_ids
    together = list(crew.refine(PROMPTS, images=2, **OPTIONS | {"batch": None}))
    assert crew.process_ids == workers
    assert len(set(workers)) == 2
    assert histories(told) == histories(single)
    assert pictures(together) == pictures(single)
    steps = [event.step for event in told if isinstance(event, Stepped)]
    assert not any(rollout.image_states.numel() for step in steps for rollout in step.rollouts)


def test_what_is_done_is_skipped_and_what_was_begun_goes_on(crew: Crew, single: list[Event]) -> None:
    begun, done = (PROMPTS[0].id, 1), (PROMPTS[1].id, 0)
    steps = [event for event in single if isinstance(event, Stepped) and (event.prompt.id, event.image_index) == begun]
    resume = {begun: steps[1].progress}
    rest = histories(crew.refine(PROMPTS, images=2, skip=frozenset([done]), resume=resume, **OPTIONS))
    expected = {key: told for key, told in histories(single).items() if key != done}
    expected[begun] = expected[begun][2:]
    assert rest == expected


def test_workers_that_are_killed_are_replaced_and_nothing_else_changes(crew: Crew, single: list[Event]) -> None:
    killed = crew.process_ids
    os.kill(killed[0], signal.SIGKILL)  # while it is idle
    told: list[Event] = []
    for event in crew.refine(PROMPTS, images=2, **OPTIONS):
        told.append(event)
        if len(told) == 3:
            os.kill(killed[1], signal.SIGKILL)  # in the middle, most likely
    assert not set(killed) & set(crew.process_ids)
    assert histories(told) == histories(single)


def test_a_mistake_in_the_options_comes_back_as_itself(crew: Crew) -> None:
    with pytest.raises(UsageError, match=r"unknown method 'milk'\. Did you mean 'milr'\?"):
        list(crew.refine(PROMPTS[:1], method="milk"))
    with pytest.raises(TypeError) as caught:
        list(crew.refine(PROMPTS[:1], tempo="slow"))
    assert "in a worker" in caught.value.__notes__[0]


def test_a_search_that_is_closed_ends_its_workers(crew: Crew) -> None:
    events = crew.refine(PROMPTS, images=2, **OPTIONS)
    next(events)
    before = crew.process_ids
    events.close()
    gone = set(before) - set(crew.process_ids)
    assert gone
    assert all(wait_for_end(worker) for worker in gone)


def test_a_crew_that_asks_for_too_much_is_told_what_there_is(cluster: None) -> None:
    with (
        pytest.raises(UsageError, match=r"room for 0 workers of 3 CPUs each"),
        open_crew(load_nothing, cpus_per_worker=3),
    ):
        pass


def test_nothing_to_do_starts_nobody(cluster: None) -> None:
    with open_crew(load_nothing) as crew:
        assert list(crew.refine(PROMPTS[:1], skip=frozenset([(PROMPTS[0].id, 0)]))) == []
        assert crew.process_ids == []


def test_an_address_where_nobody_is_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for address, message in [
        (f"127.0.0.1:{port}", "no Ray cluster answers at"),
        ("ray://127.0.0.1:10001", "an address for Ray clients"),
        ("cluster", "is no address of a Ray cluster"),
    ]:
        with pytest.raises(UsageError, match=message), joined(address):
            pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'milr\[ray\]'"), joined(None):
        pass


# Tests below need the cluster's CPUs for themselves, or none of it.


def test_a_model_that_does_not_load_is_one_line(crew: Crew) -> None:
    crew.dismiss()
    with (
        open_crew(load_nothing, workers=1) as others,
        pytest.raises(RunError, match=r"the worker on .* cannot load: unknown model 'nothing'\. .*mini"),
    ):
        list(others.refine(PROMPTS))


def test_keys_that_a_node_lacks_come_with_the_search(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MILR_JUDGE_KEY", "MY_KEY", "MY_OTHER_KEY"):  # the nodes were started before
        monkeypatch.setenv(name, f"that of {name}")
    load = partial(load_telling, ["MILR_JUDGE_KEY", "MY_KEY", "MY_OTHER_KEY"])
    told = r"cannot load: here are \['that of MILR_JUDGE_KEY', 'that of MY_KEY', None\]"
    with open_crew(load, workers=1, variables=["MY_KEY"]) as crew, pytest.raises(RunError, match=told):
        crew.assemble()


def test_a_search_that_kills_every_worker_ends_the_run_with_one_line(
    crew: Crew, tiny_model: Path, graves: Path
) -> None:
    crew.dismiss()
    with (
        open_crew(partial(load_mortal, str(tiny_model), str(graves), "99"), workers=1) as others,
        pytest.raises(RunError, match=r"3 workers died one after another before a step of '.*' was done") as caught,
    ):
        list(others.refine(PROMPTS[1:2], **OPTIONS))
    assert "\n" not in str(caught.value)
    assert len(list(graves.iterdir())) == 3


@pytest.fixture
def driver(tiny_model: Path, plugin_folder: Path, graves: Path, tmp_path: Path) -> Iterator[Driver]:
    """Starts a driver whose worker dies so many times."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{plugin_folder}{os.pathsep}{root}"}
    with ExitStack() as processes:

        def start(deaths: int) -> subprocess.Popen[str]:
            arguments = [str(tmp_path / "events"), "", "1", "mortal", str(tiny_model), str(graves), str(deaths)]
            command = [sys.executable, "-m", "tests.cluster.crews", *arguments]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
            processes.callback(process.kill)
            return processes.enter_context(process)

        yield start


def test_a_cluster_of_its_own_names_a_death_in_one_line_and_ends_with_the_run(
    driver: Driver, single: list[Event], tmp_path: Path
) -> None:
    stdout, stderr = driver(1).communicate(timeout=PATIENCE)
    (line,) = stderr.splitlines()
    assert line.startswith("a worker on ")
    assert " is gone (" in line
    lines = [line.split() for line in stdout.splitlines()]
    assert {name for name, *_ in lines} == {"Started", "Stepped", "Finished"}
    workers = {int(worker) for _, *workers in lines for worker in workers}
    assert len(workers) == 2
    assert all(wait_for_end(worker) for worker in workers)
    expected = histories(event for event in single if event.prompt in PROMPTS[:2] and not event.image_index)
    assert histories(pickle.loads((tmp_path / "events").read_bytes())) == expected


def test_an_interrupted_driver_leaves_no_process_behind(driver: Driver) -> None:
    process = driver(0)
    _, worker = process.stdout.readline().split()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert wait_for_end(int(worker))

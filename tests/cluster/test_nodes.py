"""A cluster of two nodes, each with daemons of its own, of which one is lost in the middle."""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from milr.search import refine

from .crews import OPTIONS, PROMPTS, histories, load_bright

PATIENCE = 120  # seconds after which a process that does not get anywhere is given up

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs the extra ray")


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The head and one node more, of one CPU each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    size = {"num_cpus": 1, "object_store_memory": 10**8}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **size})
    cluster.add_node(**size)
    yield cluster
    cluster.shutdown()


@pytest.mark.usefixtures("third_party_plugin")
def test_a_node_that_is_lost_takes_no_search_with_it(
    nodes: Any, tiny_model: Path, plugin_folder: Path, tmp_path: Path
) -> None:
    out, gate = tmp_path / "events", tmp_path / "gate"
    command = [sys.executable, "-m", "tests.cluster.crews", str(out), nodes.address, "2", "waiting"]
    command += [str(tiny_model), str(gate)]
    environment = os.environ | {"PYTHONPATH": f"{plugin_folder}{os.pathsep}{Path(__file__).parents[2]}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as driver:
        assert driver.stdout
        try:
            told = [driver.stdout.readline().split() for _ in range(2)]
            assert [event for event, *_ in told] == ["Started"] * 2  # on either node, and waiting for the gate
            workers = [os.pidfd_open(int(worker)) for worker in told[1][1:]]
            (other,) = nodes.worker_nodes
            nodes.remove_node(other, allow_graceful=False)
            lost = select.select(workers, [], [], PATIENCE)[0]
            gate.touch()
            _, stderr = driver.communicate(timeout=PATIENCE)
        finally:
            driver.kill()
    for worker in workers:
        os.close(worker)
    assert len(lost) == 1
    assert driver.returncode == 0, stderr
    assert " is gone (" in stderr
    model, reward = load_bright(str(tiny_model), "cpu")
    assert histories(pickle.loads(out.read_bytes())) == histories(refine(model, PROMPTS[:4], reward, **OPTIONS))

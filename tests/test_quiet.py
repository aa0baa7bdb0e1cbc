"""Libraries are silenced while they load, by one thread or several, and talk again afterwards."""

from __future__ import annotations

import logging
from contextlib import suppress
from threading import Barrier, Thread

import pytest
from transformers.utils import logging as transformers_logging

from milr.quiet import quiet


def test_warnings_are_silent_inside_and_heard_again_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("some.library")
    bars = transformers_logging.is_progress_bar_enabled()
    with suppress(ValueError), quiet():
        log.error("retrying")
        assert not transformers_logging.is_progress_bar_enabled()
        raise ValueError("damaged")
    log.warning("heard")
    assert caplog.messages == ["heard"]
    assert transformers_logging.is_progress_bar_enabled() == bars


def test_two_threads_leave_logging_as_it_was() -> None:
    before = logging.root.manager.disable
    both = Barrier(2)

    def load() -> None:
        both.wait(10)
        for _ in range(200):
            with quiet():
                pass

    threads = [Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert logging.root.manager.disable == before

"""The tables of the comparison of methods."""

from __future__ import annotations

import numpy as np

from milr_benchmarks.methods import Cell, format_tags

TAGS = np.array(["colors", "colors", "position"])


def cell(budget: int, critic: list[bool], judge: list[bool]) -> Cell:
    return Cell("best-of-n", budget, budget, (1,), np.array([critic]), np.array([judge]), TAGS)


def test_the_table_by_tag_shows_critic_and_judge_for_every_budget() -> None:
    cells = [
        cell(1, [True, False, False], [False, False, False]),
        cell(8, [True, True, False], [True, False, False]),
        cell(16, [True, True, True], [True, False, True]),
    ]
    assert format_tags(cells).splitlines() == [
        "| method | images | colors | position |",
        "| --- | --- | --- | --- |",
        "| best-of-n | 1 | 0.500 / 0.000 | 0.000 / 0.000 |",
        "| best-of-n | 8 | 1.000 / 0.500 | 0.000 / 0.000 |",
        "| best-of-n | 16 | 1.000 / 0.500 | 1.000 / 1.000 |",
    ]

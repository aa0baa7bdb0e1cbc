"""What a critic's values are worth, from its values of right and of wrong pictures; arrays of N pairs in fp64.

Knows nothing about pictures or critics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
BOOTSTRAPS = 1000

_UNSHOWN = ("pairs", "failed")  # columns of the JSON alone

Values = NDArray[np.float64]


def figures(
    right: Values, wrong: Values, kinds: Sequence[str], accepts: float | None, curve: tuple[float, float]
) -> dict[str, Any]:
    """One row of the table.

    Args:
        right, wrong: [N] values; NaN where the critic failed.
        kinds: what is wrong with the wrong picture of each pair.
        accepts: the value from which the critic itself calls a picture right.
        curve: slope and intercept that turn a value into a probability.
    """
    scored = ~(np.isnan(right) | np.isnan(wrong))
    right, wrong, kind = right[scored], wrong[scored], np.array(kinds)[scored]
    table: dict[str, Any] = {"pairs": len(right), "failed": int((~scored).sum())}
    if not len(right):
        return table
    table["auc"] = _with_interval(auc, right, wrong)
    table["paired"] = _with_interval(paired, right, wrong)
    for name in sorted(set(kinds)):
        table[f"paired {name}"] = round(paired(right[kind == name], wrong[kind == name]), 4)
    if accepts is not None:
        table["right accepted"] = round(float((right >= accepts).mean()), 4)
        for name in sorted(set(kinds)):
            table[f"{name} accepted"] = round(float((wrong[kind == name] >= accepts).mean()), 4)
    table["error"] = round(calibration_error(right, wrong, curve), 4)
    return table


def auc(right: Values, wrong: Values) -> float:
    """The chance that a right picture scores higher than a wrong one, a tie counting half."""
    ordered = np.sort(wrong)
    below, up_to = np.searchsorted(ordered, right, "left"), np.searchsorted(ordered, right, "right")
    return float(((below + up_to) / 2 / len(wrong)).mean())


def paired(right: Values, wrong: Values) -> float:
    """The share of pairs in which the right picture scores higher, a tie counting half."""
    return float(((right > wrong) + 0.5 * (right == wrong)).mean()) if len(right) else float("nan")


def logistic_curve(right: Values, wrong: Values) -> tuple[float, float]:
    """Slope and intercept of the probability that a picture of some value is right, by Newton's method.

    A little ridge keeps the slope finite where values tell right from wrong without a mistake.
    """
    values = np.concatenate([right, wrong])
    labels = np.concatenate([np.ones_like(right), np.zeros_like(wrong)])[~np.isnan(values)]
    values = values[~np.isnan(values)]
    if not len(values):
        return 0.0, 0.0
    centre, spread = values.mean(), values.std() or 1.0
    inputs = np.stack([(values - centre) / spread, np.ones_like(values)], axis=1)  # [N, 2]
    weights = np.zeros(2)
    ridge = np.diag([1e-3, 1e-6]) * len(values)
    for _ in range(50):
        chance = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (labels - chance) - ridge @ weights
        weights = weights + np.linalg.solve((inputs.T * (chance * (1 - chance))) @ inputs + ridge, gradient)
    return float(weights[0] / spread), float(weights[1] - weights[0] * centre / spread)


def calibration_error(right: Values, wrong: Values, curve: tuple[float, float]) -> float:
    """Expected calibration error: over bins of the probability, how far it is from the share that is right."""
    values = np.concatenate([right, wrong])
    truth = np.concatenate([np.ones_like(right), np.zeros_like(wrong)])
    chance = _sigmoid(curve[0] * values + curve[1])
    bins = np.minimum((chance * BINS).astype(int), BINS - 1)
    return float(
        sum(abs(chance[bins == b].mean() - truth[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    )


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as it stands in the documentation."""
    columns = [name for name in dict.fromkeys(n for row in results.values() for n in row) if name not in _UNSHOWN]
    lines = ["| critic | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    lines += [
        f"| {name} | " + " | ".join(_cell(row.get(column)) for column in columns) + " |"
        for name, row in results.items()
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "{:.3f} [{:.3f}, {:.3f}]".format(*value)
    return "" if value is None else f"{value:.3f}"


def _with_interval(figure: Callable[[Values, Values], float], right: Values, wrong: Values) -> list[float]:
    """The figure and its 95 % bootstrap interval over pairs."""
    generator = np.random.default_rng(0)
    rows = generator.integers(len(right), size=(BOOTSTRAPS, len(right)))
    low, high = np.quantile([figure(right[row], wrong[row]) for row in rows], [0.025, 0.975])
    return [round(float(value), 4) for value in (figure(right, wrong), low, high)]


def _sigmoid(values: Values) -> Values:
    return 1 / (1 + np.exp(-np.clip(values, -60, 60)))

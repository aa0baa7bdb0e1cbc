"""Markdown tables of results: one for all shapes, and one with every figure for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
_NONE = ""
_HEADER = ("shape", "what", "ms / token", "s / image", "GB/s", "x roofline", "peak GB", "warm-up s", "x reference")
_DETAILS = (
    "batch", "seconds", "ms / token", "s / image", "images/s", "GB / step", "GB/s", "roofline s", "x roofline",
    "peak GB", "warm-up s", "x reference",
)  # fmt: skip


def format_table(records: Sequence[Record]) -> str:
    """One row for each way of drawing and each step, of every run."""
    rows = [row for record in records for row in _rows(record)]
    return "\n".join([*_devices(records), "", *_markdown(_HEADER, rows)])


def format_details(record: Record) -> str:
    """The engine at each batch with every figure, and what else was measured of a shape."""
    lines = [f"### {record['shape']}, {record['dtype']}, {record['device']['name']}", ""]
    measurements = record["measurements"]
    rows = [_detail(batch, figures) for batch, figures in measurements.get("engine", {}).items()]
    lines += _markdown(_DETAILS, rows)
    return "\n".join([*lines, "", *(f"- {line}" for line in _remarks(measurements))])


def _devices(records: Sequence[Record]) -> list[str]:
    seen = {}
    for record in records:
        device = record["device"]
        copy = record["measurements"].get("copy", {}).get("bytes_per_second")
        versions = f"torch {device['torch']}, transformers {device['transformers']}"
        seen[device["name"]] = f"{device['name']}: copies at {_number((copy or 0) / 1e9)} GB/s; {versions}."
    return list(seen.values())


def _rows(record: Record) -> Iterator[list[str]]:
    measurements = record["measurements"]
    name = f"{record['shape']}, {record['device']['name']}, {record['dtype']}"
    titles = {
        "reference": "reference procedure",
        "generate": "transformers `generate`",
        "plain_cached": "plain cached loop",
    }
    for key, title in titles.items():
        figures = measurements.get(key)
        if figures:
            yield [name, title, *_way(figures, measurements)]
    for batch, figures in measurements.get("engine", {}).items():
        yield [name, f"engine, {batch} at once", *_engine(figures)]
    step = measurements.get("reference_step")
    if step:
        yield [name, "reference step", *_failed_or(step, [_NONE, _number(step.get("seconds")), *[_NONE] * 5])]
    for samples, figures in measurements.get("step", {}).items():
        cells = [_NONE, _number(figures.get("seconds_per_sample")), *[_NONE] * 4, _times(figures)]
        cells[4] = _number(figures.get("peak_memory_gb"))
        yield [name, f"MILR step, {samples} sample{'s' * (samples != '1')}", *_failed_or(figures, cells)]
    first = measurements.get("first_image")
    if first:
        yield [name, "first image, cold", *_failed_or(first, [_NONE, _number(first.get("seconds")), *[_NONE] * 5])]


def _way(figures: Record, measurements: Record) -> list[str]:
    """Cells of a way that draws one picture at a time."""
    reference = measurements.get("reference", {}).get("image_seconds")
    seconds = figures.get("image_seconds")
    times = _number(reference / seconds) if reference and seconds else _NONE
    cells = [_number(figures.get("ms_per_token")), _number(seconds), *[_NONE] * 3]
    return _failed_or(figures, [*cells, _number(figures.get("warm_up_seconds")), times])


def _engine(figures: Record) -> list[str]:
    keys = ("ms_per_token", "seconds_per_image", "gb_per_second", "ratio_to_roofline", "peak_memory_gb")
    cells = [_number(figures.get(key)) for key in (*keys, "warm_up_seconds")]
    return _failed_or(figures, [*cells, _times(figures)])


def _detail(batch: str, figures: Record) -> list[str]:
    keys = (
        "seconds", "ms_per_token", "seconds_per_image", "images_per_second", "gb_per_step", "gb_per_second",
        "roofline_seconds", "ratio_to_roofline", "peak_memory_gb", "warm_up_seconds",
    )  # fmt: skip
    return [batch, *_failed_or(figures, [*(_number(figures.get(key)) for key in keys), _times(figures)])]


def _remarks(measurements: Record) -> Iterator[str]:
    """Everything that has no column."""
    for name in ("reference", "reference_step", "generate", "plain_cached"):
        figures = measurements.get(name, {})
        if figures.get("extrapolated"):
            drawn, whole = figures["measured_tokens"], figures["image_tokens"]
            yield f"{name}: {drawn} of {whole} image tokens were drawn; the time of the rest is linear in them."
    for samples, figures in measurements.get("step", {}).items():
        parts = ", ".join(f"{key.removesuffix('_seconds')} {_number(figures.get(key))} s" for key in _STEP_PARTS)
        yield f"step, {samples} at once: {figures.get('failed') or parts}"
    for dtype, figures in measurements.get("exactness", {}).items():
        yield f"exactness in {dtype}: {figures.get('failed') or '; '.join(_shares(figures))}"
    for kind, figures in measurements.get("quantized", {}).items():
        yield f"{kind}: {figures.get('failed') or _quantized(figures)}"
    search = measurements.get("search")
    if search:
        yield f"search: {search.get('failed') or _search(search)}"
    overlap = measurements.get("overlap")
    if overlap:
        yield f"overlap: {overlap.get('failed') or _overlap(overlap)}"


_STEP_PARTS = ("seconds", "decode_seconds", "pixel_seconds", "update_seconds")


def _shares(figures: Record) -> Iterator[str]:
    for name, share in figures.items():
        if isinstance(share, Mapping):
            first = share["first_difference"]
            where = "" if first is None else f" (first difference at token {first})"
            yield f"{name.replace('_', ' ')}: {100 * share['equal']:.2f} % of tokens equal{where}"


def _quantized(figures: Record) -> str:
    speeds = (f"{batch} at once {_engine(engine)[1]} s / image" for batch, engine in figures["engine"].items())
    return (
        f"{', '.join(speeds)}; log-probability per token shifts by {figures['mean_shift']:.4f} on average, "
        f"{figures['max_shift']:.3f} at most (reading against drawing at full precision: "
        f"{figures['itself_mean_shift']:.4f}, {figures['itself_max_shift']:.3f}); KL {figures['mean_kl']:.5f}"
    )


def _search(figures: Record) -> str:
    told = {key: _number(value) for key, value in figures.items()}
    return (
        f"{told['steps']} steps of {told['samples']} samples, {told['pictures']} pictures, in {told['seconds']} s "
        f"(the critic {told['critic_seconds']} s of it); {told['plain_cached_decodes']} single plain cached decodes "
        f"in {told['plain_cached_seconds']} s ({told['plain_cached_decodes_timed']} of them timed): "
        f"{told['speed_up']} x"
    )


def _overlap(figures: Record) -> str:
    told = {key: _number(value) for key, value in figures.items()}
    return (
        f"{told['pictures']} pictures of {told['prompts']} prompts in {told['seconds']} s, and with --overlap in "
        f"{told['overlapping_seconds']} s"
    )


def _failed_or(figures: Record, cells: list[str]) -> list[str]:
    """The cells, or why there are none."""
    return [figures["failed"], *[_NONE] * (len(cells) - 1)] if "failed" in figures else cells


def _times(figures: Record) -> str:
    return _number(figures.get("times_reference"))


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _number(value: float | None) -> str:
    """Three significant digits; whole from a hundred on."""
    if value is None:
        return _NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

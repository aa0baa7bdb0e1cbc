"""Which prompts of which benchmark: the official files, and the options that choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from milr import plugins
from milr.errors import UnknownNameError, UsageError
from milr.prompts import Prompt

from .arguments import user_path
from .settings import Settings

if TYPE_CHECKING:
    from milr.evaluation.contract import Benchmark


def find_benchmark(name: str | None) -> Benchmark:
    """The benchmark of that name.

    Raises:
        UsageError: there is none.
    """
    if not name:
        raise UsageError(f"name a benchmark: {', '.join(plugins.plugins('benchmarks'))}; see milr list benchmarks.")
    benchmark: Benchmark = plugins.find("benchmarks", name).load()()
    return benchmark


def chosen_categories(settings: Settings, benchmark: Benchmark) -> list[str]:
    """Those of --categories; none for all.

    Raises:
        UnknownNameError: the benchmark has no such category.
    """
    categories = [text.strip() for text in (settings["categories"] or "").split(",") if text.strip()]
    for category in categories:
        if category not in benchmark.categories:
            raise UnknownNameError(f"category of {benchmark.name}:", category, benchmark.categories)
    return categories


def select_prompts(settings: Settings, benchmark: Benchmark) -> tuple[Sequence[Prompt], dict[str, Any]]:
    """The prompts, and what `data.verify` says of the files that they are from.

    Raises:
        UsageError: a file, a category or a shard that is not there.
    """
    from milr.evaluation.data import find, verify
    from milr.evaluation.selection import limited, parse_shard, sharded
    from milr.run_files import to_json

    categories = chosen_categories(settings, benchmark)
    shard = parse_shard(settings["shard"]) if settings.values.get("shard") else None
    given = None if settings["data"] is None else user_path(settings["data"], "--data")
    path = given if benchmark.source is None else find(benchmark.name, benchmark.source, given)
    prompts = limited(benchmark.load(path, categories), settings["limit"])
    different = {to_json([prompt.text, prompt.metadata]) for prompt in prompts}
    if len(different) < len(prompts):
        repeated = len(prompts) - len(different)
        click.echo(f"milr: prompts that are there twice: {repeated}; intervals take them for different ones.", err=True)
    files = verify(benchmark.source, path) if benchmark.source is not None and path is not None else {}
    return sharded(prompts, *shard) if shard else prompts, files

"""The measurement of speed: what it counts, what it writes, that the published procedure runs. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from transformers import JanusForConditionalGeneration

from milr.models.janus import Janus
from milr_benchmarks.speed import plain
from milr_benchmarks.speed.__main__ import main
from milr_benchmarks.speed.engines import drawn_tokens
from milr_benchmarks.speed.quantized import distributions, time_quantized
from milr_benchmarks.speed.reference import Reference
from milr_benchmarks.speed.results import Results, add_speed_ups
from milr_benchmarks.speed.shapes import SHAPES, build
from milr_benchmarks.speed.subjects import (
    IMAGE_PROMPT_TOKENS,
    copied,
    equal_share,
    fixed_sampling,
    image_rows,
    never_stopping,
    noise_rows,
    shortened,
)
from milr_benchmarks.speed.table import format_details, format_table
from milr_benchmarks.speed.traffic import drawing_traffic, drawing_weights


@pytest.fixture(scope="module")
def model() -> Janus:
    return build(SHAPES["tiny"], "cpu", "float32")


# Shapes


@pytest.mark.parametrize(("name", "billions"), [("janus-pro-1b", 2.08), ("janus-pro-7b", 7.41)])
def test_the_large_shapes_have_the_parameters_of_the_real_checkpoints(name: str, billions: float) -> None:
    with torch.device("meta"):
        network = JanusForConditionalGeneration(SHAPES[name].config)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


def test_every_word_that_is_drawn_is_one_token_of_the_image_prompt(model: Janus) -> None:
    ids = list(range(7, 67))
    assert model.image_ids("w10", model.decode_text(ids))[2:-1] == ids


def test_prompts_have_the_lengths_of_real_ones(model: Janus) -> None:
    assert len(model.reasoning_ids(SHAPES["tiny"].prompt)) == 100
    assert [len(prompt) for prompt in image_rows(model, 3).prompts] == [62, 62, 62]


def test_rows_have_different_prompts_that_do_not_depend_on_how_many_there_are(model: Janus) -> None:
    three = image_rows(model, 3).prompts
    assert three[0] != three[1]
    assert image_rows(model, 2).prompts == three[:2]


# The published procedure


def test_the_reference_draws_a_first_picture_and_goes_a_step_on(model: Janus) -> None:
    search = Reference(never_stopping(model), SHAPES["tiny"].prompt, max_text=10)
    first = search.picture()
    assert (first["text_tokens"], first["measured_tokens"], first["extrapolated"]) == (10, 16, False)
    assert search.image.size == (8, 8)
    assert len(search.drawing.tokens) == len(search.drawing.states) == 16
    text = search.text.ids
    step = search.step(-0.5)
    assert (step["text_tokens"], step["image_tokens"]) == (10, 16)
    assert search.image.size == (8, 8)
    assert len(text) == 10


def test_the_reference_writes_what_a_greedy_loop_with_a_cache_writes(model: Janus) -> None:
    prompt, ids = SHAPES["tiny"].prompt, model.reasoning_ids(SHAPES["tiny"].prompt)
    search = Reference(never_stopping(model), prompt, max_text=10)
    sampling = fixed_sampling(model)
    greedy = type(sampling)(1.0, 1.0, reasoning_temperature=0.0, max_reasoning_tokens=10)
    with torch.no_grad():
        assert search.decode_text([]).ids == plain.reasoning(never_stopping(model), ids, noise_rows(model, 1), greedy)


def test_a_step_of_the_reference_lowers_the_likeliest_token_under_a_negative_reward(model: Janus) -> None:
    search = Reference(never_stopping(model), SHAPES["tiny"].prompt, max_text=10)
    search.picture()
    head = model.network.lm_head
    before = torch.stack(search.text.states[:2])
    likeliest = head(before).argmax(dim=-1, keepdim=True)
    search.step(-0.5)
    after = search.latents[0]
    assert after is not None
    assert len(after) == 2  # a fifth of ten

    def chance(states: torch.Tensor) -> torch.Tensor:
        return head(states).log_softmax(dim=-1).gather(-1, likeliest)

    assert (chance(after) < chance(before)).all()


def test_a_part_of_the_reference_is_drawn_at_three_places_and_said_to_be_a_part(model: Janus) -> None:
    facts = Reference(never_stopping(model), SHAPES["tiny"].prompt, max_text=4, measured_tokens=6).picture()
    assert (facts["measured_tokens"], facts["extrapolated"]) == (6, True)
    places = facts["ms_per_token_at_start_middle_end"]
    assert facts["ms_per_token"] == pytest.approx(sum(places) / 3)


# Bytes


def test_the_bytes_of_a_step_equal_a_count_by_hand(model: Janus) -> None:
    layer = 4 * 32 * 32 + 3 * 32 * 64 + 2 * 32
    head = (32 * 32 + 32) + (32 * 24 + 24)
    traffic = drawing_traffic(model.network.config, 3, 62, torch.float32)
    assert traffic.weights == 4 * (2 * layer + 32 + head)
    # Three pictures of two rows, 62 tokens of prompt and half of sixteen, two layers, a key and a value of 32, fp32.
    assert traffic.cache == 6 * (62 + 8) * 2 * 2 * 32 * 4
    projections = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    assert drawing_traffic(model.network.config, 3, 62, torch.float32, 1).weights == traffic.weights - 3 * projections
    assert traffic.roofline_seconds(16, 1000.0) == 16 * (traffic.weights + traffic.cache) / 1000


def test_the_weights_of_a_step_are_those_of_the_modules(model: Janus) -> None:
    inner = model.network.model
    read = (inner.language_model.layers, inner.language_model.norm, inner.generation_head)
    count = sum(parameter.numel() for module in read for parameter in module.parameters())
    assert drawing_weights(model.network.config) == count


def test_seven_billion_read_what_the_issue_counts() -> None:
    config = SHAPES["janus-pro-7b"].config
    assert config is not None
    assert drawing_traffic(config, 1, IMAGE_PROMPT_TOKENS, torch.bfloat16).weights == pytest.approx(12.3e9, rel=0.01)


# Comparisons


def test_equal_share_names_the_first_position_that_differs() -> None:
    one = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 4]])
    other = torch.tensor([[1, 2, 3, 4], [1, 0, 3, 0]])
    assert equal_share(one, other) == (0.75, 1)
    assert equal_share(one, one) == (1.0, None)


def test_a_shortened_model_shares_its_weights_and_a_copy_does_not(model: Janus) -> None:
    assert shortened(model, 5).facts.image_tokens == 5
    assert shortened(model, 5).network is model.network
    assert model.facts.image_tokens == 16
    copy = copied(model, torch.bfloat16)
    assert (copy.dtype, model.dtype) == (torch.bfloat16, torch.float32)


def test_reading_a_picture_gives_the_log_probabilities_of_drawing_it(model: Janus) -> None:
    tokens, log_probs = drawn_tokens(model, 2, capture=False)
    read = distributions(model, tokens).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(read, log_probs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_a_quantised_model_is_timed_and_its_shift_measured(model: Janus, precision: str) -> None:
    pytest.importorskip("torchao")
    figures = time_quantized(model, precision, [2], 1e10, repeats=1, patience=1.0)
    assert 0 < figures["mean_shift"] <= figures["max_shift"]
    assert figures["itself_max_shift"] < figures["max_shift"]
    assert figures["engine"]["2"]["batch"] == 2


# Results


def test_a_failure_is_recorded_in_one_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    results = Results(tmp_path / "r.json")

    def broken() -> dict[str, Any]:
        raise ValueError("one\ntwo")

    def full() -> dict[str, Any]:
        raise torch.OutOfMemoryError("tried to allocate everything")

    assert results.measure("generate", None, broken) is None
    assert results.measure("engine", "8", full) is None
    assert results.measure("engine", "1", lambda: {"seconds": 1.0}) is not None
    written = json.loads((tmp_path / "r.json").read_text())["measurements"]
    assert written["generate"]["failed"] == "ValueError: one two"
    assert written["engine"]["8"]["failed"] == "out of memory"
    assert written["engine"]["1"]["seconds"] == 1.0


def test_speed_ups_compare_with_the_reference_of_the_same_run() -> None:
    measurements: dict[str, Any] = {
        "reference": {"image_seconds": 60.0},
        "reference_step": {"seconds": 80.0},
        "engine": {"1": {"seconds_per_image": 3.0}, "64": {"failed": "out of memory"}},
        "step": {"4": {"seconds_per_sample": 2.0}},
    }
    add_speed_ups(measurements)
    assert measurements["engine"]["1"]["times_reference"] == 20.0
    assert measurements["step"]["4"]["times_reference"] == 40.0


def small_record() -> dict[str, Any]:
    return {
        "shape": "janus-pro-7b",
        "dtype": "bfloat16",
        "device": {"name": "NVIDIA H200", "torch": "2.11", "transformers": "5.17"},
        "measurements": {
            "copy": {"bytes_per_second": 4e12},
            "reference": {
                "image_seconds": 63.0,
                "ms_per_token": 109.4,
                "extrapolated": True,
                "measured_tokens": 48,
                "image_tokens": 576,
            },
            "engine": {
                "1": {"seconds": 2.1, "seconds_per_image": 2.1, "ms_per_token": 3.65, "ratio_to_roofline": 1.15},
                "64": {"failed": "out of memory"},
            },
            "exactness": {"float32": {"captured_and_uncaptured": {"equal": 1.0, "first_difference": None}}},
        },
    }


def test_the_table_has_a_row_for_each_way_and_batch() -> None:
    record = small_record()
    add_speed_ups(record["measurements"])
    name = "janus-pro-7b, NVIDIA H200, bfloat16"
    assert format_table([record]).splitlines() == [
        "NVIDIA H200: copies at 4,000 GB/s; torch 2.11, transformers 5.17.",
        "",
        "| shape | what | ms / token | s / image | GB/s | x roofline | peak GB | warm-up s | x reference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| {name} | reference procedure | 109 | 63 |  |  |  |  | 1 |",
        f"| {name} | engine, 1 at once | 3.65 | 2.1 |  | 1.15 |  |  | 30 |",
        f"| {name} | engine, 64 at once | out of memory |  |  |  |  |  |  |",
    ]


def test_details_say_what_was_extrapolated_and_how_exact_it_is() -> None:
    details = format_details(small_record())
    assert "- reference: 48 of 576 image tokens were drawn" in details
    assert "- exactness in float32: captured and uncaptured: 100.00 % of tokens equal" in details


# Command line


def test_a_quick_run_on_a_cpu_writes_every_measurement(tmp_path: Path) -> None:
    arguments = ["run", "--shape", "tiny", "--device", "cpu", "--quick", "--batches", "1,3", "--samples", "1,2"]
    answer = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    (path,) = tmp_path.glob("tiny-*.json")
    record = json.loads(path.read_text())
    measurements = record["measurements"]
    assert (record["shape"], record["dtype"], record["device"]["type"]) == ("tiny", "float32", "cpu")
    assert list(measurements["engine"]) == ["1", "3"]
    assert list(measurements["step"]) == ["1", "2"]
    failed = [name for name, figures in measurements.items() if "failed" in figures]
    assert not [name for name in failed if name != "generate"]  # transformers' own may fail; it then says why
    assert measurements["engine"]["3"]["times_reference"] > 0
    assert measurements["exactness"]["float32"]["engine_and_plain_cached"]["equal"] == 1.0
    shown = CliRunner().invoke(main, ["table", str(tmp_path), "--all"])
    assert shown.exit_code == 0, shown.output
    assert "engine, 3 at once" in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--shape", "huge"], "'huge' is not one of"),
        (["run", "--shape", "tiny", "--batches", "1,x"], "--batches: '1,x' is no list of whole numbers"),
        (["run", "--shape", "tiny", "--skip", "refrence"], "--skip: unknown 'refrence'; available: first_image"),
        (["run", "--shape", "tiny", "--quantize", "int3"], "--quantize: unknown 'int3'; available: int8, fp8."),
        (["run", "--shape", "tiny", "--device", "gpu"], "there is no device 'gpu' here"),
        (["table", "."], "there are no results"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_two(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 2
    assert message in answer.output
    assert not list(tmp_path.rglob("*.json"))

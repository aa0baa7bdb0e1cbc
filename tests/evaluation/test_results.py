"""What a finished run says: its figures, its losses, its controls, and `results.json`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from milr.errors import ResumeError
from milr.evaluation.conclusion import conclude
from milr.evaluation.contract import Figure, equal_prompts
from milr.evaluation.judgements import JUDGEMENTS_FILE, Judgement, append_judgements, read_judgements
from milr.evaluation.results import RESULTS_FILE, PictureFacts, read_results, summarise
from milr.evaluation.statistics import Estimate
from milr.evaluation.tables import format_run, format_tags
from milr_benchmarks.scenes.plugin import Scenes

from .made_runs import FACTS, Scores, make_controls, make_run, scores_of

HELD_OUT = {"name": "vqascore", "version": "3"}


def test_the_headline_is_the_mean_of_tag_means(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(3, 4, "colors") | scores_of(0, 2, "counting"))
    judge = results.judges["geneval-hf"]
    assert judge.headline.value == 0.375
    assert judge.tags["colors"].estimate.value == 0.75
    assert (judge.tags["colors"].prompts, judge.tags["colors"].images, judge.tags["colors"].failed) == (4, 4, 0)


def test_every_figure_has_its_own_weights_and_way_over_pictures(tmp_path: Path) -> None:
    scores = {("1", "colors"): [1.0, 0.0], ("2", "colors"): [0.0, 0.0], ("3", "counting"): [1.0, 1.0]}
    figures = [Figure("overall"), Figure("prompts", equal_prompts), Figure("any", equal_prompts, over_images="any")]
    found = make_run(tmp_path, scores, figures=figures).judges["geneval-hf"].figures
    expected = {"overall": 0.625, "prompts": 0.5, "any": 0.666667}
    assert {name: it.value for name, it in found.items()} == expected


def test_a_figure_over_a_part_takes_the_part(tmp_path: Path) -> None:
    figures = [Figure("realism", part="realism")]
    results = make_run(tmp_path, scores_of(1, 2), parts={"realism": 0.25}, figures=figures)
    assert results.judges["geneval-hf"].headline.value == 0.25


def test_a_judge_without_the_headlines_part_gives_the_value_itself(tmp_path: Path) -> None:
    figures = [Figure("realism", part="realism"), Figure("beauty", part="beauty")]
    results = make_run(tmp_path, scores_of(1, 2), figures=figures)
    assert list(results.judges["geneval-hf"].figures) == ["realism"]
    assert results.judges["geneval-hf"].headline.value == 0.5


def test_a_figure_over_tags_that_the_run_has_not_is_not_reported(tmp_path: Path) -> None:
    figures = [Figure("overall"), Figure("wise", lambda counts: {"culture": 1.0} if "culture" in counts else {})]
    assert [figure.name for figure in make_run(tmp_path, scores_of(1, 2), figures=figures).figures] == ["overall"]


def test_failures_are_counted_and_never_zeros(tmp_path: Path) -> None:
    scores = {("1", "colors"): [1.0, None], ("2", "colors"): [None, None], ("3", "colors"): [1.0, 1.0]}
    judge = make_run(tmp_path, scores).judges["geneval-hf"]
    assert judge.headline == Estimate(1.0, 1.0, 1.0)
    assert (judge.failed, judge.prompts_missing) == (3, 1)
    assert (judge.tags["colors"].prompts, judge.tags["colors"].images) == (2, 3)


def test_missing_pictures_are_counted(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(2, 3), missing=[("colors-002", 0)])
    assert (results.images, results.missing, results.judges["geneval-hf"].prompts_missing) == (3, 1, 1)
    assert results.judges["geneval-hf"].headline.value == 1.0


def test_judgements_of_another_version_or_of_other_pictures_are_left_out(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(2, 2))
    changed = replace(FACTS, judge={"name": "geneval-hf", "version": "2"})
    pictures = [PictureFacts("colors-000", "a colors-000", "colors", 0, (64, 64))]
    judgements = read_judgements(tmp_path)
    assert (
        summarise(changed, pictures, judgements, [Figure("overall")], []).judges["geneval-hf"].tags["colors"].images
        == 0
    )
    assert (
        summarise(FACTS, pictures, judgements, [Figure("overall")], []).judges["geneval-hf"].tags["colors"].images == 1
    )
    assert results.judges["geneval-hf"].tags["colors"].images == 2


def test_tags_come_in_the_order_of_the_benchmark() -> None:
    pictures = [PictureFacts(tag, tag, tag, 0, (8, 8)) for tag in ("a", "b", "c")]
    results = summarise(FACTS, pictures, {}, [Figure("overall")], ["c", "absent", "a"])
    assert list(results.judges["geneval-hf"].tags) == ["c", "a", "b"]
    assert results.judges["geneval-hf"].headline == Estimate()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    facts = replace(FACTS, held_out=HELD_OUT)
    results = make_run(tmp_path, scores_of(3, 5), facts, held_out=scores_of(2, 5))
    whole = make_controls(tmp_path, results, {"base": scores_of(1, 5), "best-of-n": scores_of(2, 5)}, held_out=None)
    assert read_results(tmp_path) == whole
    assert json.loads((tmp_path / RESULTS_FILE).read_text())["controls"][1]["folder"] == "controls/best-of-n"


def test_a_folder_without_results_has_none(tmp_path: Path) -> None:
    assert read_results(tmp_path / "nowhere") is None


def test_only_spent_differs_between_two_runs_of_the_same_pictures(tmp_path: Path) -> None:
    results = make_run(tmp_path / "a", scores_of(3, 5))
    again = replace(make_run(tmp_path / "b", scores_of(3, 5)), spent={"seconds": 99.0})
    records = [it.to_record() for it in (results, again)]
    assert records[0].pop("spent") == {"seconds": 1.0}
    records[1].pop("spent")
    assert records[0] == records[1]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": 2}', "null", "\x00", '{"format": 1, "judges": {"x": 5}}', "[" * 100_000],
)
def test_a_results_file_of_somebody_else_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / RESULTS_FILE).write_text(content)
    with pytest.raises(ResumeError, match=r"results\.json is not what this version of milr writes"):
        read_results(tmp_path)


@pytest.mark.parametrize("value", [5.5, [1], {"a": 1}])
@pytest.mark.parametrize("name", ["judges", "judge", "figures", "protocol", "data", "resolution", "seed", "row"])
def test_a_results_file_with_a_wrong_value_is_refused(tmp_path: Path, name: str, value: object) -> None:
    make_run(tmp_path, scores_of(1, 2))
    record = json.loads((tmp_path / RESULTS_FILE).read_text())
    (tmp_path / RESULTS_FILE).write_text(json.dumps(record | {name: value}))
    with pytest.raises(ResumeError):
        read_results(tmp_path)


def test_rows_are_measured_against_best_of_n_paired_by_prompt(tmp_path: Path) -> None:
    results = make_run(tmp_path, scores_of(60))
    whole = make_controls(
        tmp_path, results, {"base": scores_of(20), "best-of-n": scores_of(40), "resample": scores_of(40)}
    )
    by_row = {row.facts.row: row.differences.get("geneval-hf") for row in whole.rows}
    assert by_row["best-of-n"] is None
    assert by_row["milr"].estimate.value == 0.2
    assert by_row["milr"].verdict == "better"
    assert by_row["base"].verdict == "worse"
    assert by_row["resample"].estimate == Estimate(0.0, 0.0, 0.0)
    assert by_row["resample"].verdict == "not distinguishable"


def test_the_table_of_a_run_shows_its_controls_and_marks_oracles(tmp_path: Path) -> None:
    facts = replace(FACTS, held_out=HELD_OUT, oracle=True)
    results = make_run(tmp_path, scores_of(60), facts, held_out=scores_of(50))
    whole = make_controls(tmp_path, results, {"base": scores_of(20), "best-of-n": scores_of(40)}, held_out=None)
    lines = format_run(whole).splitlines()
    header, _, run, base, best, _, against, _, better, worse = lines[:10]
    assert [cell.strip() for cell in header.strip("| ").split("|")] == [
        "row",
        "images decoded",
        "critic",
        "judge: overall",
        "held-out: overall",
    ]
    assert re.search(r"\| 0\.600 \[0\.\d+, 0\.\d+\] \* +\|", run)
    assert "*" not in base
    assert best.rstrip("| ").endswith("-")
    assert len({len(line) for line in lines[:5]}) == 1
    assert [cell.strip() for cell in against.strip("| ").split("|")] == ["minus best-of-n", "judge", "held-out"]
    assert re.search(r"milr +\| \+0\.200 \[\+0\.1\d\d, \+0\.2\d\d\] better", better)
    assert "worse" in worse
    assert max(map(len, lines[:10])) <= 100
    assert "* oracle: the search was steered by this judge or by its kin." in lines
    assert "geneval, protocol official: 100 prompts, 1 picture each; seed 0." in lines
    assert "official data, checksums verified." in lines


def test_the_table_says_what_is_not_in_its_numbers(tmp_path: Path) -> None:
    facts = replace(FACTS, data={"prompts.jsonl": {"sha256": "1", "official": False}})
    scores = {**scores_of(2, 3), ("broken", "colors"): [None]}
    lines = format_run(make_run(tmp_path, scores, facts, missing=[("colors-000", 0)])).splitlines()
    assert lines[2].endswith("| 0.500 [0.000, 1.000] ! |")
    assert "milr: pictures missing: 1 of 4." in lines
    assert "milr: pictures on which geneval-hf failed, left out: 1 of 4." in lines
    assert "milr: prompts of which geneval-hf scored no picture: 2 of 4." in lines
    assert "not the official data: prompts.jsonl." in lines
    assert "geneval-hf: tags of few prompts (colors 2): intervals over fewer than 10 are too narrow." in lines


def test_a_figure_without_one_of_its_tags_says_which(tmp_path: Path) -> None:
    unjudged: Scores = {("broken", "counting"): [None]}
    lines = format_run(make_run(tmp_path, {**scores_of(20, 40), **unjudged})).splitlines()
    assert (
        "milr: no overall by geneval-hf: it scored nothing of counting; "
        "--categories colors gives the figures of the others."
    ) in lines


def test_what_failed_attempts_of_a_judge_have_cost_is_spent(tmp_path: Path) -> None:
    first = Judgement("geneval-hf", "1", "a", 0, "colors", "a dog", "", None, error="no", cost={"requests": 5.0})
    append_judgements(tmp_path, [first, replace(first, value=1.0, error=None, cost={"requests": 1.0})])
    assert conclude(FACTS, Scenes(), [], tmp_path).spent == {"judges": {"geneval-hf": {"requests": 6.0}}}


def test_the_table_of_tags_has_a_line_for_each(tmp_path: Path) -> None:
    lines = format_tags(make_run(tmp_path, scores_of(3, 4, "colors") | scores_of(0, 2, "counting"))).splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]] == [
        ["colors", "4", "0.750"],
        ["counting", "2", "0.000"],
    ]


def test_the_table_of_tags_ends_with_the_other_figures(tmp_path: Path) -> None:
    figures = [Figure("overall"), Figure("prompts", equal_prompts)]
    scores = scores_of(3, 4, "colors") | scores_of(0, 2, "counting")
    *_, last = format_tags(make_run(tmp_path, scores, figures=figures)).splitlines()
    assert [cell.strip() for cell in last.strip("|").split("|")] == ["prompts", "", "0.500"]


def test_judgements_of_pictures_that_are_gone_are_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, scores_of(1, 2))
    sizes = (None, (8, 8))
    pictures = [PictureFacts(f"colors-00{n}", f"a colors-00{n}", "colors", 0, sizes[n]) for n in range(2)]
    found = summarise(FACTS, pictures, read_judgements(tmp_path), [Figure("overall")], [])
    assert (found.missing, found.judges["geneval-hf"].headline.value) == (1, 0.0)


def test_a_judgement_that_was_tried_again_counts_once(tmp_path: Path) -> None:
    make_run(tmp_path, scores_of(1, 2))
    (first, *_) = read_judgements(tmp_path).values()
    append_judgements(tmp_path, [replace(first, value=0.0)])
    assert len((tmp_path / JUDGEMENTS_FILE).read_text().splitlines()) == 3
    pictures = [PictureFacts(f"colors-00{n}", f"a colors-00{n}", "colors", 0, (8, 8)) for n in range(2)]
    found = summarise(FACTS, pictures, read_judgements(tmp_path), [Figure("overall")], [])
    assert found.judges["geneval-hf"].headline.value == 0.0

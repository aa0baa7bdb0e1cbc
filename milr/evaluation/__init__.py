"""Evaluation: benchmarks, judging, results with intervals, and the comparison of runs.

contract      what a benchmark is (group `milr.benchmarks`)
data          the official files: fetched, verified, found
selection     some of the prompts, or one part of them
protocols     all settings of an evaluation by name
controls      the same run with something taken away
judgements    the lines of `judgements.jsonl`
judging       a judge's scores of pictures on disk, never paid twice
statistics    means of tags, bootstrap intervals, paired differences
figures       the numbers of a benchmark by one judge
results       what `results.json` says of a run and its controls
conclusion    from a run folder to its results
merging       shards joined into one run
rows          runs and controls as a comparison reads them
doubts        what a reader of a comparison must know first
comparison    runs side by side
tables        results and comparisons for a terminal
"""

"""Evaluation: benchmarks, judging, results with intervals, and the comparison of runs.

contract      what a benchmark is (group `milr.benchmarks`)
data          the official files: fetched, verified, found
judging       a judge's scores of pictures on disk, one line each, never paid twice
statistics    means of tags, bootstrap intervals, paired differences
results       what `results.json` and the table of a run say
comparison    runs side by side
"""

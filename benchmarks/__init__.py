"""Benchmarks: prompts, worlds, layouts on disk and scorers, each behind one plugin."""

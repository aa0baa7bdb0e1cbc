"""Scenes: a small world of emoji on grey ground, and the recipe of every model that ships with the package.

    concepts -> drawings, sprites -> world -> language -> {detectors, tokeniser, language_model, clip} -> evaluate

`python -m milr_benchmarks.scenes all --out DIR --device cuda` repeats the whole recipe. Imports nothing heavy.
"""

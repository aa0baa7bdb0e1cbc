"""Speed: the decoding engine against the published procedure, transformers' own `generate` and a plain cached loop.

    shapes -> subjects -> {reference, generate, plain, engines, steps, exactness, quantized} -> results -> table

`python -m milr_benchmarks.speed run --shape janus-pro-7b --device cuda` measures everything on one device in one run.
Imports nothing heavy.
"""

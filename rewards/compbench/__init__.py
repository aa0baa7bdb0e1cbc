"""T2I-CompBench's six categories as critics: its formulas, on classes of transformers and open_clip alone."""

"""Which critic to trust: each one against the truth of fresh scenes (`python -m milr_benchmarks.critics`)."""

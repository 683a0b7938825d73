"""Evaluate models on benchmarks and splits, and import, store and compare results."""

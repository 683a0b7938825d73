"""Evaluations of models on benchmarks and splits: made, imported, stored and compared."""

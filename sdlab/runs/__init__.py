"""Training runs: folders that survive a crash, training questions and traces, sweeps of many runs."""

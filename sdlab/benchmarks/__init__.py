"""Real benchmarks and the organism's splits side by side: reading their files, and how much ground a set of problems covers."""

"""Read the real benchmarks and the organism's splits, and measure how many kinds of problems a set covers."""

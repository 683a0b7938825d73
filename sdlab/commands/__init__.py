"""The commands behind `sdlab`, one module per group."""

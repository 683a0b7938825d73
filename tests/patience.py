"""How long a test waits for what another process does."""

PATIENCE = 1200  # seconds after which something is taken to hang; on a busy machine it only takes longer
CPU_SECONDS = (
    30  # of this process's own CPU time: what a linear scan needs in part and a quadratic one many times
)

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

# A limit in wall time fails on a busy machine.
settings.register_profile("sdlab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sdlab")


@pytest.fixture(scope="session")
def sdlab_real_data():
    """`sdlab_real_data(name)`: path of a file of real data; skips with a reason when it is not there.

    It also skips for a parquet file when pyarrow, which reads it, is not installed.
    """
    folder = Path(os.environ.get("SDLAB_REAL_DATA") or Path(__file__).parents[2] / "shared" / "real")

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"real data {name} is not in {folder}; set SDLAB_REAL_DATA to the folder that has it")
        if path.suffix == ".parquet":
            pytest.importorskip("pyarrow", reason=f"{name} needs pyarrow")
        return path

    return find


@pytest.fixture(scope="module")
def one_thread():
    """Runs that are compared bit for bit need the same number of threads in every process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

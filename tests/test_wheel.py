"""A built wheel in an environment of its own, used from an empty folder, out of reach of the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from patience import PATIENCE

ROOT = Path(__file__).parents[1]
LARGEST = 32_000_000  # bytes: four organisms of 4 MB, a small one, the checkpoints (7 MB), notebooks
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="builds the wheel; it is in the test extra")
    place = tmp_path_factory.mktemp("built")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = subprocess.run([*pip, "-w", place, ROOT], capture_output=True, text=True, timeout=PATIENCE)
    assert built.returncode == 0, built.stderr[-2000:]
    (path,) = place.glob("sdlab-*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The Python of a fresh environment with the wheel; its dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", folder])
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel])
    place = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip()
    here = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    Path(place, "dependencies.pth").write_text("\n".join(here))
    return python


def run(command, folder=None) -> subprocess.CompletedProcess:
    """Run a command where neither the repository nor a folder of data is named; it must end well."""
    hidden = ("PYTHONPATH", "SDLAB_DATA", "SDLAB_REAL_DATA")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))  # templates of the dependencies
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def test_the_wheel_holds_every_file_of_the_repository_that_belongs_in_it(wheel):
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "sdlab", "data", "notebooks"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    wanted = {
        name if name.startswith("sdlab/") else f"sdlab/_{name}" for name in listed if (ROOT / name).is_file()
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert wanted <= names, wanted - names
    assert not {name for name in names if "__pycache__" in name or ".ipynb_checkpoints" in name}
    assert wheel.stat().st_size < LARGEST


def test_organism_and_recorded_results_are_read_from_the_wheel(python, tmp_path):
    code = """
import sdlab
from sdlab import paths
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.study.recorded import load_recorded
assert paths.checkout() is None and paths.data_dir().is_relative_to(paths.PACKAGE)
print(len(load_engine().generate(["2 + 2 ="], SamplingParams(max_completion_length=4)).texts))
print(load_recorded("grpo").interval("grpo", "reward", "in-domain").mean > 0.9)
"""
    assert run([python, "-c", code], tmp_path).stdout.split() == ["1", "True"]


def test_the_walkthrough_runs_from_an_empty_folder(python, tmp_path):
    assert "tour" in run([python, "-m", "sdlab", "--help"], tmp_path).stdout
    run([python, "-m", "sdlab", "tour", "--preset", "smoke", "--only", "00"], tmp_path)
    assert (tmp_path / "reports" / "index.html").is_file()
    assert (tmp_path / "reports" / "00_start_here.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]


def test_lab_copies_the_notebooks_and_labs_are_built(python, tmp_path):
    first = run([python, "-m", "sdlab", "lab", "--version"], tmp_path).stdout
    mine = tmp_path / "sdlab-notebooks"
    shipped = {path.relative_to(ROOT / "notebooks") for path in (ROOT / "notebooks").rglob("[0-9l]*.ipynb")}
    assert {path.relative_to(mine) for path in mine.rglob("*.ipynb")} >= {
        name for name in shipped if not any(part.startswith(".") for part in name.parts)
    }
    assert f"to {mine}" in first
    (mine / "00_start_here.ipynb").write_text("mine")
    assert (
        "kept what you changed: 00_start_here.ipynb"
        in run([python, "-m", "sdlab", "lab", "--version"], tmp_path).stdout
    )
    run([python, "-m", "sdlab", "labs", "build"], tmp_path)
    assert (
        len(list((tmp_path / "labs").glob("lab*.ipynb"))) == len(list(mine.glob("labs/source/*.ipynb"))) > 0
    )

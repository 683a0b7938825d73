"""What Binder would build, read from repo2docker's own plan; nothing is built and no Docker is needed."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from patience import PATIENCE

ROOT = Path(__file__).parents[1]

# repo2docker's own environment brings these
IN_THE_IMAGE = {"jupyterlab", "ipywidgets", "nbconvert", "jinja2"}


def requirements(file: str = "binder/requirements.txt") -> dict[str, Requirement]:
    lines = (ROOT / file).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {one.name: one for one in found}


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory) -> str:
    """The Dockerfile that repo2docker makes of this checkout's binder/ and pyproject.toml."""
    pytest.importorskip("repo2docker", reason="jupyter-repo2docker is not installed; it is in the test extra")
    copy = tmp_path_factory.mktemp("binder") / "repo"
    shutil.copytree(ROOT / "binder", copy / "binder")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(copy)]
    plan = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert plan.returncode == 0, plan.stderr[-2000:]
    return plan.stdout + plan.stderr


def test_python_is_3_11(dockerfile):
    assert "Building conda environment for python=3.11" in dockerfile


def test_the_requirements_are_installed_after_the_repository_is_copied(dockerfile):
    """requirements.txt names ../constraints.txt, which must be in the image by then."""
    install = re.search(r"pip install.*-r \"?binder/requirements\.txt", dockerfile)
    copied = re.search(r"^COPY .*src/ ", dockerfile, re.MULTILINE)
    assert install and copied and copied.start() < install.start()


def test_post_build_and_start_are_used(dockerfile):
    assert "binder/postBuild" in dockerfile
    assert re.search(r"ENV R2D_ENTRYPOINT=.*/binder/start", dockerfile)


@pytest.mark.parametrize("script", ["binder/postBuild", "binder/start", ".ci/run"])
def test_the_scripts_are_sound_bash_and_executable(script):
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    checked = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_post_build_stops_at_the_first_error_and_start_hands_over():
    post_build = (ROOT / "binder" / "postBuild").read_text().splitlines()
    assert "set -e" in post_build
    assert any("pip install" in line and "--no-deps" in line and "-e ." in line for line in post_build)
    assert (ROOT / "binder" / "start").read_text().splitlines()[-1] == 'exec "$@"'


def test_start_sets_one_thread_and_runs_its_arguments():
    command = [str(ROOT / "binder" / "start"), "sh", "-c", "echo $OMP_NUM_THREADS $HF_HUB_OFFLINE"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["1", "1"]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_core_dependency_is_installed_and_pinned_within_its_range():
    installed, pins = requirements(), requirements("constraints.txt")
    for one in map(Requirement, project()["dependencies"]):
        if one.name in IN_THE_IMAGE:
            continue
        assert one.name in installed, f"{one.name} is missing in binder/requirements.txt"
        assert one.extras == installed[one.name].extras
        assert one.name in pins, f"{one.name} is missing in constraints.txt"
        (pin,) = pins[one.name].specifier
        assert pin.operator == "==" and one.specifier.contains(pin.version), f"{one} does not allow {pin}"
    assert "-c ../constraints.txt" in (ROOT / "binder" / "requirements.txt").read_text().splitlines()


def test_constraints_of_the_extras_fit_them_and_ci_uses_them():
    pins = requirements("constraints.txt")
    for extra in project()["optional-dependencies"].values():
        for one in map(Requirement, extra):
            if one.name in pins:
                (pin,) = pins[one.name].specifier
                assert one.specifier.contains(pin.version), f"{one} does not allow {pin}"
    installs = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "-e " in line]
    assert installs and all("-c constraints.txt" in line for line in installs)


def test_torch_is_the_cpu_build():
    text = (ROOT / "binder" / "requirements.txt").read_text()
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in text
    (pin,) = requirements("constraints.txt")["torch"].specifier
    assert str(requirements()["torch"].specifier) == f"{pin}+cpu"

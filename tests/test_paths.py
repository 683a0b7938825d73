"""Where data and notebooks lie: in a checkout, in an installed package, and in a folder the user names."""

from pathlib import Path

import pytest

from sdlab import paths

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package, as a wheel leaves it."""
    package = tmp_path / "site-packages" / "sdlab"
    for name in ("_data", "_notebooks"):
        (package / name).mkdir(parents=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    return package


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("SDLAB_DATA", "SDLAB_REAL_DATA"):
        monkeypatch.delenv(name, raising=False)


def test_a_checkout_uses_its_own_folders():
    assert paths.checkout() == ROOT
    assert (paths.data_dir(), paths.notebooks_dir()) == (ROOT / "data", ROOT / "notebooks")
    assert paths.record_dir() == ROOT / "data"
    assert paths.restore_hint(ROOT / "data" / "runs") == "restore it with `git checkout data/runs`"


def test_an_installed_package_uses_its_own_folders_and_writes_none_of_them(installed, monkeypatch, tmp_path):
    assert paths.checkout() is None
    assert (paths.data_dir(), paths.notebooks_dir()) == (installed / "_data", installed / "_notebooks")
    assert not paths.record_dir().resolve().is_relative_to(installed)
    assert "pip install" in paths.restore_hint(installed / "_data" / "runs")
    (tmp_path / "shared" / "real").mkdir(parents=True)
    (tmp_path / "shared" / "real" / "x").touch()
    assert paths.real_data("x") is None  # only a checkout has neighbours that are its own
    monkeypatch.setenv("SDLAB_REAL_DATA", str(tmp_path / "shared" / "real"))
    assert paths.real_data("x") == tmp_path / "shared" / "real" / "x"


@pytest.mark.parametrize("kind", ["checkout", "installed"])
def test_a_named_folder_comes_first(kind, request, monkeypatch, tmp_path):
    if kind == "installed":
        request.getfixturevalue("installed")
    monkeypatch.setenv("SDLAB_DATA", str(tmp_path / "mine"))
    assert paths.data_dir() == paths.record_dir() == tmp_path / "mine"
    assert paths.restore_hint(tmp_path / "mine" / "organism") == "restore it from a copy that is whole"

"""Which folders a submission may read: everything it needs, and no solution, wherever that lies."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdlab import paths
from sdlab.labs.sandbox.folders import readable_around, readable_folders

FILES = [f"{a}/{b}/{c}" for a in "ab" for b in "cd" for c in ("e", "f/g")]


@given(hidden=st.sets(st.sampled_from([*FILES, "a", "a/c", "b/d/f"]), max_size=3))
def test_all_but_the_hidden_files_are_below_something_readable(hidden, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "tree"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    readable, listable = readable_around(root, [root / name for name in hidden])
    for name in FILES:
        wanted = not any(Path(name).is_relative_to(one) for one in hidden)
        assert any((root / name).is_relative_to(path) for path in readable) == wanted, name
        if wanted and hidden:  # Python finds a module by listing its folder
            assert all(
                str(parent) in listable or any(parent.is_relative_to(path) for path in readable)
                for parent in (root / name).parents
                if parent.is_relative_to(root)
            )


def test_a_link_around_a_hidden_file_grants_nothing(tmp_path):
    (tmp_path / "real" / "labs").mkdir(parents=True)
    (tmp_path / "real" / "labs" / "solution").touch()
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    hidden = [(tmp_path / "real" / "labs").resolve()]
    assert readable_around(tmp_path / "link", hidden) == (set(), {str((tmp_path / "real").resolve())})


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment with sdlab and another package in it, both in site-packages."""
    site = tmp_path / "site-packages"
    for name in (
        "sdlab/_data/x",
        "sdlab/_notebooks/labs/source/lab1.ipynb",
        "sdlab/paths.py",
        "numpy/core.py",
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).touch()
    monkeypatch.setattr(paths, "PACKAGE", site / "sdlab")
    monkeypatch.setattr(sys, "path", [str(site)])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("SDLAB_DATA", raising=False)
    return site


def test_the_solutions_of_an_installed_wheel_are_out_of_reach(installed):
    source = paths.notebooks_dir() / "labs" / "source"
    readable, listable = readable_folders([source])

    def reached(name: str) -> bool:
        return any(Path(os.path.realpath(installed / name)).is_relative_to(path) for path in readable)

    assert reached("sdlab/_data/x") and reached("sdlab/paths.py") and reached("numpy/core.py")
    assert not reached("sdlab/_notebooks/labs/source/lab1.ipynb")
    assert os.path.realpath(installed) in listable
    assert {"/usr", "/etc"} & set(readable) == {
        path for path in ("/usr", "/etc") if os.path.realpath(path) == path
    }

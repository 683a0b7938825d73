"""The copy of the notebooks that `sdlab lab` makes of an installed wheel."""

import pytest

from sdlab.errors import SdlabError
from sdlab.walkthrough.copies import SUMS, copy_notebooks


@pytest.fixture
def source(tmp_path):
    """Shipped notebooks: two, a lab and solutions in folders, and a checkpoint that nobody wants."""
    folder = tmp_path / "shipped"
    names = ("00_a.ipynb", "01_b.ipynb", "labs/lab1.ipynb", "solutions/00_a_solutions.ipynb")
    for name in (*names, ".ipynb_checkpoints/00_a.ipynb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"shipped {name}")
    return folder


def test_everything_is_copied_once(source, tmp_path):
    first = copy_notebooks(tmp_path / "mine", source)
    assert first.written == (
        "00_a.ipynb", "01_b.ipynb", "labs/lab1.ipynb", "solutions/00_a_solutions.ipynb"
    )  # fmt: skip
    assert first.updated == first.kept == () and first.folder == tmp_path / "mine"
    assert list(first.lines()) == [f"copied 4 files to {tmp_path / 'mine'}"]
    assert (tmp_path / "mine" / "labs" / "lab1.ipynb").read_text() == "shipped labs/lab1.ipynb"
    again = copy_notebooks(tmp_path / "mine", source)
    assert again.written == again.updated == again.kept == () and list(again.lines()) == []


def test_a_change_is_kept_and_what_was_not_changed_is_updated(source, tmp_path):
    mine = tmp_path / "mine"
    copy_notebooks(mine, source)
    (mine / "00_a.ipynb").write_text("my work")
    (mine / "labs" / "lab1.ipynb").unlink()
    for name in ("00_a.ipynb", "01_b.ipynb"):
        (source / name).write_text("a newer version")
    done = copy_notebooks(mine, source)
    assert (done.written, done.updated, done.kept) == (("labs/lab1.ipynb",), ("01_b.ipynb",), ("00_a.ipynb",))
    assert (mine / "00_a.ipynb").read_text() == "my work"
    assert (mine / "01_b.ipynb").read_text() == "a newer version"
    assert any("kept what you changed: 00_a.ipynb" in line for line in done.lines())
    assert copy_notebooks(mine, source).kept == ("00_a.ipynb",)  # said every time, not only the first


@pytest.mark.parametrize("sums", [None, "{", "[1]"])
def test_without_a_readable_record_nothing_that_differs_is_overwritten(source, tmp_path, sums):
    mine = tmp_path / "mine"
    copy_notebooks(mine, source)
    (mine / SUMS).unlink() if sums is None else (mine / SUMS).write_text(sums)
    (source / "00_a.ipynb").write_text("a newer version")
    assert copy_notebooks(mine, source).kept == ("00_a.ipynb",)


@pytest.mark.parametrize("spoil", [
    lambda mine: mine.write_text("a file"),
    lambda mine: (mine / "00_a.ipynb").mkdir(parents=True),
    lambda mine: (mine / SUMS).mkdir(parents=True),
])  # fmt: skip
def test_a_folder_that_cannot_be_used_is_one_line(source, tmp_path, spoil):
    spoil(tmp_path / "mine")
    with pytest.raises(SdlabError, match="could not|cannot read") as caught:
        copy_notebooks(tmp_path / "mine", source)
    assert "\n" not in str(caught.value)

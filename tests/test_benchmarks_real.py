"""The recorded measures of the real files: sound in themselves, and what the files give where they are."""

import itertools
import json
import re

import pytest

from sdlab.benchmarks import recorded, table_three
from sdlab.benchmarks.clusters import find_types
from sdlab.benchmarks.coverage import measure_coverage
from sdlab.benchmarks.files import load_problems
from sdlab.errors import SdlabError
from sdlab.files import sha256
from sdlab.world.splits import load_split

# What the chemistry questions ask, by a phrase a person picked from each template; the method never sees
# these.
ASKED = {
    "molar weight": "molar weight",
    "solubility": "solubility",
    "logd": "distribution coefficient",
    "reactant used in": "retrosynthesis",
    "how many": "counting",
    "reagents": "reaction prediction",
}


@pytest.fixture
def record():
    return recorded.load_record()


@pytest.fixture
def real_folder(sdlab_real_data, record):
    pytest.importorskip("pyarrow", reason="most of the files are parquet")
    return next(sdlab_real_data(name).parent for name in record["files"])


def test_the_files_are_those_of_the_record(real_folder, record):
    assert {name: sha256(real_folder / name) for name in record["files"]} == record["files"]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(recorded.SETS))
def test_the_record_is_what_the_files_give(name, real_folder, record):
    """All but the stability, which is the same method again on parts."""
    found = json.loads(json.dumps(recorded.measure_set(real_folder, name, resamples=0)))
    wanted = json.loads(json.dumps(record["sets"][name]))
    for one in (found, wanted):
        if one["groups"]:
            del one["groups"]["again"]
    curves = [one["groups"].pop("curve") if one["groups"] else {} for one in (found, wanted)]
    assert curves[0] == pytest.approx(curves[1], abs=2e-4)
    assert found == wanted


def test_recorded_overlaps(real_folder, record):
    assert recorded.measure_overlaps(real_folder)[1:] == record["overlaps"][1:]


def test_chemistry_types_against_the_phrases_and_the_file_s_order(real_folder):
    paths = [real_folder / name for name in recorded.SETS["chemistry"]]
    problems = [one for path in paths for one in load_problems(path)]
    numbers = [
        json.loads(line)["idx"] for path in paths for line in path.read_text().splitlines() if line.strip()
    ]
    assert sorted(numbers) == list(range(2100))  # numbered without a gap
    found = find_types([one.prompt for one in problems])
    asked = [next(kind for phrase, kind in ASKED.items() if phrase in one.prompt.lower()) for one in problems]
    pairs = set(zip(found.types.labels.tolist(), asked, strict=True))
    assert len(pairs) == found.types.count == len(set(asked)) == 6  # one to one
    ordered = [label for _, label in sorted(zip(numbers, found.types.labels.tolist(), strict=True))]
    assert (
        sum(a != b for a, b in itertools.pairwise(ordered)) == 5
    )  # every type is one unbroken run of the file's numbers


def test_the_record_holds_no_question(record):
    texts = [value for value in re.findall(r'"((?:[^"\\]|\\.)*)"', json.dumps(record))]
    assert max(len(text.split()) for text in texts) <= 4 and all(len(text) < 70 for text in texts)


def test_numbers_of_the_record_fit_each_other(record):
    for one in record["sets"].values():
        assert (
            sum(int(k) * v for k, v in one["copies"].items())
            == one["questions"]
            == sum(one["kinds"].values())
        )
        assert sum(one["copies"].values()) == one["distinct"]
        for scale in ("types", "wordings"):
            groups = one["groups"] and one["groups"][scale]
            assert not groups or sum(groups["sizes"]) == one["distinct"] - one["groups"]["without_words"]
    assert record["sets"]["DAPO 1 x 64"]["distinct"] == 1


def test_disagreements_are_computed(record):
    rows = {row["what"]: row for row in table_three.comparisons(record)}
    assert (
        not rows["Chemistry (SciKnowEval): questions"]["agrees"]
        and not rows["DAPO 512: distinct questions"]["agrees"]
    )
    record["sets"]["DAPO 512"]["distinct"] = 512
    assert {row["what"]: row for row in table_three.comparisons(record)}["DAPO 512: distinct questions"][
        "agrees"
    ]


def test_table_three(record):
    organism = {
        name: measure_coverage(load_split(name, limit=20)) for name in ("chemistry-train", "kata", "train")
    }
    table = table_three.table_three(record, organism)
    assert table["in the file"].tolist() == [2100, None, 512]
    assert table["types, found"].tolist() == [6, None, "none"]
    assert table["test problems in training"].tolist() == [
        "0 exact, 7 near of 210",
        None,
        "0 exact, 1 near of 570",
    ]
    assert [round(x, 1) for x in table["exposures in 100 steps, paper"]] == [10.7, 195.4, 1.8]


def test_without_the_files_the_record_is_used(monkeypatch, tmp_path, record):
    monkeypatch.setenv("SDLAB_REAL_DATA", str(tmp_path))
    found, source = recorded.real_coverage()
    assert found == record and "not here" in source
    with pytest.raises(SdlabError, match="no folder"):
        recorded.real_coverage(str(tmp_path / "absent"))
    with pytest.raises(SdlabError, match="lacks sciknoweval_chemistry_train.json"):
        recorded.real_coverage(str(tmp_path))  # named, so it must hold the files
    with pytest.raises(SdlabError, match="not here"):
        recorded.record_coverage(output=tmp_path / "x.json")


def test_other_files_are_measured_now(monkeypatch, tmp_path, record):
    monkeypatch.setattr(recorded, "SETS", {"mine": ("mine.jsonl",)})
    monkeypatch.setattr(recorded, "OVERLAPS", (("mine.jsonl", "mine.jsonl"),))
    monkeypatch.setattr(recorded, "record_path", lambda: tmp_path / "real.json")
    rows = [
        json.dumps(
            {
                "prompt": f"question {i} on {'apples and pears' if i % 2 else 'the moon tonight'}",
                "answer": "1",
                "kind": "q",
            }
        )
        for i in range(24)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows))
    recorded.record_coverage(str(tmp_path), tmp_path / "real.json")
    assert "byte for byte" in recorded.real_coverage(str(tmp_path))[1]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows[:-2]))
    found, source = recorded.real_coverage(str(tmp_path))
    assert found["sets"]["mine"]["questions"] == 22 and "mine.jsonl differ" in source
    assert found["sets"]["mine"]["groups"]["types"]["count"] == 2 and found["overlaps"][0]["exact"] == 22


def test_a_damaged_record_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(recorded, "record_path", lambda: tmp_path / "real.json")
    with pytest.raises(SdlabError, match="no record"):
        recorded.load_record()
    for text in ("{", "[]", '{"files": {}}'):
        (tmp_path / "real.json").write_text(text)
        with pytest.raises(SdlabError, match="damaged"):
            recorded.load_record()

import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdlab.errors import SdlabError
from sdlab.text.markers import MARKERS, count_markers, marker_spans, marker_table, total_markers

TEN = "wait hmm perhaps maybe actually alternatively seems might likely check".split()


def words_by_hand(text):
    """Maximal runs of letters, digits and underscores, one character at a time."""
    words, word = [], ""
    for char in text + " ":
        if char.isalnum() or char == "_":
            word += char
        elif word:
            words.append(word.lower())
            word = ""
    return words


tokens = [*TEN, "Wait", "WAIT", "hmmm", "unlikely", "checking", "double", "x_1", "2", *" ,.-'_\n", "é"]
prose = st.lists(st.sampled_from(tokens), max_size=40).map("".join)


@given(prose)
def test_words_against_a_naive_tokenizer(text):
    words = words_by_hand(text)
    assert count_markers(text) == {marker: words.count(marker) for marker in TEN}
    assert [text[a:b].lower() for a, b, _ in marker_spans(text)] == [m for _, _, m in marker_spans(text)]
    assert len(marker_spans(text)) == total_markers(text) == sum(word in TEN for word in words)


@given(prose)
def test_substring_is_the_papers_counter(text):
    assert count_markers(text, "substring") == {marker: text.lower().count(marker) for marker in TEN}


def test_where_the_two_differ():
    text = "Double-check it. I'm checking; it is unlikely. Hmmm... almighty. WAIT"
    assert MARKERS == tuple(TEN)
    assert {k: v for k, v in count_markers(text).items() if v} == {"check": 1, "wait": 1}
    assert {k: v for k, v in count_markers(text, "substring").items() if v} == {
        "wait": 1, "hmm": 1, "might": 1, "likely": 1, "check": 2,
    }  # fmt: skip
    with pytest.raises(SdlabError, match="unknown match 'stem'; choose one of: substring, word"):
        count_markers(text, "stem")


def test_table_adds_up():
    table = marker_table(["Wait, maybe. Wait", "it seems so", ""], lengths=[6, 4, 0]).set_index("marker")
    assert table.loc["wait"].tolist() == [2, 1, 2 / 3, 200.0]
    assert table.loc["total"].tolist() == [4, 2, 4 / 3, 400.0]
    assert table.columns[-1] == "per_1000_tokens"
    words = marker_table(["Wait, maybe. Wait", "it seems so"]).set_index("marker")
    assert words.loc["total", "per_1000_words"] == pytest.approx(4000 / 6)


@pytest.mark.parametrize("texts, lengths", [([], None), (["a"], [1, 2])])
def test_table_refuses(texts, lengths):
    with pytest.raises(SdlabError):
        marker_table(texts, lengths)


def test_real_traces_against_grep(sdlab_real_data, tmp_path):
    rows = json.loads(sdlab_real_data("reasoning_traces.json").read_text())
    texts = [row["message_thinking"] for row in rows]
    table = marker_table(texts).set_index("marker")["count"]
    assert table["total"] == 88 and marker_table(texts, match="substring")["count"].iloc[-1] == 90
    if shutil.which("grep") is None:
        pytest.skip("no grep to count with")
    path = tmp_path / "traces.txt"
    path.write_text("\n".join(texts))
    for marker in TEN:
        command = ["grep", "-o", "-i", "-w", marker, str(path)]
        found = subprocess.run(
            command, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
        ).stdout.split()
        assert len(found) == table[marker], marker

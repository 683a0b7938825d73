"""The catalogue of repairs and its command."""

import re

import pytest

from sdlab import cli
from sdlab.commands.repairs import catalogue_text
from sdlab.errors import SdlabError
from sdlab.train.repairs.catalogue import BASELINES, CATALOGUE, CONTROLS, GRADES, REPAIRS
from sdlab.train.repairs.hooks import Repair
from sdlab.train.repairs.named import RepairConfig, repair_named

WANTED = (
    "opsd_clip pw_opsd opsd_ectr rlsd_ectr purified_opsd veto demopsd avsd avsd_full fire sd_zero rlsd rlcsd "
    "antisd rlrt distilled_rl topd tropd reopold iw_opd eopd rosd srpo srpo_rlcsd sdpg scope drift"
).split()
CONTROLS_WANTED = (
    "opsa other_problem srpo_shuffled srpo_random rlrt_ungated grpo_entropy_bonus grpo_top_entropy "
    "grpo_base_kl sdpo_base_kl mix_0.1 mix_0.5 mix_0.9"
).split()


def test_it_has_the_methods_and_the_controls():
    assert set(WANTED) <= set(REPAIRS) and set(CONTROLS_WANTED) <= set(CONTROLS)
    assert len(CATALOGUE) == len(BASELINES) + len(REPAIRS) + len(CONTROLS)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_entry_says_what_its_repair_does(name):
    entry, repair = CATALOGUE[name], repair_named(name)
    assert repair.name == name and entry.grade in GRADES
    baseline = Repair(name=name)
    differs = {
        hook: getattr(repair, hook) != getattr(baseline, hook)
        for hook in ("views", "target", "advantage", "regulariser", "teacher")
    }
    differs["state"] = repair.advance is not baseline.advance
    if name in (*BASELINES, *CONTROLS):
        return  # a control is described by what it changes in its own baseline
    named = set(re.split(", ", entry.changes)) - {"weights", "divergence"}
    assert {hook for hook, changed in differs.items() if changed} == named


def test_what_is_reconstructed_is_labelled_wherever_it_is_described():
    labelled = {name for name, entry in CATALOGUE.items() if entry.grade == "reconstructed"}
    described = {name for name, entry in REPAIRS.items() if "reconstructed" in entry.description}
    assert described == labelled
    text = catalogue_text(80)
    assert all(re.search(rf"^{name} .*reconstructed", text, re.MULTILINE) for name in labelled)


@pytest.mark.parametrize("width", [72, 80, 100])
def test_the_table_fits_its_width(width):
    lines = catalogue_text(width).splitlines()
    assert max(map(len, lines)) <= width
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in CATALOGUE)


def test_the_command_shows_the_table_and_a_formula(capsys):
    assert cli.main(["repairs"]) == 0
    assert "Early stopping" in capsys.readouterr().out
    assert cli.main(["repairs", "rlsd"]) == 0
    assert "A' = A [(1 - lam)" in capsys.readouterr().out
    assert cli.main(["repairs", "rsld"]) == 2
    assert capsys.readouterr().err.startswith("sdlab: unknown repair 'rsld'; ")


def test_an_unknown_repair_is_refused():
    for call in (lambda: repair_named("srop"), lambda: RepairConfig(repair="srop")):
        with pytest.raises(SdlabError, match="unknown repair 'srop'; "):
            call()

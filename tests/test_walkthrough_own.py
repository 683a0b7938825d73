"""The walkthrough on the reader's own model and problems."""

import json
import math
import os
import re

import pandas
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_markdown_cell
from notebook_maker import code, make
from rich.console import Console

from sdlab.errors import SdlabError
from sdlab.findings import own_problems
from sdlab.findings.objections import marker_ratio, ratio_sentence
from sdlab.measure.intervals import Interval
from sdlab.rollout.forecast import Speed
from sdlab.rollout.loading import load_engine
from sdlab.walkthrough import execute, own, report
from sdlab.walkthrough.tour import tour
from sdlab.world.splits import load_split

OWN = ("03", "06_", "09")
WORLDLY = re.compile(r"\bhunts?\b|unseen[ -]types|in-domain", re.IGNORECASE)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Hunts under another name: problems that an organism can sometimes solve, without the world."""
    path = tmp_path_factory.mktemp("own") / "sums.jsonl"
    problems = load_split("in-domain", limit=48)
    rows = [{"question": problem.prompt, "answer": problem.answer} for problem in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def base_model(folder, organism="organism-small"):
    """A model without a chat template, and the template that it was trained with in a file of its own."""
    engine = load_engine(organism)
    template = folder / "organism.jinja"
    template.write_text(str(engine.tokenizer.chat_template))
    engine.tokenizer.chat_template = None
    for part in (engine.model, engine.tokenizer):
        part.save_pretrained(folder / "base")
    return str(folder / "base"), str(template)


def quiet() -> Console:
    return Console(file=open(os.devnull, "w"))


def test_cells_of_the_world_become_one_sentence():
    notebook = make("1", code("2", "world"), code("3", "world"), "4")
    notebook.cells.append(new_markdown_cell("## Appendix: hunts\n\nText.", metadata={"tags": ["world"]}))
    kept = [cell.source for cell in own.without_world(notebook).cells[2:]]
    assert kept == ["1", own.LEFT_OUT, "4", f"## Appendix: hunts\n\n{own.LEFT_OUT}"]
    assert len(notebook.cells) == 7  # the notebook itself is unchanged


def test_which_notebooks_follow_a_model_and_problems():
    entries = [report.entry(path) for path in execute.find()]
    on_problems = [line.name for line in entries if own.follows(line, "my.jsonl")]
    assert [name.startswith(start) for name, start in zip(on_problems, OWN, strict=True)] == [True] * 3
    on_model = [line.name[:3] for line in entries if own.follows(line, "")]
    assert {"00_", "03_", "06_", "09_"} <= set(on_model) and not {"06b", "07_"} & set(on_model)
    on_template = [line.name for line in entries if own.follows(line, "", "plain")]
    assert [name.startswith(start) for name, start in zip(on_template, OWN, strict=True)] == [True] * 3


@pytest.mark.parametrize("path", execute.find(OWN), ids=lambda path: path.stem)
def test_no_text_names_the_world_where_other_problems_run(path):
    notebook = own.without_world(execute.read(path))
    texts = [cell.source.replace(own.LEFT_OUT, "") for cell in notebook.cells if cell.cell_type == "markdown"]
    assert [found for text in texts for found in WORLDLY.findall(text)] == []
    parameters = execute.parameters_cell(notebook)
    assert parameters is not None
    assert all(parameters.source.count(f"{name}: str") == 1 for name in ("PROBLEMS", "CHAT_TEMPLATE"))


def test_problems_are_divided_and_a_short_file_is_refused(file, tmp_path):
    train, tests = own_problems.training_problems(str(file)), own_problems.test_sets(str(file), 5)
    held = tests["held out"]
    assert len(train) == 24 and len(held) == 5 and not {p.prompt for p in train} & {p.prompt for p in held}
    assert list(own_problems.test_sets("", 3)) == ["in-domain", "unseen-types"]
    assert own_problems.problems_name(str(file)) == "sums.jsonl"
    short = tmp_path / "short.jsonl"
    short.write_text('{"question": "1 + 1?", "answer": "2"}\n' * 3)
    with pytest.raises(SdlabError, match="short.jsonl has 3 problems.*give at least 4"):
        own_problems.training_problems(str(short))


def test_a_stand_in_shows_the_prompt_of_a_problem_that_the_reasoner_cannot_solve(file):
    theirs, ours = own_problems.all_problems(str(file))[0], load_split("in-domain", limit=1)[0]
    for problem in (theirs, ours):
        text = own_problems.example_solution(problem, "key")
        assert text.startswith("<think>\n") and text.endswith(f"The answer is \\boxed{{{problem.answer}}}.")


def test_without_markers_there_is_no_ratio():
    import pandas

    tokens = pandas.DataFrame({"marker": ["", ""], "divergence": [1.0, 2.0], "name": ["a", "b"]})
    assert math.isnan(marker_ratio(tokens).mean)
    assert "no ratio" in ratio_sentence(marker_ratio(tokens), "This teacher")
    assert "no markers" in own_problems.heat_words(marker_ratio(tokens), marker_ratio(tokens))
    assert "2.0 [1.00, 3.0] times" in own_problems.heat_words(Interval(2.0, 1, 3), Interval(1.0, 1, 1))


def interval(mean, low, high):
    return {"mean": mean, "low": low, "high": high}


def test_the_report_of_an_own_run_is_about_that_run(tmp_path):
    entries = [report.entry(path) for path in execute.find(OWN)]
    assert own.own_lead(entries) is None
    for line in entries:
        line.status = "done"
    row = {"reward": interval(0.5, 0.4, 0.6), "length": interval(10, 9, 11), "markers": interval(4, 3, 5)}
    calm = {"reward": interval(0.75, 0.7, 0.8), "length": interval(2, 1, 3), "markers": interval(0, 0, 0)}
    changes = {"reward": interval(0.25, 0.1, 0.4), "length": interval(1, -9, 9), "markers": interval(4, 3, 5)}
    entries[0].values = {"table_one": {"none": row, "solution": calm}, "solution_changes": changes}
    entries[1].values = {"score_change_held_out": interval(-0.2, -0.3, -0.1)}
    run = report.Run("smoke", "/models/mine", "today", "/data/my.jsonl", "done", own=True)
    run.title = own.title(run.model, run.problems)
    run.lead, run.left_out = own.own_lead(entries), ("00_start_here",)
    assert run.lead.answer == (
        "With the full solution in view the model scores 0.75 instead of 0.50, in 20% of the length and 0% "
        "of the markers."
    )
    assert [row[1] for row in run.lead.verdicts] == ["agrees", "not settled", "disagrees", "agrees"]
    page = BeautifulSoup(report.write_index(tmp_path, entries, run).read_text(), "html.parser")
    assert page.h1.get_text() == "What the solution takes away: mine on my.jsonl"
    assert page.find(class_="lead") is None and "00_start_here" in page.find(class_="hero").get_text()
    assert "recorded" not in page.find(class_="verdicts").get_text()


def test_a_notebook_that_cannot_use_the_problems_is_refused(file, tmp_path):
    with pytest.raises(SdlabError, match="notebook 04_sft does not run on your problems; choose among 03_"):
        tour("smoke", tmp_path, only=("04",), problems=str(file), console=quiet())
    with pytest.raises(SdlabError, match="no file"):
        tour("smoke", tmp_path, problems="no-such.jsonl", console=quiet())
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_chat_template_is_refused_before_the_first_notebook(file, tmp_path):
    model, template = base_model(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SdlabError, match="base' has no chat template.*--chat-template plain"):
        tour("smoke", tmp_path, only=("03",), model=model, problems=str(file), console=quiet())
    with pytest.raises(SdlabError, match="there is no chat template 'no-such.jinja'"):
        tour("smoke", tmp_path, model=model, chat_template="no-such.jinja", console=quiet())
    with pytest.raises(SdlabError, match="notebook 04_sft does not run with a chat template"):
        tour("smoke", tmp_path, only=("04",), model=model, chat_template=template, console=quiet())
    assert sorted(tmp_path.iterdir()) == before


def test_the_report_names_the_template_and_what_it_leaves_out(tmp_path):
    run = report.Run("smoke", "/models/base", "today", own=True, left_out=("04_sft",))
    for template, reason in (
        ("plain", "they do not take a chat template: 04_sft"),
        ("", "they need no model"),
    ):
        run.chat_template = template
        page = BeautifulSoup(report.write_index(tmp_path, [], run).read_text(), "html.parser")
        assert f"Left out, because {reason}" in page.get_text()
        assert ("chat template plain" in page.find(class_="facts").get_text()) == bool(template)


def test_a_larger_model_gets_the_time_of_its_longest_cell(file, tmp_path, monkeypatch):
    given = []

    def execute_(path, parameters, *, timeout, **options):
        given.append(timeout)
        return execute.Execution(execute.read(path), (), 1.0)

    monkeypatch.setattr(execute, "execute", execute_)
    for slow in (False, True):
        monkeypatch.setattr(own, "needs_forecast", lambda engine, slow=slow: slow)
        monkeypatch.setattr(own, "measured_speed", lambda *_: Speed(0.5, 0.1))
        tour("smoke", tmp_path, only=("03",), model="organism-small", problems=str(file), console=quiet())
    # 48 problems, 8 completions of each, 256 tokens, half a second a token; twice as much is allowed
    assert given == [900, 900 + 2 * 48 * 8 * 256 * 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("only", "model"), [("03", "organism-small"), ("06_", "organism"), ("09", "organism-small")]
)
def test_a_notebook_runs_on_a_file(file, tmp_path, only, model):
    assert tour("smoke", tmp_path, only=(only,), model=model, problems=str(file), console=quiet())
    (page,) = (path for path in tmp_path.glob(f"{only}*.html") if "solutions" not in path.name)
    soup = BeautifulSoup(page.read_text(), "html.parser")
    assert soup.get_text().count("Left out of this run") >= 1
    index = BeautifulSoup((tmp_path / "index.html").read_text(), "html.parser")
    assert index.h1.get_text() == f"What the solution takes away: {model} on sums.jsonl"
    assert index.find(class_="lead") is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("only", "organism"), [("03", "organism-small"), ("06_", "organism"), ("09", "organism-small")]
)
def test_a_notebook_runs_on_a_base_model_with_a_template(file, tmp_path, only, organism):
    model, template = base_model(tmp_path, organism)
    told = Console(record=True, file=open(os.devnull, "w"))
    options = {"model": model, "problems": str(file), "chat_template": template, "console": told}
    assert tour("smoke", tmp_path, only=(only,), **options), told.export_text()
    assert "organism.jinja" in (tmp_path / "index.html").read_text()


def test_completions_to_judge_are_right_ones_where_there_are_any():
    frame = pandas.DataFrame(
        {"problem_id": list("aaabb"), "completion": list("12345"), "reward": [1.0, 0, 1, 1, 0]}
    )
    judged, which = own_problems.judged_completions(frame, 1)
    assert (list(judged["completion"]), which) == (["1", "4"], "right")
    judged, which = own_problems.judged_completions(frame.assign(reward=0.0), 2)
    assert (list(judged["completion"]), which) == (["1", "2", "4", "5"], "wrong")

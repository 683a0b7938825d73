import functools
import importlib
import inspect
import os
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro
from notebook_maker import save

from sdlab import cli, paths
from sdlab.errors import SdlabError
from sdlab.organism.pretrain import PretrainConfig
from sdlab.walkthrough import execute as notebooks
from sdlab.world.knobs import Knobs

HEAVY = {"torch", "transformers", "pandas", "altair", "numpy", "papermill", "nbformat", "IPython"}


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after `code`."""
    script = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_sdlab_loads_nothing_heavy():
    assert loaded_by("import sdlab") & (HEAVY | {"tyro", "rich"}) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["tour", "--help"],
        ["measure", "--help"],
        ["measure", "contexts", "--help"],
        ["sweep", "--help"],
        ["evaluate", "--help"],
        ["recipe", "--help"],
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments):
    assert loaded_by(f"import sdlab.cli; sdlab.cli.main({arguments!r})") & HEAVY == set()


def test_the_list_of_commands_loads_the_standard_library_alone():
    """What makes `sdlab --help` fast, however busy the machine is."""
    bare = loaded_by("pass")
    loaded = loaded_by("import sdlab.cli; sdlab.cli.main(['--help'])") - bare
    assert loaded <= {"sdlab", "__future__", *sys.stdlib_module_names}


def test_every_command_is_found_where_the_table_says():
    places = []
    for name, command in cli.COMMANDS.items():
        module, member = command.place.split(":")
        target = getattr(importlib.import_module(f"sdlab.commands.{module}"), member)
        functions = target.values() if isinstance(target, dict) else [target]
        assert all(inspect.getdoc(function) for function in functions), name
        places += functions
    assert len(set(places)) == len(places)


def test_a_command_repeats_no_default_of_a_settings_class():
    """The defaults of Budget, Limits and PretrainConfig, changed where they stand, change in the help."""
    from sdlab.commands import labs, leaderboard, pretrain
    from sdlab.labs.leaderboard import Budget
    from sdlab.labs.sandbox.session import Limits
    from sdlab.organism.pretrain import PretrainConfig

    def defaults(function) -> dict:
        return {name: one.default for name, one in inspect.signature(function).parameters.items()}

    budget, options = Budget(), defaults(leaderboard.leaderboard_command)
    assert options["steps"] == budget.config.steps
    assert all(
        options[name] == getattr(budget, name) for name in ("seeds", "problems", "timeout", "memory_gb")
    )
    limits, options = Limits(), defaults(labs.grade)
    assert (options["timeout"], options["cell_timeout"]) == (limits.timeout, limits.cell_timeout)
    assert options["memory"] == limits.memory_mb
    assert defaults(pretrain.pretrain)["config"] == PretrainConfig()


def test_the_groups_of_the_help_are_those_of_the_table(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    headings = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == list(dict.fromkeys(command.group for command in cli.COMMANDS.values()))
    assert len(headings) == 5 and max(map(len, lines)) <= 80


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    told = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(
        command in told
        for command in (
            "tour",
            "lab",
            "pretrain",
            "markers",
            "measure",
            "benchmarks",
            "evaluate",
            "import",
            "compare",
            "recipe",
            "labs",
            "leaderboard",
            "train",
            "sweep",
            "reproduce",
        )
    )


def test_python_m_sdlab_is_sdlab():
    done = subprocess.run([sys.executable, "-m", "sdlab", "sweep"], capture_output=True, text=True)
    assert (
        done.returncode == 2 and "sdlab sweep" in done.stderr and "Traceback" not in done.stderr
    )  # a folder is missing


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["tour", "--preset", "huge"], "sdlab: unknown preset 'huge'; choose one of: full, quick, smoke\n"),
        (["tour", "--only", "00,42"], "sdlab: unknown notebook '42'; choose one of: 00_good, 01_bad\n"),
        (["sweep", "out"], "sdlab: a grid needs a method; choose from: base, sft, grpo, sdpo, repair\n"),
        (
            ["sweep", "out", "method=grpo", "seed=x"],
            "sdlab: seed='x' is not allowed; it must be a whole number\n",
        ),
        (
            ["tour", "--model", "/no/such/folder"],
            "sdlab: no model folder '/no/such/folder'; give a folder in Hugging Face format, a hub name, or "
            "organism\n",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(walkthrough, capsys, arguments, told):
    assert cli.main(arguments) == 2
    assert capsys.readouterr() == ("", told)


def test_an_unknown_command_or_choice_is_status_2(capsys):
    for arguments in (["tourr"], ["measure", "nothing"], ["markers", "file", "--match", "letters"]):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2
        assert arguments[-1] in capsys.readouterr().err


def test_no_command_is_the_help_and_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", cli.help_text() + "\n")


def test_an_interrupt_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def import_module(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", import_module)
    assert cli.main(["train", "sdpo"]) == 130
    assert capsys.readouterr() == ("", "sdlab: stopped\n")


@pytest.fixture
def walkthrough(tmp_path, monkeypatch):
    """A walkthrough of two notebooks, the second broken, in place of the repository's own."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    save(folder, "00_good.ipynb", "print(PRESET)")
    save(folder, "01_bad.ipynb", "1 / 0")
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    return folder


@pytest.mark.slow
def test_tour_says_what_failed_by_its_status(walkthrough, tmp_path, capsys):
    reports = tmp_path / "out"
    assert cli.main(["tour", "--preset", "smoke", "--output", str(reports)]) == 1
    told = capsys.readouterr().out
    assert "cell 3 (`1 / 0`): ZeroDivisionError: division by zero" in told
    assert str(reports / "index.html") in told.replace("\n", "")
    assert cli.main(["tour", "--preset", "smoke", "--output", str(reports), "--only", "00"]) == 0


def test_a_model_folder_is_handed_on_by_its_full_path(walkthrough, tmp_path, monkeypatch):
    seen = {}
    shutil.copytree(paths.data_dir() / "organism-small", tmp_path / "mine")
    save(walkthrough, "00_good.ipynb", "print(MODEL)")
    monkeypatch.chdir(tmp_path)

    def execute(path, parameters, **_):
        seen.update(parameters)
        raise SdlabError("stop here")

    monkeypatch.setattr(notebooks, "execute", execute)
    assert cli.main(["tour", "--model", "mine", "--only", "00"]) == 1
    assert seen == {"PRESET": "quick", "MODEL": str(tmp_path / "mine")}


def test_lab_opens_the_first_notebook_and_passes_arguments_on(walkthrough, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return types.SimpleNamespace(returncode=3)

    monkeypatch.setattr(subprocess, "run", run)
    assert cli.main(["lab", "--no-browser", "--port", "9999"]) == 3
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "jupyter", "lab"] and command[-3:] == [
        "--no-browser",
        "--port",
        "9999",
    ]
    assert f"--ServerApp.root_dir={walkthrough.parent}" in command
    assert "--LabApp.default_url=/lab/tree/notebooks/00_good.ipynb" in command


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins for what the commands call, which remember their arguments."""
    seen = []

    def stand_in(module: str, **members):
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**members))

    def remember(*arguments, progress=None, **named):
        seen.append((arguments, named))

    def report(*arguments):
        remember(*arguments)
        raise SdlabError("counted")

    monkeypatch.setattr("sdlab.commands.markers.markers_report", report)
    monkeypatch.setattr("sdlab.organism.pretrain.pretrain", remember)
    stand_in("sdlab.organism.card", measure_splits=lambda *_, **__: "scores", write_card=remember)
    stand_in("sdlab.rollout.loading", load_engine=lambda model, **settings: model)
    return seen


def test_arguments_reach_the_rooms(calls, tmp_path):
    assert cli.main(["markers", "traces.json"]) == 2
    assert cli.main(["markers", "traces.json", "--match", "substring", "--column", "text"]) == 2
    shape = ["--hidden-size", "64", "--knobs", "intuition=0.45", "--no-resume"]
    assert cli.main(["pretrain", "--output", str(tmp_path), "--seed", "7", *shape]) == 0
    config = PretrainConfig(seed=7, hidden_size=64, knobs=Knobs(intuition=0.45))
    assert [arguments for arguments, _ in calls] == [
        (Path("traces.json"), "word", None),
        (Path("traces.json"), "substring", "text"),
        (tmp_path, config),
        (tmp_path, "scores"),
    ]
    assert calls[-2][1] == {"device": None, "resume": False}


def test_the_arguments_of_measure_reach_it(monkeypatch):
    from sdlab.commands import measure

    seen = []

    def contexts(*arguments, **named):
        seen.append(inspect.signature(measure.contexts_command).bind(*arguments, **named).arguments)
        return 0

    def splits(*arguments, **named):
        seen.append(inspect.signature(measure.splits_command).bind(*arguments, **named).arguments)
        return 0

    both = {"contexts": (contexts, measure.contexts_command), "splits": (splits, measure.splits_command)}
    for name, (stand_in, command) in both.items():
        monkeypatch.setitem(measure.MEASUREMENTS, name, functools.wraps(command)(stand_in))
    assert cli.main(["measure", "contexts", "--preset", "smoke", "--seed", "3", "--no-thinking"]) == 0
    assert cli.main(["measure", "splits", "--model", "m"]) == 0
    assert seen[0].items() >= {"model": "organism", "preset": "smoke", "seed": 3, "thinking": False}.items()
    assert seen[0]["engine"] == "torch" and seen[0]["max_completion_length"] is None
    assert seen[1].items() >= {"model": "m", "preset": "quick", "seed": 0}.items()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["measure", "splits", "--engine", "vllm"])
    assert stopped.value.code == 2


def test_the_arguments_of_a_sweep_reach_it_and_failed_cells_are_status_1(monkeypatch, capsys):
    import pandas

    seen = []

    def sweep(*arguments, **named):
        seen.append((arguments, named))
        return pandas.DataFrame({"cell": ["a", "b"], "status": ["done", status], "error": [None, "it broke"]})

    monkeypatch.setitem(sys.modules, "sdlab.runs.sweep", types.SimpleNamespace(sweep=sweep))
    command = [
        "sweep",
        "out",
        "method=grpo",
        "seed=0,1",
        "--model",
        "m",
        "--jobs",
        "2",
        "--ray",
        "local",
        "--timeout",
        "9",
    ]
    status = "done"
    assert cli.main(command) == 0
    status = "failed"
    assert cli.main(command) == 1
    (grid, *arguments), named = seen[0]
    assert grid.axes == {"method": ("grpo",), "seed": (0, 1)}
    assert arguments == [Path("out"), "m"] and named == {"jobs": 2, "ray": "local", "timeout": 9.0}
    assert capsys.readouterr().err.splitlines() == ["failed: b: it broke"]


def test_an_interrupt_is_status_130(monkeypatch, capsys, walkthrough, tmp_path):
    def execute(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "execute", execute)
    assert cli.main(["tour", "--output", str(tmp_path / "out")]) == 130
    assert "0 of 2 done, stopped" in (tmp_path / "out" / "index.html").read_text()
    assert capsys.readouterr().err == "sdlab: stopped\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["benchmarks"], ["benchmarks", "math500"], ["--help"], ["recipe"], ["train", "sft", "--help"]],
    ids=" ".join,
)
def test_a_reader_that_goes_away_gets_no_traceback(arguments):
    """As in `sdlab benchmarks | head`: nobody reads the pipe any more."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sdlab", *arguments], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (
        "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr and "Exception" not in done.stderr
    )
    assert done.returncode in (1, 2, 141)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train sdpo --context nope", "unknown teacher context 'nope'"),
        ("train grpo --learning-rate -1", "learning_rate=-1.0 is not allowed"),
        ("train sdpo --teacher-update-rate 0.1", "needs teacher_model_kind"),
        ("train sft --problems p.jsonl --split deeper", "split='deeper' does nothing here"),
        ("pretrain --knobs intuition=abc", "knob 'intuition=abc' has no number"),
        ("evaluate organism --instruction hi", "--instruction needs --problems"),
        ("evaluate organism --csv --json --benchmarks in-domain", "--csv and --json exclude each other"),
        ("sweep runs/x steps", "'steps' is no axis"),
        (
            "sweep runs/x method=grpo problems=a --problems b",
            "'problems' is an axis and the option --problems",
        ),
        ("evaluate organism --benchmarks in-domain,,deeper", "--benchmarks 'in-domain,,deeper' has an empty"),
        ("tour --only 00,,01", "--only '00,,01' has an empty name"),
        ("reproduce main --seeds", "--seeds has no value; write at least one after it"),
        ("reproduce main --seeds --jobs 1", "--seeds has no value"),
        ("pretrain --output runs/x --knobs", "--knobs has no value"),
    ],
)
def test_a_bad_setting_is_one_line_without_inner_names(capsys, arguments, words):
    assert cli.main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("sdlab: ") and words in printed.err
    assert printed.err.count("\n") == 1 and "tyro" not in printed.err


def test_an_empty_list_is_refused_wherever_an_option_takes_one(monkeypatch, capsys):
    from sdlab.commands import markers

    @dataclass(frozen=True)
    class Lists:
        splits: tuple[str, ...] = ("a",)
        loud: bool = False

    def command(
        files: tyro.conf.Positional[tuple[Path, ...]] = (), lists: tyro.conf.OmitArgPrefixes[Lists] = Lists()
    ) -> int:
        return 0

    command.__annotations__["lists"] = tyro.conf.OmitArgPrefixes[Lists]
    monkeypatch.setattr(markers, "markers_command", command)
    for right in ([], ["--loud"], ["f", "--no-loud", "--splits", "b"], ["--splits", "b", "c", "--loud"]):
        assert cli.main(["markers", *right]) == 0
    assert capsys.readouterr().err == ""
    for wrong in (["--splits"], ["f", "--splits", "--loud"], ["--loud", "--splits"]):
        assert cli.main(["markers", *wrong]) == 2
        assert capsys.readouterr().err.startswith("sdlab: --splits has no value; write at least one after it")


def test_any_value_error_of_a_settings_class_is_one_line(monkeypatch, capsys):
    from sdlab.commands import markers

    @dataclass(frozen=True)
    class Odd:
        number: int = 3

        def __post_init__(self):
            if self.number == 5:
                raise ValueError("five is right out\nof the question")

    def command(odd: tyro.conf.OmitArgPrefixes[Odd] = Odd()) -> int:
        return 0

    command.__annotations__["odd"] = tyro.conf.OmitArgPrefixes[Odd]
    monkeypatch.setattr(markers, "markers_command", command)
    assert cli.main(["markers", "--number", "4"]) == 0
    assert cli.main(["markers", "--number", "5"]) == 2
    assert capsys.readouterr().err == "sdlab: five is right out\n"


def test_a_source_of_benchmarks_is_refused_where_it_does_nothing(tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n')
    for benchmarks, words in (
        ("in-domain", "which has no file"),
        ("math500", "may not be stored as math500"),
    ):
        assert cli.main(["evaluate", "organism", "--benchmarks", benchmarks, "--source", str(path)]) == 2
        printed = capsys.readouterr().err
        assert words in printed and f"use --problems {path}" in printed and printed.count("\n") == 1


def test_a_path_that_cannot_be_looked_up_is_one_line(tmp_path, capsys):
    problems = tmp_path / "ok.jsonl"
    problems.write_text('{"question": "1+1?", "answer": "2"}\n')
    model, long = str(tmp_path / "model"), "Solve this. " * 40
    tries = [
        (["evaluate", model, "--problems", "~nobody-here/x.jsonl"], "no file ~nobody-here/x.jsonl"),
        (["evaluate", model, "--problems", long], "'Solve this. Solve"),
        (["evaluate", model, "--problems", str(problems), "--few-shot", str(tmp_path / "no")], "no: No such"),
        (["evaluate", model, "--problems", str(problems), "--chat-template", long], "too long"),
        (["evaluate", "~nobody-here/m", "--problems", str(problems), "--name", "m"], "'~nobody-here/m' does"),
        (["evaluate", long, "--problems", str(problems), "--name", "m"], "too long"),
        (["tour", "--model", "~nobody-here/m"], "no model folder '~nobody-here/m'"),
        (["markers", long], "too long"),
        (["compare", long], "too long"),
    ]
    for arguments, words in tries:
        if arguments[0] == "evaluate":
            arguments = [*arguments, "--output", str(tmp_path / "out")]
        assert cli.main(arguments) == 2, arguments
        printed = capsys.readouterr()
        assert printed.err.startswith("sdlab: ") and words in printed.err, printed.err
        assert printed.err.count("\n") == 1 and len(printed.err) < 300


def test_an_error_of_the_system_is_one_line_with_the_path(monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "locked/file")

    def closed(*_):
        raise OSError("no file is to blame")

    monkeypatch.setattr(cli, "_dispatch", refuse)
    assert cli.main(["models"]) == 2
    assert capsys.readouterr() == (
        "",
        "sdlab: locked/file: Permission denied; check the path and its rights\n",
    )
    monkeypatch.setattr(cli, "_dispatch", closed)
    with pytest.raises(OSError, match="no file is to blame"):
        cli.main(["models"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            "evaluate organism --benchmarks in-domain --limit two",
            "--limit two is not allowed; it must be a whole number or None",
        ),
        ("train grpo --learning-rate abc", "--learning-rate abc is not allowed; it must be a number"),
        ("train sft --num-traces 1.5", "--num-traces 1.5 is not allowed; it must be a whole number"),
    ],
)
def test_a_word_of_another_type_is_one_line(capsys, arguments, told):
    assert cli.main(arguments.split()) == 2
    assert capsys.readouterr() == ("", f"sdlab: {told}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("recipe --tiny", "--tiny does nothing for the list"),
        ("recipe --model m", "--model does nothing for the list"),
        ("recipe --problems p.jsonl", "--problems does nothing for the list"),
        ("recipe qwen3-8b-on-sdpo --list", "leave one of them out"),
        ("benchmarks --split test", "--split test is for one benchmark"),
        ("benchmarks --source no-such-folder", "no-such-folder is no folder"),
    ],
)
def test_an_option_that_a_list_does_not_use_is_refused(capsys, arguments, words):
    assert cli.main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and words in printed.err and printed.err.count("\n") == 1

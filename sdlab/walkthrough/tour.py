"""Run the notebooks of the walkthrough one after the other, and update the report after each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sdlab import paths
from sdlab.benchmarks.problems import ProblemSource
from sdlab.errors import SdlabError
from sdlab.files import write_atomic
from sdlab.paths import ORGANISM
from sdlab.presets import preset as named_preset
from sdlab.text.chat_template import PLAIN, template_record
from sdlab.walkthrough import clean, execute, own, report, solutions
from sdlab.walkthrough.execute import Execution
from sdlab.walkthrough.failures import Failure
from sdlab.walkthrough.lead import lead


def tour(
    preset: str,
    output: Path,
    only: tuple[str, ...] = (),
    model: str = ORGANISM,
    problems: str = "",
    chat_template: str = "",
    refresh: bool = False,
    folder: Path | None = None,
    console: Console | None = None,
    prepare: Callable[[Path], None] | None = None,
) -> bool:
    """Execute the notebooks in order and write the report; return True when all worked.

    The report is `output`/index.html with a page for each notebook. A failing notebook does not stop the
    others. `refresh` also runs the solutions of the chosen notebooks, and stores the cleaned notebooks, with
    their outputs, back into `folder`; notebooks that failed stay unchanged. `prepare(output)` is called
    before the first notebook; it may add files that the report links.

    problems: a file or data set in place of the world's problems. chat_template: "plain" for a base model, or
    a file with a jinja template. Only notebooks that read the named model, and the named problems and
    template if there are any, then run, and the report is about them.

    Raises SdlabError for an unknown preset or notebook, problems or a template that cannot be read, a model
    without a template when none is named, a notebook of `only` that does not read them, and when a page
    cannot be written.
    """
    size = named_preset(preset)
    if refresh and folder is None and paths.checkout() is None:
        raise SdlabError(
            "refresh stores outputs in the repository; this sdlab is from a wheel; run it in a clone"
        )
    chosen = execute.find(only, folder)
    console = console or Console()
    model, problems, chat_template = _findable(model), _readable(problems), _template(chat_template)
    run = report.Run(preset, model, datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"), problems)
    run.chat_template = chat_template
    if own.is_own(model, problems, chat_template):
        run.own, run.title = True, own.title(model, problems)
    if folder is None and not run.own:  # the shipped walkthrough; other runs have another answer
        run.lead = lead()
    entries = [report.entry(path) for path in execute.find((), folder)]
    if run.own and folder is None:
        entries, chosen, run.left_out = _of_own(entries, chosen, problems, chat_template, bool(only))
    timeout = float(size.cell_timeout)
    if run.own and folder is None:  # a larger model gets the time that its longest cell may need
        words, seconds = own.longest_cell(model, problems, size, chat_template)
        timeout += 2 * seconds
        if words:
            console.print(words, highlight=False, soft_wrap=True)
    for line in entries:
        line.has_page = (output / line.page).exists()
        if line.source not in chosen:
            line.status = "earlier"
    entries = [line for line in entries if line.status != "earlier" or line.has_page]
    try:
        if prepare is not None:
            prepare(output)
        with _board(console) as board:
            for line in (line for line in entries if line.source in chosen):
                line.status = "running"
                if any(other.seconds is not None for other in entries):
                    report.write_index(output, entries, run)
                on_cell = board(f"{line.name} ({chosen.index(line.source) + 1} of {len(chosen)})")
                own_parameters = {"PROBLEMS": problems, "CHAT_TEMPLATE": chat_template}
                parameters = {"PRESET": preset, "MODEL": model}
                parameters |= {name: value for name, value in own_parameters.items() if value}
                done = _run_one(line, parameters, timeout, on_cell)
                report.finish(line, done)
                if run.own:
                    run.lead = own.own_lead(entries)
                if refresh and not done.failures:
                    write_atomic(line.source, clean.write_text(clean.clean(done.notebook)))
                    _refresh_solutions(line, {"PRESET": preset, "MODEL": model}, size.cell_timeout, on_cell)
                report.write_page(output, line, done.notebook, entries, run)
                report.write_index(output, entries, run)
                _print_line(console, line)
        run.state = "failed" if any(line.status == "failed" for line in entries) else "done"
    except KeyboardInterrupt:
        run.state = "stopped"
        for line in entries:
            line.status = "stopped" if line.status in ("running", "waiting") else line.status
        raise
    finally:
        # The state is still "running" when a page could not be written; then the index cannot be written
        # either.
        if run.state != "running":
            report.write_index(output, entries, run)
            console.print(f"report: {escape(str(output / 'index.html'))}", highlight=False)
    return run.state == "done"


def _findable(model: str) -> str:
    """Return a model folder as its full path, because notebooks run in a folder of their own."""
    place = paths.given(model)
    if model != ORGANISM and place.is_dir():
        return str(place.resolve())
    if model.startswith((".", "/", "~")):
        raise SdlabError(
            f"no model folder {model!r}; give a folder in Hugging Face format, a hub name, or organism"
        )
    return model


def _readable(problems: str) -> str:
    """Return a file of problems as its full path; raise SdlabError when the problems cannot be read."""
    if not problems:
        return ""
    source = ProblemSource(problems)
    if source.is_own:
        source.load()
    return str(source.file.resolve()) if source.file else problems


def _template(chat_template: str) -> str:
    """Return a file with a chat template as its full path; raise SdlabError when there is no such file."""
    template_record(chat_template or None)
    return chat_template if chat_template in ("", PLAIN) else str(paths.given(chat_template).resolve())


def _of_own(
    entries: list[report.Entry], chosen: list[Path], problems: str, chat_template: str, asked: bool
) -> tuple[list[report.Entry], list[Path], tuple[str, ...]]:
    """Return the entries and paths of the notebooks that read the reader's model, problems and template.

    Also the names of the others. Raises SdlabError when one of them was asked for.
    """
    fitting = [line for line in entries if own.follows(line, problems, chat_template)]
    paths_ = [line.source for line in fitting]
    others = [path.stem for path in chosen if path not in paths_]
    if asked and others:
        what = (
            "on your problems"
            if problems
            else "with a chat template"
            if chat_template
            else "on another model"
        )
        raise SdlabError(
            f"notebook {others[0]} does not run {what}; choose among {', '.join(p.stem for p in paths_)}"
        )
    return fitting, [path for path in chosen if path in paths_], tuple(others)


def _run_one(line: report.Entry, parameters: dict, timeout: float, on_cell: execute.Progress) -> Execution:
    try:
        change = own.without_world if parameters.get("PROBLEMS") else None
        return execute.execute(line.source, parameters, timeout=timeout, on_cell=on_cell, change=change)
    except SdlabError as error:  # this notebook cannot run at all; the others can
        return Execution(execute.read(line.source), (Failure(None, "", str(error)),), 0.0)


def _refresh_solutions(
    line: report.Entry, parameters: dict, timeout: float, on_cell: execute.Progress
) -> None:
    """Run the solutions of a notebook and store their outputs; a failure is one of the notebook."""
    path = solutions.path_of(line.source)
    if path is None:
        return
    done = execute.execute(path, parameters, timeout=timeout, on_cell=on_cell)
    if done.failures:
        line.status = "failed"
        line.failures = tuple(Failure(None, "", f"solutions: {failure}") for failure in done.failures)
    else:
        write_atomic(path, clean.write_text(clean.clean(done.notebook)))


def _print_line(console: Console, line: report.Entry) -> None:
    mark = "[green]done[/]  " if line.status == "done" else "[red]failed[/]"
    console.print(f"{mark} {line.name}  {report.clock(line.seconds)}", highlight=False)
    for failure in line.failures:
        console.print(f"       {escape(str(failure))}", highlight=False, soft_wrap=True)


@contextmanager
def _board(console: Console) -> Iterator[Callable[[str], execute.Progress]]:
    """Yield a function from a notebook's name to its progress hook; it draws on a terminal only."""
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
        TextColumn("{task.fields[cell]}"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def start(name: str) -> Callable[[int, int], None]:
            for task in progress.task_ids:
                progress.remove_task(task)
            task = progress.add_task(name, total=None, cell="starting")
            return lambda cell, total: progress.update(
                task, completed=cell - 1, total=total, cell=f"cell {cell}/{total}"
            )

        yield start

"""The explorer inside a notebook: a frame where somebody runs it, a still picture of it elsewhere."""

from pathlib import Path

from sdlab import paths
from sdlab.explore.page import write_page
from sdlab.files import sha256
from sdlab.grading.score import extract_answer, verify
from sdlab.rollout.loading import load_engine
from sdlab.rollout.types import SamplingParams
from sdlab.runs.checkpoints import list_checkpoints, load_checkpoint
from sdlab.show.progress import is_headless
from sdlab.show.tokens import highlight_markers, side_by_side
from sdlab.show.view import View, render
from sdlab.text.prompt import render_prompt
from sdlab.walkthrough.report import EXPLORER
from sdlab.world.problems import Problem


def explorer_view(problem: Problem, page: str = EXPLORER) -> View:
    """Return the explorer in a frame, or what it shows for one problem where nobody runs the notebook.

    With a reader the file `page` is written into the folder of the notebook, and a frame shows it. Headless
    (a report, a saved notebook) the completions of the explorer's models stand side by side, each after its
    last stored training step, above a link to `page`, which a report holds.
    """
    if not is_headless():
        path = write_page(Path(page))
        return View(render("explorer.html", page=page, still=None), f"The explorer: {path.resolve()}")
    still = side_by_side(*_completions(problem), min_width=260)
    text = f"The explorer: sdlab explore --open\n{still.text}"
    return View(render("explorer.html", page=page, still=still), text)


def _completions(problem: Problem) -> list[View]:
    """Return one completion of the base and of every stored model, with its length, markers and verdict."""
    base = sha256(paths.data_dir() / paths.ORGANISM / "model.safetensors")
    entries = [entry for entry in list_checkpoints() if entry.base == base]
    last = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.step)}
    engines = {"base": load_engine("organism")}
    engines |= {f"{one.label}, step {one.step}": load_checkpoint(one.name, one.step) for one in last.values()}
    views = []
    for label, engine in engines.items():
        prompt = render_prompt(engine.tokenizer, problem)
        rollouts = engine.generate([prompt], SamplingParams(1, 256, temperature=0.6, top_p=0.95, top_k=20))
        text, length = rollouts.texts[0], int(rollouts.lengths[0])
        reward = float(verify(extract_answer(text, problem.answer), problem.answer))
        views.append(highlight_markers(text, label, length=length, reward=reward, legend=not views))
    return views

"""The explorer in a real Chromium: it computes what PyTorch computes, and every control does its work.

The page is opened from a file, with the network off, and its own policy (no `eval`) stays in force.
"""

import re
import time
from contextlib import contextmanager
from random import Random

import pytest
from browser import chromium
from checkpoint_maker import moved
from patience import PATIENCE

from sdlab import paths
from sdlab.explore.page import write_page
from sdlab.grading.score import grade
from sdlab.measure.token_divergence import token_divergence
from sdlab.rollout.types import SamplingParams
from sdlab.runs.checkpoints import load_checkpoint, write_checkpoint
from sdlab.text.markers import marker_spans
from sdlab.text.prompt import render_prompt, strip_thinking
from sdlab.world.solutions import write_correct
from sdlab.world.splits import SPLITS, load_split

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ORGANISM = paths.data_dir() / "organism"
HUNT = (
    "All numbers are from 1 to 30. A is between 21 and 23 and half of it, rounded down, ends in 0. What is A?"
)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two models whose weights moved from the organism's a little, one of them along three steps."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = load_checkpoint("base").model
    for name, steps in (("sdpo", (2, 4)), ("grpo", (4,))):
        for step in steps:
            trained = moved(model, 0.002 * step, seed=step + len(name))
            write_checkpoint(ORGANISM, trained, folder, name, step, label=name.upper(), method=name)
    return folder


@pytest.fixture(scope="module")
def path(checkpoints, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page") / "explorer.html", None, checkpoints)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


class Explorer:
    """One page on the explorer. requests: addresses it asked for; complaints: what it reported as errors."""

    def __init__(self, context, address: str):
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.requests, self.complaints = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._note(message))
        self.page.goto(address)

    def _note(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def run(self, script: str, argument=None):
        return self.page.evaluate(script, argument)

    def wait(self, condition: str) -> None:
        """Wait for an expression; wait_for_function would need the `eval` that the page forbids."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"() => Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} did not come true"
            time.sleep(0.1)

    def ask(self) -> None:
        self.page.click("#ask")
        self.settle()

    def settle(self) -> None:
        self.wait("columns.length && columns.every(column => !column.busy && column.result)")

    def texts(self) -> list[str]:
        return self.run("() => columns.map(column => column.result.text)")


@contextmanager
def opened(browser, path, address: str = "", **settings):
    context = browser.new_context(offline=True, **settings)
    try:
        explorer = Explorer(context, path.as_uri() + address)
        yield explorer
    finally:
        context.close()


@pytest.fixture(scope="module")
def explorer(browser, path):
    with opened(browser, path) as explorer:
        explorer.wait("columns.length")
        explorer.run("() => Promise.all(['base', 'sdpo-4'].map(load)).then(() => true)")
        yield explorer


def engine_of(name, checkpoints):
    return load_checkpoint(name, folder=checkpoints)


# ---- the same numbers as PyTorch ----


@pytest.mark.parametrize(("name", "key", "count"), [("base", "base", 100), ("sdpo", "sdpo-4", 20)])
def test_greedy_completions_are_those_of_pytorch(explorer, checkpoints, name, key, count):
    engine = engine_of(name, checkpoints)
    problems = [one for split in ("in-domain", "unseen-types") for one in load_split(split, limit=count // 2)]
    prompts = [render_prompt(engine.tokenizer, one) for one in problems]
    expected = engine.generate(prompts, SamplingParams(1, 256, 0.0))
    ids = [
        row[keep].tolist()
        for row, keep in zip(expected.completion_ids, expected.completion_mask, strict=True)
    ]
    results = explorer.run(
        "([key, prompts]) => "
        "Promise.all(prompts.map(prompt => complete({key, prompt, temperature: 0, seed: 0})))",
        [key, prompts],
    )
    differ = [i for i, result in enumerate(results) if result["ids"] != ids[i]]
    assert not differ
    assert [result["text"] for result in results] == expected.texts
    assert [result["truncated"] for result in results] == expected.truncated.tolist()
    steps = sum(result["steps"] for result in results)
    print(f"\n{count} completions, {steps} tokens")


@pytest.mark.parametrize(("name", "key"), [("base", "base"), ("sdpo", "sdpo-4")])
def test_log_probabilities_and_divergences_are_those_of_pytorch(explorer, checkpoints, name, key):
    engine, teacher = engine_of(name, checkpoints), engine_of("base", checkpoints)
    largest = 0.0
    for problem in load_split("unseen-types", limit=2) + load_split("kata", limit=1):
        solution = write_correct(problem, Random(0))
        prompt = render_prompt(engine.tokenizer, problem)
        informed = render_prompt(engine.tokenizer, problem, solution)
        rollouts = engine.generate([prompt], SamplingParams(1, 256, 1.0, seed=3))
        ids = rollouts.completion_ids[0][rollouts.completion_mask[0]].tolist()
        table = token_divergence(engine, [prompt], [informed], [ids], teacher=teacher)
        tokens = explorer.run(
            "fields => request('inspect', {...fields, teacherKey: 'base', top: 6})"
            ".then(result => result.tokens)",
            {"key": key, "prompt": prompt, "teacherPrompt": informed, "ids": ids},
        )
        for column in ("student", "teacher", "divergence", "entropy"):
            errors = abs(table[column].to_numpy() - [token[column] for token in tokens])
            assert errors.max() < 1e-3, column
        largest = max(largest, table["divergence"].max())
    assert largest > 0.01  # the comparison is not one of zeros


def test_samples_follow_the_distribution(explorer):
    draws = explorer.run(
        """() => { const logits = Float32Array.from([0, 1, 2, -1]), counts = [0, 0, 0, 0];
        for (let n = 0; n < 40000; n++) counts[choose(logits, 0.7, uniformAt(n >> 6, n & 63))]++;
        return [counts.map(count => count / 40000), Array.from(logSoftmax(logits, 0.7), Math.exp)] }"""
    )
    assert max(abs(share - chance) for share, chance in zip(*draws, strict=True)) < 0.01
    assert (
        explorer.run("() => choose(Float32Array.from([0, 5, 4]), 0, 0, 1)") == 2
    )  # the banned one is left out


ODD = [
    "", " ", "\n\n\n", "\t\r\n \u00a0\u2003\u2028\u0085\ufeff", "é e\u0301 naïve ŠŽ",
    "日本語 한국어 العربية ١٢٣ ４５", "😀👩‍👩‍👧‍👦🇩🇪", "<|im_end|> <think></think><|endoftext|>x<|im_start|>",
    "\\boxed{12} \\boxed {1}", "  double  spaces", "<script>alert(1)</script>&amp;", "a" * 300,
    "1234567890 007 -3 2.5e10", "\x00\x01\x7f\x1b", "<|unused0|>", "İıſKﬁ²½Ⅷ_x1",
]  # fmt: skip


def test_tokens_are_those_of_the_tokenizer(explorer, checkpoints):
    tokenizer = engine_of("base", checkpoints).tokenizer
    problems = [one for name in SPLITS for one in load_split(name, limit=48)]
    solution = "<think>\nA: could be 3 or 9. Perhaps 9.\n</think>\n\nThe answer is \\boxed{9}."
    texts = [render_prompt(tokenizer, one) for one in problems]
    texts += [render_prompt(tokenizer, one, solution) for one in problems[::5]] + ODD
    expected = tokenizer(texts, add_special_tokens=False)["input_ids"]
    ids = explorer.run("texts => texts.map(text => TOKENIZER.encode(text))", texts)
    assert [text for text, own, other in zip(texts, ids, expected, strict=True) if own != other] == []
    decoded = explorer.run("rows => rows.map(row => TOKENIZER.decode(row))", expected)
    assert decoded == tokenizer.batch_decode(expected, skip_special_tokens=True)


# ---- the world and the verdicts ----


def test_every_problem_of_the_world_is_read(explorer):
    problems = [one for name in SPLITS if name != "kata" for one in load_split(name, limit=200)]
    read = explorer.run(
        "texts => texts.map(text => readProblem(text, DATA.world, new Map()))",
        [one.prompt for one in problems],
    )
    assert [one.answer for one in problems] == [result["answer"] for result in read]
    assert all(result["message"].startswith("Well formed.") for result in read)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("What is 2 + 2?", "begins with “All numbers are from 1 to 30.”"),
        (HUNT.replace("What is A?", ""), "ends with a question"),
        (HUNT.replace("What is A?", "What is B?"), "The question must be “What is A?”"),
        (HUNT.replace("A is", "B is"), "should begin with the letter A"),
        (HUNT.replace("between 21", "above 21"), "The clue “is above 21 and 23” of A is unknown"),
        (HUNT.replace("ends in 0", "ends in x"), "The check of A is unknown"),
        (HUNT.replace("ends in 0", "ends in 7"), "None passes the check of A, out of 21, 22 or 23"),
        (HUNT.replace("ends in 0", "ends in 1"), "22 or 23 pass the check of A"),
        ("Kata 999: bump. What does 1 become?", "not one of the listed kata"),
        (
            "Pale velan undergoes a burning in oil. Which product forms: an ester?",
            "reaction “burning” is unknown",
        ),
    ],
)
def test_a_text_that_is_no_problem_gets_a_sentence(explorer, text, message):
    result = explorer.run("text => readProblem(text, DATA.world, KNOWN)", text)
    assert result["answer"] is None and message in result["message"]


def test_verdicts_markers_and_solutions_are_those_of_the_package(explorer):
    texts = [
        "\\boxed{12}.", "\\boxed{ 012 }", "x \\boxed{3} y \\boxed{12}", "\\boxed{12", "12", "\\boxed{-12}",
        "\\boxed{1{2}}", "<think>\n\\boxed{12}", "a</think> \n\\boxed{12}<think>b",
        "Wait, WAIT; await check's double-check checking",
        "maybe_ Maybe\u0301 perhaps. Hmm! hmmm éwait wait", "",
    ]  # fmt: skip
    assert explorer.run("texts => texts.map(text => isRight(text, '12'))", texts) == [
        score == 1 for score in grade(texts, ["12"] * len(texts))
    ]
    assert explorer.run("texts => texts.map(stripThinking)", texts) == [
        strip_thinking(text) for text in texts
    ]
    spans = explorer.run(
        "texts => texts.map(text => markerSpans(text, DATA.families).map(span => span.slice(0, 2)))", texts
    )
    assert spans == [[[start, end] for start, end, _ in marker_spans(text)] for text in texts]


# ---- the page ----


def test_a_run_through_the_page(browser, path):
    with opened(browser, path, viewport={"width": 1280, "height": 900}) as explorer:
        page = explorer.page
        explorer.wait("columns.length === 3")
        assert explorer.run("() => columns.map(column => column.model)") == ["base", "sdpo", "grpo"]
        page.fill("#problem", HUNT)
        assert "A = 21" in page.inner_text("#checked")
        explorer.ask()
        first = explorer.texts()
        assert page.locator(".completion [role=option]").count() == sum(
            explorer.run("() => columns.map(column => column.result.ids.length)")
        )

        # a token: both distributions, which are distributions, and one of a marker
        page.locator("#column-1 .marker").first.click()
        explorer.wait("columns[0].inspected")
        assert "informed teacher" in page.inner_text("#panel")
        assert page.locator("#panel tbody tr").count() >= 1

        # insert: what stands before the place stays, the word follows it
        page.fill("#insert", "Wait")
        page.get_by_role("button", name="Insert before").click()
        explorer.settle()
        edited = explorer.texts()
        place = edited[0].index("Wait")
        assert edited[0][: place - 1] == first[0][: place - 1] and edited[1:] == first[1:]
        page.get_by_role("button", name="Undo the edit").click()
        explorer.settle()
        assert explorer.texts() == first

        # delete: another token stands there
        page.locator("#column-2-4").click()
        explorer.wait("columns[1].inspected")
        before = explorer.run("() => columns[1].result.ids")
        page.get_by_role("button", name="Delete").click()
        explorer.settle()
        after = explorer.run("() => columns[1].result.ids")
        assert after[:4] == before[:4] and after[4] != before[4]
        link = page.url

        # the slider: the base stays, the trained model changes, and the last step gives the same text again
        page.get_by_role("button", name="Undo the edit").click()
        explorer.settle()
        slider = page.locator("#step")
        slider.fill("0")
        explorer.settle()
        assert explorer.texts()[1] == explorer.texts()[0] == first[0]
        slider.fill("2")
        explorer.settle()
        assert explorer.texts() == first

        # contexts: the solution stands in the prompt and on the page
        page.get_by_label("solution without think").check()
        explorer.settle()
        assert "Correct solution: The answer is \\boxed{21}." in explorer.run("() => columns[0].prompt")
        assert page.text_content("#solution") == "The answer is \\boxed{21}."
        assert explorer.complaints == [] and page.is_hidden("#trouble")
        assert all(re.match("(file|blob|data):", address) for address in explorer.requests)
        assert len(explorer.requests) == 2  # the page and its worker

    # the link restores what it was written from, edit and all
    with opened(browser, path, "#" + link.split("#")[1]) as explorer:
        explorer.wait("asked")
        explorer.settle()
        assert explorer.run("() => columns[1].result.ids") == after
        assert explorer.page.input_value("#problem") == HUNT
        assert explorer.texts()[0] == first[0]


def test_everything_works_with_the_keyboard_alone(browser, path):
    with opened(browser, path) as explorer:
        page, focus = explorer.page, "() => document.activeElement.id || document.activeElement.textContent"
        explorer.wait("columns.length === 3")
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(explorer.run(focus))
        needed = {
            "tour-open",
            "copy",
            "split",
            "draw",
            "problem",
            "temperature",
            "seed",
            "step",
            "ask",
            "heat",
        }
        assert needed | {"many", "many-split", "column-1-box", "column-3-box"} <= set(reached)
        page.focus("#problem")
        page.keyboard.press("Control+Enter")
        explorer.settle()
        page.focus("#column-2-box")
        for key in ("End", "Home", "ArrowRight", "ArrowDown", "ArrowLeft"):
            page.keyboard.press(key)
        assert explorer.run("() => columns[1].chosen") == 10
        explorer.wait("columns[1].inspected")
        assert page.get_attribute("#column-2-box", "aria-activedescendant") == "column-2-10"
        page.keyboard.press("Enter")
        assert explorer.run(focus) == "insert"
        page.keyboard.type("Hmm")
        page.keyboard.press("Enter")
        explorer.settle()
        assert "Hmm" in explorer.texts()[1] and explorer.run(focus) == "column-2-box"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        assert page.locator("#panel").count() == 0
        assert explorer.complaints == []


def test_many_problems_and_the_tour(browser, path):
    with opened(browser, path) as explorer:
        page = explorer.page
        explorer.wait("columns.length === 3")
        page.get_by_role("button", name="Remove the last column").click()
        explorer.run("() => { DATA.problems['in-domain'].length = 4 }")  # 50 take a while
        page.get_by_role("button", name="Guided tour").click()
        for title in ("Predict", "Look", "Scrub", "Click", "Insert", "Conclude"):
            assert page.inner_text("#tour-title") == title
            if title == "Predict":
                page.locator("#tour").get_by_label("SDPO").check()
            if title == "Click":
                page.get_by_role("button", name="Choose the darkest word").click()
                explorer.wait("chosen && columns[0].inspected && columns[0].chosen > 0")
                heat = explorer.run("() => columns[0].inspected.map(token => token.divergence)")
                assert heat.index(max(heat)) == explorer.run("() => columns[0].chosen")
            if title == "Insert":
                page.get_by_role("button", name="Insert “Wait” for me").click()
                explorer.wait("columns[1].prefix.length && !columns[1].busy")
                assert "Wait" in explorer.texts()[1]
            if title != "Conclude":
                page.locator("#tour").get_by_role("button", name="Next").click()
        assert "You expected SDPO" in page.inner_text("#tour")
        page.select_option("#split", "in-domain")
        page.locator("#tour").get_by_role("button", name="Run 50 problems").click()
        explorer.wait("!many && document.querySelector('#many-result td')")
        assert page.locator("#many-result tbody tr").count() == 2
        assert re.search(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", page.inner_text("#many-result"))
        assert "on the same 4 problems" in page.inner_text("#many-result")
        page.keyboard.press("Escape")
        assert explorer.complaints == []


def test_typed_text_is_never_markup(browser, path):
    attack = "<img src=x onerror=alert(1)><b>bold</b>"
    with opened(browser, path) as explorer:
        page = explorer.page
        explorer.wait("columns.length === 3")
        page.on("dialog", lambda dialog: explorer.complaints.append(dialog.message))
        page.fill("#problem", attack)
        explorer.ask()
        assert "no verdict" in page.inner_text("#column-1 .facts") or "cut off" in page.inner_text(
            "#column-1 .facts"
        )
        page.focus("#column-1-box")
        page.keyboard.press("ArrowRight")
        page.fill("#insert", attack)
        page.get_by_role("button", name="Insert before").click()
        explorer.settle()
        assert "<b>bold</b>" in page.inner_text("#column-1-box")
        assert page.locator("main img, .completion b:not(.marker)").count() == 0
        assert explorer.complaints == []


def test_trouble_is_a_sentence_and_no_blank_page(browser, path, tmp_path):
    with opened(browser, path) as explorer:
        page = explorer.page
        explorer.wait("columns.length === 3")
        page.fill("#problem", "   ")
        assert "empty" in page.inner_text("#checked") and page.is_disabled("#ask")
        page.fill("#problem", "word " * 2000)
        page.click("#ask")
        explorer.wait("columns.every(column => !column.busy)")
        assert "too long" in page.inner_text("#column-1 .facts")
    text = path.read_text(encoding="utf-8")
    at = text.index('id="weights-sdpo-4">') + 200_000
    for name, changed, where, sentence in (
        (
            "one.html",
            text[:at] + "AAAA" + text[at + 4 :],
            "#column-2 .facts",
            "sdpo-4 in this page is damaged",
        ),
        (
            "base.html",
            re.sub('(id="weights-base">.{99})', r"\1!", text),
            "#trouble",
            "base in this page is damaged",
        ),
        ("data.html", text.replace('"tokenizer":{', '"tokenizer":{,', 1), "#trouble", "This page is damaged"),
        ("cut.html", text[: len(text) // 2], "#trouble", "This page is incomplete or damaged"),
    ):
        (tmp_path / name).write_text(changed, encoding="utf-8")
        with opened(browser, tmp_path / name) as explorer:
            if where == "#column-2 .facts":
                explorer.wait("columns.length === 3")
                explorer.page.click("#ask")
                explorer.wait("columns.every(column => !column.busy)")
            explorer.page.locator(where, has_text=sentence).wait_for(timeout=PATIENCE * 100)


@pytest.mark.parametrize("lacking", ["Worker", "DecompressionStream"])
def test_an_old_browser_gets_a_sentence(browser, path, lacking):
    context = browser.new_context(offline=True)
    context.add_init_script(f"delete window.{lacking}")
    explorer = Explorer(context, path.as_uri())
    explorer.page.locator("#trouble", has_text="Use a current browser").wait_for()
    context.close()


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser, path):
    settings = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
    with opened(browser, path, **settings) as explorer:
        explorer.wait("columns.length === 3")
        explorer.ask()
        explorer.page.locator("#column-1 .marker").first.click()
        explorer.wait("columns[0].inspected")
        assert explorer.run("() => document.documentElement.scrollWidth") <= 390
        assert explorer.run("() => getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 23)"


def test_a_token_takes_less_than_fifty_milliseconds(explorer):
    """In the processor time of the worker this is about 3 ms; a busy machine may take longer."""
    prompt = explorer.run("() => promptOf(DATA.problems['in-domain'][0][0])")
    times = [
        explorer.run(
            "([prompt, seed]) => complete({key: 'base', prompt, temperature: 1, seed})"
            ".then(result => result.milliseconds / result.steps)",
            [prompt, seed],
        )
        for seed in range(5)
    ]
    print(f"\nmilliseconds per token: {min(times):.2f} to {max(times):.2f}")
    assert min(times) < 50

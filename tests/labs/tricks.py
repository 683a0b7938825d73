"""Ways to reach the function that a lab asks for, and cheating answers of every lab that try all of them.

TRICKS: name of the trick: body of `trick(module, name, package, source)`. It returns the function called
`name` of `module`; `package` is the folder of sdlab, `source` the solution notebook.
CHEATS: by lab, {grade_id of the solution cell: (modules that hold the reference, code of the answer)}.
"""

TRICKS = {
    "import": "exec(f'from {module} import {name} as found', names := {})\nreturn names['found']",
    "importlib": "import importlib\nreturn getattr(importlib.import_module(module), name)",
    "reload": "import importlib, sys\nsys.modules.pop(module, None)\n"
    "return getattr(importlib.reload(importlib.import_module(module)), name)",
    "getattr": "import sdlab, importlib\nimportlib.import_module(module)\nvalue = sdlab\n"
    "for part in module.split('.')[1:]: value = getattr(value, part)\nreturn getattr(value, name)",
    "bound": "import functools, importlib\n"
    "return functools.partial(getattr(importlib.import_module(module), name).__call__)",
    "copied code": "import importlib, types\nf = getattr(importlib.import_module(module), name)\n"
    "return types.FunctionType(f.__code__, f.__globals__, name, f.__defaults__, f.__closure__)",
    "getsource": "import importlib, inspect\nhome = importlib.import_module(module)\n"
    "text = inspect.getsource(getattr(home, name))\nspace = dict(vars(home))\nexec(text, space)\n"
    "return space[name]",
    "every module": "import importlib, sys\nimportlib.import_module(module)\n"
    "for home in list(sys.modules.values()):\n"
    "    value = vars(home).get(name)\n"
    "    if callable(value) and getattr(value, '__module__', '').startswith('sdlab'): return value",
    "every object": "import gc, importlib, types\nimportlib.import_module(module)\n"
    "return next(one for one in gc.get_objects() if isinstance(one, types.FunctionType)\n"
    "            and one.__name__ == name and one.__module__ == module)",
    "the file": "import pathlib\npath = pathlib.Path(package).parent.joinpath(*module.split('.'))\n"
    "space = {'__name__': 'copied'}\nexec(path.with_suffix('.py').read_text(), space)\nreturn space[name]",
    "runpy": "import pathlib, runpy\n"
    "path = pathlib.Path(package).parent.joinpath(*module.split('.')).with_suffix('.py')\n"
    "return runpy.run_path(str(path))[name]",
    "another finder": "import importlib, importlib.machinery, pathlib, sys\n"
    "for one in [one for one in sys.modules if one.partition('.')[0] == 'sdlab']: del sys.modules[one]\n"
    "sys.meta_path.insert(0, importlib.machinery.PathFinder)\n"
    "sys.path.insert(0, str(pathlib.Path(package).parent))\nimportlib.invalidate_caches()\n"
    "return getattr(importlib.import_module(module), name)",
    "another process": "import os, pathlib, subprocess, sys\n"
    "text = f'import inspect, {module} as home; print(inspect.getsource(home))'\n"
    "env = {**os.environ, 'PYTHONPATH': str(pathlib.Path(package).parent)}\n"
    "done = subprocess.run([sys.executable, '-c', text], capture_output=True, text=True, env=env)\n"
    "space = {'__name__': 'copied'}\nexec(done.stdout, space)\nreturn space[name]",
    "the solution": "import json, pathlib\n"
    "cells = json.loads(pathlib.Path(source).read_text())['cells']\n"
    "space = {}\n"
    "for cell in cells:\n"
    "    if cell['cell_type'] == 'code' and 'BEGIN ' + 'SOLUTION' in ''.join(cell['source']):\n"
    "        exec(''.join(cell['source']), space)\n"
    "return space[asked]",
    "frames": "import sys\nframe = sys._getframe()\nwhile frame:\n"
    "    for key in ('wanted', 'expected', 'hand', 'brute', 'by_hand', 'exact'):\n"
    "        if key in frame.f_locals: return lambda *_, value=frame.f_locals[key]: value\n"
    "    frame = frame.f_back\nraise LookupError",
}

REACH = '''
def reach(module, name, asked):
    """The first working trick's function, or nothing."""
    for trick in TRICKS:
        try:
            found = trick(module, name, {package!r}, {source!r}, asked)
        except BaseException:
            continue
        if callable(found):
            return found
    raise LookupError("nothing found")
'''


def reach(package, source, tricks=TRICKS) -> str:
    """Python code that defines `reach(module, name, asked)`, which tries `tricks` one after the other."""
    code, names = [], []
    for number, name in enumerate(tricks):
        body = TRICKS[name].replace("\n", "\n    ")
        code.append(f"def trick_{number}(module, name, package, source, asked):\n    {body}\n")
        names.append(f"trick_{number}")
    code.append(f"TRICKS = [{', '.join(names)}]")
    return "\n".join(code) + REACH.replace("{package!r}", repr(str(package))).replace(
        "{source!r}", repr(str(source))
    )


CHEATS = {
    "lab1": {
        "cmi": (
            "sdlab.measure.information",
            """
def conditional_mutual_information(p_xyc):
    return reach("sdlab.measure.information", "conditional_mutual_information",
                 "conditional_mutual_information")(p_xyc)
""",
        ),
        "markers": (
            "sdlab.text.markers",
            """
def count_markers(text):
    return reach("sdlab.text.markers", "count_markers", "count_markers")(text)
""",
        ),
        "rate": (
            "sdlab.text.markers",
            """
def per_1000_tokens(counts, lengths):
    table = reach("sdlab.text.markers", "marker_table", "per_1000_tokens")
    try:
        texts = [" ".join(["maybe"] * int(count)) for count in counts]
        rows = table(texts, [int(n) for n in lengths]).set_index("marker")
        row = rows["per_1000_tokens"]["total"]
        return float(row) if sum(lengths) else float("nan")
    except AttributeError:
        return table(counts, lengths)
""",
        ),
        "belief-entropy": (
            "sdlab.world.reasoner",
            """
def belief_entropy(prior, possible):
    entropy = reach("sdlab.world.reasoner", "entropy", "belief_entropy")
    belief = np.where(possible, prior, 0.0)
    belief = belief / belief.sum(1, keepdims=True)
    return np.array([entropy(row) for row in belief]) / np.log(2)
""",
        ),
        "rank-correlation": (
            "scipy.stats",
            """
def rank_correlation(x, y):
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)
""",
        ),
    },
    "lab2": {
        "advantages": (
            "sdlab.train.losses",
            """
def advantages(rewards, scale=False):
    found = reach("sdlab.train.losses", "group_advantages", "advantages")
    try:
        return found(rewards.flatten(), rewards.shape[1], scale).view(rewards.shape)
    except TypeError:
        return found(rewards, scale)
""",
        ),
        "clipped-loss": (
            "sdlab.train.losses",
            """
def clipped_loss(per_token_logps, old_per_token_logps, advantages, epsilon_low=0.2, epsilon_high=0.28):
    found = reach("sdlab.train.losses", "grpo_token_loss", "clipped_loss")
    gains = advantages[:, None]
    return found(per_token_logps, old_per_token_logps.detach(), gains, epsilon_low, epsilon_high)
""",
        ),
        "mean-loss": (
            "sdlab.train.losses",
            """
def mean_loss(per_token_loss, completion_mask, how):
    return reach("sdlab.train.losses", "aggregate", "mean_loss")(per_token_loss, completion_mask, how)
""",
        ),
        "teaching-groups": (
            "sdlab.train.losses",
            """
def teaching_groups(rewards):
    found = reach("sdlab.train.losses", "group_advantages", "teaching_groups")
    try:
        return (found(rewards.double().flatten(), rewards.shape[1]).view(rewards.shape).abs() > 1e-9).any(1)
    except TypeError:
        return found(rewards)
""",
        ),
    },
    "lab3": {
        "strip-thinking": (
            "sdlab.text.prompt",
            """
def without_thinking(text, opened=False):
    return reach("sdlab.text.prompt", "strip_thinking", "without_thinking")(text, opened)
""",
        ),
        "choose-demonstration": (
            "sdlab.train.teacher",
            """
def demonstrations(rewards, num_generations):
    return reach("sdlab.train.teacher", "choose_demonstrations", "demonstrations")(rewards, num_generations)
""",
        ),
        "divergence": (
            "sdlab.train.divergences",
            """
def divergence(student_logps, teacher_logps, alpha):
    found = reach("sdlab.train.divergences", "divergence", "divergence")
    return found(student_logps, teacher_logps.detach(), alpha)
""",
        ),
        "top-k-tail": (
            "sdlab.train.divergences",
            """
def top_k_with_tail(student_logps, teacher_logps, k):
    found = reach("sdlab.train.divergences", "top_k_logps", "top_k_with_tail")
    try:
        a, b = found(student_logps, teacher_logps, k, tail=True)
    except TypeError:
        return found(student_logps, teacher_logps, k)
    order = a[:, :-1].argsort(dim=-1, descending=True)
    order = torch.cat([order, torch.full_like(order[:, :1], k)], dim=-1)
    return a.gather(1, order), b.gather(1, order)
""",
        ),
        "first-alarm": (
            "sdlab.measure.crossed",
            """
def first_alarm(table, split, confidence=0.95):
    found = reach("sdlab.measure.crossed", "seeds_difference", "first_alarm")
    wide = table[table["split"] == split].pivot(index="seed", columns="step", values="score")
    for step in sorted(wide.columns)[1:]:
        change = found(wide[0], wide[step])
        if change.significant and change.interval.mean < 0:
            return int(step)
    return None
""",
        ),
    },
    "lab4": {
        "route": (
            "sdlab.train.teacher",
            """
def route(rewards, num_generations):
    found = reach("sdlab.train.teacher", "choose_demonstrations", "route")
    shown = torch.tensor([one is not None for one in found(rewards, num_generations)])
    return shown & (rewards < 0.5)
""",
        ),
    },
}

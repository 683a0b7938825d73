"""The alarm in TRL: the callback by hand, and in a job against the rows that the job writes."""

from types import SimpleNamespace

import pytest

pytest.importorskip("trl")
pytest.importorskip("datasets")

from sdlab.errors import SdlabError
from sdlab.scale.alarm import AlarmCallback, with_alarm
from sdlab.scale.job import Job
from sdlab.study.watch import Rule
from sdlab.text.markers import total_markers
from sdlab.train.grpo import GRPOConfig

HEDGED, PLAIN = "Wait, maybe 3. Check: yes.", "It is 3."


def step(alarm, reward, texts, number: int, first: bool = True):
    """One training step that samples `texts` of ten tokens each."""
    state = SimpleNamespace(global_step=number, is_world_process_zero=first)
    control = SimpleNamespace(should_training_stop=False)
    alarm.on_step_begin(None, state, control)
    ids = [[1] * 10 for _ in texts]
    assert reward(completions=texts, completion_ids=ids, prompts=None) == [1.0] * len(texts)
    alarm.on_step_end(None, SimpleNamespace(global_step=number + 1, is_world_process_zero=first), control)
    return control.should_training_stop


def always_right(completions, completion_ids, **_):
    return [1.0] * len(completions)


def test_a_callback_warns_when_the_markers_fall():
    lines = []
    alarm = AlarmCallback(write=lines.append, stop=True)
    reward = alarm.around(always_right)
    assert reward.__name__ == "always_right"  # TRL names the columns of its log by it
    stops = [
        step(alarm, reward, texts, i) for i, texts in enumerate(([HEDGED] * 4, [HEDGED, PLAIN], [PLAIN] * 3))
    ]
    assert stops == [False, True, False] and alarm.fired == 1 and len(lines) == 1
    assert lines[0].startswith("alarm at step 1: markers per 1,000 tokens fell from 300 to 150;")
    assert total_markers(HEDGED) == 3 and alarm.rows[1] == {
        "step": 1, "reward": 1.0, "length": 10.0, "markers": 1.5, "density": 150.0,
    }  # fmt: skip


def test_chats_count_and_evaluations_do_not():
    alarm = AlarmCallback(write=pytest.fail)
    reward = alarm.around(always_right)
    reward(completions=[HEDGED], completion_ids=[[1]])  # before the first step, in an evaluation
    step(
        alarm,
        reward,
        [[{"role": "assistant", "content": HEDGED}], [{"role": "assistant", "content": None}]],
        0,
    )
    assert [row["markers"] for row in alarm.rows] == [1.5]
    state = SimpleNamespace(global_step=1, is_world_process_zero=True)
    alarm.on_step_begin(None, state, None)
    alarm.on_step_end(None, state, None)  # an update on completions that were sampled before
    assert len(alarm.rows) == 1


def test_other_processes_write_nothing_and_a_resumed_run_knows_its_start():
    lines = []
    alarm = AlarmCallback(write=lines.append, earlier=[{"step": 0, "density": 300.0}])
    reward = alarm.around(always_right)
    step(alarm, reward, [PLAIN], 5, first=False)
    assert alarm.fired == 5 and not lines
    with pytest.raises(SdlabError, match="cannot watch 'fork_rate'"):
        AlarmCallback(Rule("fork_rate"))


@pytest.mark.slow
def test_a_job_counts_what_its_own_rows_count(tmp_path, monkeypatch):
    from sdlab.scale import train as scale_train

    config = GRPOConfig(
        steps=2, num_problems=2, num_generations=4, max_completion_length=48, warmup_steps=2, thinking=False
    )
    one = Job("grpo", "organism", "chemistry-train", config, per_device_rows=4, output=str(tmp_path / "run"))
    alarms, rows = [], []

    def remember(reward, job, write):
        arguments = with_alarm(reward, job, write)
        alarms.extend(arguments["callbacks"])
        return arguments

    monkeypatch.setattr("sdlab.scale.alarm.with_alarm", remember)
    scale_train.train(one, on_step=rows.append)
    assert [row["step"] for row in alarms[0].rows] == [0, 1]
    for ours, theirs in zip(alarms[0].rows, rows, strict=True):
        for name in ("reward", "length", "markers", "density"):
            assert ours[name] == pytest.approx(theirs[name])

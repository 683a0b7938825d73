"""Extract the completions from the rows of a file, one row at a time."""

import json
from dataclasses import replace
from hashlib import sha256

from sdlab.reading.cells import plain, text_of
from sdlab.reading.chats import conversation, prompt_of, split_chat, unpacked
from sdlab.reading.column_names import is_chat
from sdlab.reading.columns import cell_of
from sdlab.reading.generations import generations_of
from sdlab.reading.messages import Generation, joined
from sdlab.reading.notes import Tally
from sdlab.reading.values import cut_of, number_of, truth_of, verdict_of

BESIDE = ("tokens", "finish_reason", "truncated", "reward")  # a cell for each completion of a row


class Reading:
    """The state while the rows of a file are read one by one."""

    def __init__(self, columns: dict[str, str]) -> None:
        self.columns, self.tally = columns, Tally()
        self.rows: list[dict] = []
        self.filtered: dict[bytes, str] = {}  # hash of a row of lm-evaluation-harness -> its filter
        self.seen: set[bytes] = set()  # hashes of all other rows

    def take(self, number: int, record: dict) -> None:
        """Read row `number`: append its completions to `rows`, and count what is left out in `tally`."""
        self.tally.rows += 1
        if self._repeats(record):
            return
        cells = {role: cell_of(record, column) for role, column in self.columns.items()}
        generations = self._generations(cells, record) or [None]  # an empty list
        beside = {role: self._beside(role, cells.get(role), len(generations)) for role in BESIDE}
        prompt = self._prompt(cells)
        truth = truth_of(cells.get("answer"), self.columns.get("answer", ""))
        if "step" in record:
            self.tally.steps.add(str(record["step"]))
        for i, one in enumerate(generations):
            if one is None and self._was_cut(beside["finish_reason"][i], beside["truncated"][i]):
                one = Generation("")  # all its tokens were thinking that the server did not return
            if one is None:
                self.tally.left_out[self._why(record, cells.get("response"))] += 1
                continue
            self.tally.no_truth += truth is None
            self.tally.no_prompt += not prompt
            self.tally.after += one.after > 0
            self.tally.earlier += bool(one.earlier)
            self.tally.empty += not one.text.strip()
            self.rows.append({
                "row": number, "prompt": prompt or "", "truth": truth or "",
                "id": text_of(cells.get("problem_id")),
                "model": text_of(cells.get("model")) or one.model,
                "benchmark": text_of(cells.get("benchmark")),
                "completion": one.text, "earlier": one.earlier,
                "tokens": one.tokens if one.tokens is not None else beside["tokens"][i],
                "truncated": self._cut(one, beside["finish_reason"][i], beside["truncated"][i]),
                "recorded": self._verdict(beside["reward"][i]), "entropy": number_of(cells.get("entropy")),
            })  # fmt: skip

    def _generations(self, cells: dict, record: dict) -> list[Generation | None]:
        """Return the completions of a row, joined with the thinking in another column."""
        cell = cells.get("response")
        if self.columns.get("response") in ("choices", "candidates"):  # the row is a server's response
            cell = {name: cell_of(record, name) for name in record}
        if _is_loglikelihoods(cell):
            return [None]
        generations = generations_of(cell)
        thinking = cells.get("thinking")
        if thinking is None:
            return generations
        thoughts = generations_of(thinking)
        if len(thoughts) != len(generations) and len(generations) == 1:  # parts of one text
            thoughts = [Generation("".join(one.text for one in thoughts if one))]
        if len(thoughts) != len(generations):
            self.tally.unfit["thinking"] += 1
            return generations
        return [
            _with_thinking(one, thought.text) if thought and thought.text else one
            for one, thought in zip(generations, thoughts, strict=True)
        ]

    def _beside(self, role: str, cell, count: int) -> list:
        """Return one cell for each of `count` completions; a single cell does not describe several."""
        if isinstance(cell, list) and len(cell) == count:
            return cell
        if not isinstance(cell, list) and count == 1:
            return [cell]
        if cell is not None:
            self.tally.unfit[role] += 1
        return [None] * count

    def _prompt(self, cells: dict) -> str | None:
        """Return the whole prompt; a chat with several turns is preferred to a column of prompts."""
        chat = unpacked(cells.get("conversation"))
        if not is_chat(chat) and "prompt" not in self.columns:
            chat = unpacked(cells.get("response"))  # a chat as rendered by its template
        before, _, after = split_chat(chat) if is_chat(chat) else ([], [], [])
        if after and self.columns.get("conversation", "") != self.columns.get("response"):
            before = chat  # the chat ends with the question of the completion
        if before and ("prompt" not in self.columns or len(before) > 1):
            return conversation(before)
        prompt, system = prompt_of(cells.get("prompt")), prompt_of(cells.get("system"))
        prompt = "\n\n".join(filter(None, (prompt, prompt_of(cells.get("prompt_input")))))
        return f"system: {system}\n\nuser: {prompt}" if system and prompt else prompt

    def _cut(self, one: Generation, reason, flag) -> float | None:
        """Return whether a completion was cut: by its own object, its finish reason, or its flag."""
        reason = one.finish_reason if one.finish_reason is not None else reason
        by_reason = cut_of(reason, self.columns.get("finish_reason", ""))
        by_flag = cut_of(flag, self.columns.get("truncated", ""))
        for role, cell, cut in (("finish_reason", reason, by_reason), ("truncated", flag, by_flag)):
            if cell is not None and cut is None:
                self.tally.unread[role][str(cell)[:40]] += 1
        self.tally.conflicts += None not in (by_reason, by_flag) and by_reason != by_flag
        return by_flag if by_reason is None else by_reason

    def _was_cut(self, reason, flag) -> bool:
        """Return whether the cells of a missing completion say that it was cut."""
        names = [self.columns.get(role, "") for role in ("finish_reason", "truncated")]
        return 1.0 in (cut_of(reason, names[0]), cut_of(flag, names[1]))

    def _verdict(self, cell) -> float | None:
        verdict = verdict_of(cell)
        if verdict is None and cell is not None:
            self.tally.unread["reward"][str(cell)[:40]] += 1
        return verdict

    def _repeats(self, record: dict) -> bool:
        """Return whether a row repeats the completions of another row.

        lm-evaluation-harness writes one row for each filter.
        """
        name = record.get("filter")
        if isinstance(name, str) and "resps" in record:
            key = _hash([record.get(part) for part in ("doc_id", "doc_hash", "arguments", "resps")])
            kept = self.filtered.setdefault(key, name)
            self.tally.kept_filters[kept] = None
            if kept != name:
                self.tally.filters[name] += 1
                return True
        key = _hash(record)
        self.tally.copies += key in self.seen
        self.seen.add(key)
        return False

    @staticmethod
    def _why(record: dict, cell) -> str:
        """Return the reason why a row, or an entry of it, has no completion."""
        if record.get("error") or (
            isinstance(cell, dict) and (cell.get("error") or cell.get("type") == "errored")
        ):
            return "of requests that failed"
        if _is_loglikelihoods(cell):
            return "log-likelihoods of given texts"
        return "empty cells" if cell is None or isinstance(cell, list) else "cells without text"


def _with_thinking(one: Generation | None, thinking: str) -> Generation:
    return (
        Generation(joined(thinking, None)) if one is None else replace(one, text=joined(thinking, one.text))
    )


def _is_loglikelihoods(cell) -> bool:
    """Return whether a cell has the log-likelihoods of choices: [[[number, greedy]], ...].

    lm-evaluation-harness writes them.
    """
    while isinstance(cell, list) and len(cell) and isinstance(cell[0], list):
        if len(cell[0]) == 2 and str(cell[0][1]) in ("True", "False") and number_of(cell[0][0]) is not None:
            return True
        cell = cell[0]
    return False


def _hash(value) -> bytes:
    return sha256(json.dumps(plain(value), sort_keys=True, default=str).encode("utf-8", "replace")).digest()

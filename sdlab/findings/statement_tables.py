"""The verdicts on statements as tables and sentences."""

import pandas

from sdlab.study.statements import AGREES, NOT_STATED, OWN_WORDS, tally

Rows = dict[str, dict[str, str]]  # claim -> row, from `sdlab.study.statements.statement_rows`


def statement_table(rows: Rows) -> pandas.DataFrame:
    """Return one narrow row per statement: its verdict, what was measured, and the paper's sentence."""
    table = {
        claim: {
            "verdict": row["verdict"],
            "measured": row["measured"],
            "the paper": row["paper"] if row["paper"] == NOT_STATED else f"{row['paper']} ({row['source']})",
        }
        for claim, row in rows.items()
    }
    return pandas.DataFrame.from_dict(table, orient="index").rename_axis("statement")


def refuting_table(rows: Rows) -> pandas.DataFrame:
    """Return what would refute each statement."""
    table = {claim: {"it would be refuted by": row["refuted by"]} for claim, row in rows.items()}
    return pandas.DataFrame.from_dict(table, orient="index").rename_axis("statement")


def verdict_words(rows: Rows) -> list[str]:
    """Return sentences that count the verdicts, then one for every statement that does not hold."""
    counts = tally(rows)
    counted = ", ".join(f"{verdict} {count}" for verdict, count in counts.items())
    lines = [f"Verdicts on {sum(counts.values())} statements of the paper: {counted}."]
    own = [row["verdict"] for row in rows.values() if row["paper"] == NOT_STATED]
    if own:
        counted = ", ".join(f"{verdict} {own.count(verdict)}" for verdict in dict.fromkeys(own))
        lines.append(f"Verdicts on {len(own)} questions of our own: {counted}.")
    lines += [
        f"The recorded runs, *{row['verdict']}*: {claim} ({row['measured']})."
        for claim, row in rows.items()
        if row["verdict"] not in (AGREES, OWN_WORDS[AGREES])
    ]
    return lines


def cite(rows: Rows, *claims: str) -> list[str]:
    """Return one sentence per claim with its verdict and the measured quantity.

    A claim whose runs are not recorded is left out, with a sentence that says so.
    """
    lines = []
    for claim in claims:
        start = claim[0].upper() + claim[1:]
        if claim in rows:
            lines.append(f"{start}: **{rows[claim]['verdict']}** ({rows[claim]['measured']}).")
        else:
            lines.append(f"{start}: its runs are not recorded here.")
    return lines

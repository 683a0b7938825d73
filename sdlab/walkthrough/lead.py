"""The head and the foot of the report's index: the answer with its figure, and the table of verdicts."""

from markupsafe import Markup

from sdlab.findings.answer import NEEDED, answer
from sdlab.findings.curve_shape import headline
from sdlab.study.conditions import CONDITIONS
from sdlab.study.paper_statements import COVERAGE_STATEMENTS, METHOD_STATEMENTS
from sdlab.study.recorded import is_recorded, load_recorded
from sdlab.study.statements import NOT_STATED, statement_rows
from sdlab.walkthrough.report import Lead


def lead() -> Lead | None:
    """Return the answer, its figure and the verdicts; None where the runs are not recorded."""
    if not all(is_recorded(name) for name in NEEDED):
        return None
    from sdlab.charts.curves import split_curves
    from sdlab.charts.picture import chart_html

    recorded = load_recorded()
    labels = {name: CONDITIONS[name].label for name in NEEDED}
    trained = list(NEEDED[1:])
    chart = split_curves(recorded, trained, ("reward", "markers"), title=headline(recorded, trained, labels))
    seeds = recorded.evaluations[recorded.evaluations["condition"].isin(trained)]["seed"].nunique()
    rows = statement_rows(recorded, (*METHOD_STATEMENTS, *COVERAGE_STATEMENTS))
    verdicts = tuple(
        (
            claim,
            row["verdict"],
            row["measured"],
            row["source"] if row["paper"] != NOT_STATED else "our question",
        )
        for claim, row in rows.items()
    )
    caption = (
        f"Recorded runs of the organism, {seeds} training seeds, on problems never trained on. "
        "Bands: 95% intervals over seeds and problems."
    )
    return Lead(answer(recorded), Markup(chart_html(chart)), caption, verdicts)

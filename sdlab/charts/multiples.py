"""Small multiples of recorded curves: one panel per condition, each beside the same reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sdlab.charts.curves import split_curves
from sdlab.charts.style import chart_title
from sdlab.errors import SdlabError

if TYPE_CHECKING:
    import altair as alt

    from sdlab.study.recorded import Recorded


def setting_multiples(
    recorded: Recorded,
    reference: str,
    names: Sequence[str],
    metric: str = "reward",
    *,
    labels: Mapping[str, str] | None = None,
    title: str = "",
    subtitle: str = "",
    columns: int = 3,
    width: int = 230,
) -> alt.ConcatChart:
    """Draw one panel per condition of `names`, with the curve of `reference` in every panel.

    Solid: in-domain, dashed: unseen types, with 95% bands over seeds and problems.

    Raises SdlabError without conditions, and as `split_curves`.
    """
    import altair as alt

    if not names:
        raise SdlabError("setting_multiples got no conditions; name at least one")
    panels, words = [], []
    for name in names:
        panel = split_curves(
            recorded,
            [reference, name],
            metric,
            labels={**(labels or {}), name: "the setting of the panel"},
            title="",
            subtitle="",
            width=width,
        )
        own = (labels or {}).get(name, name)
        words.append(f"{own}: {panel.description}")
        panels.append(panel.properties(title=own))
    chart = alt.concat(*panels, columns=columns, spacing=24)  # the colours, and so the legend, are shared
    return chart.properties(title=chart_title(title, subtitle), description=". ".join(words))

"""The page's section to explore: its markup, its styles and its scripts."""

from importlib import resources

import jinja2
from markupsafe import Markup

from iqa_metrics.report.chart_library import chart_library
from iqa_metrics.report.exploring import Exploring
from iqa_metrics.report.offered import MOST_OTHERS

_SCRIPTS = ("explorer_data.js", "explorer_charts.js", "explorer_pictures.js", "explorer.js")


def section(
    environment: jinja2.Environment, plain: str, rated: bool, explored: Exploring | None
) -> Markup:
    """Return the section; nothing if there is nothing to explore.

    Parameters
    ----------
    environment
        Escapes what is put into the template.
    plain
        The readout that the others are compared with.
    rated
        Whether any database has human ratings.
    explored
        What can be explored.
    """
    if explored is None:
        return Markup("")
    template = environment.from_string(_part("explorer.html"))
    text = template.render(plain=plain, rated=rated, notes=explored.notes, most_others=MOST_OTHERS)
    return Markup(text)  # noqa: S704  # escaped


def styles(explored: Exploring | None) -> list[Markup]:
    """Return the styles that the section needs."""
    return [] if explored is None else [Markup(_part("explorer.css"))]  # noqa: S704  # ours


def scripts(explored: Exploring | None) -> list[Markup]:
    """Return the scripts that the section needs: the chart library, and our own as one."""
    if explored is None:
        return []
    own = "\n".join(_part(name) for name in _SCRIPTS)
    # In a function, their names are their own; the library's are kept apart in the same way.
    whole = f"(() => {{\n{own}\n}})();\n"
    return [Markup(chart_library()), Markup(whole)]  # noqa: S704  # a package's and ours


def _part(name: str) -> str:
    return (resources.files("iqa_metrics.report") / name).read_text(encoding="utf-8")

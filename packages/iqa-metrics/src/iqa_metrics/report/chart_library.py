"""The chart library of the page: Vega-Lite, as the package vl-convert-python ships it.

Its JavaScript is put into the page when a report is written, so the repository holds none of it. Of
the libraries that a PyPI package ships, it is the one that draws without ``unsafe-eval`` and
``unsafe-inline``: expressions are interpreted, and styles are attributes of SVG or set one by one.
"""

import functools
from importlib import resources

_NEEDED = "window.vegaEmbed = vegaEmbed;"


@functools.cache
def chart_library() -> str:
    """Return a script that defines ``vegaEmbed``, with the licences of all that it contains."""
    import vl_convert

    notice = (resources.files("iqa_metrics.report") / "chart_library.txt").read_text("utf-8")
    # Its names are kept apart from those of the page's other scripts.
    return f"/*\n{notice}*/\n(() => {{\n{vl_convert.javascript_bundle(_NEEDED)}\n}})();\n"

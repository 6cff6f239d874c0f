"""Hooks for the mkdocs build: formulas become MathML, which browsers draw without a script."""

import re
from typing import Any

from latex2mathml.converter import convert


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Convert fenced ``math`` blocks, as code hosts understand them, to MathML."""

    def mathml(match: re.Match[str]) -> str:
        lines = " ".join(match[1].split())
        return f'<div class="math" style="margin: 1em 0">{convert(lines, display="block")}</div>'

    return re.sub(r"```math\n(.*?)```", mathml, markdown, flags=re.DOTALL)

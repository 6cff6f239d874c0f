"""What the site's build adds to mkdocs: formulas as MathML, which browsers draw by themselves."""

import re
from typing import Any

from latex2mathml.converter import convert


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn fenced ``math`` blocks, which code hosts draw, into MathML."""

    def mathml(match: re.Match[str]) -> str:
        lines = " ".join(match[1].split())
        return f'<div class="math" style="margin: 1em 0">{convert(lines, display="block")}</div>'

    return re.sub(r"```math\n(.*?)```", mathml, markdown, flags=re.DOTALL)

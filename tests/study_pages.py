"""The page of a study, as text."""

import html
import re


def text_of(folder):
    """Return the page's HTML."""
    return (folder / "report.html").read_text(encoding="utf-8")


def words_of(folder):
    """Return the page's text as it is read."""
    body = text_of(folder).split("<body>")[1].split("<script>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

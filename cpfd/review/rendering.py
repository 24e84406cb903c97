"""A review as JSON, as a page, and as a comment in GitHub's Markdown."""

import json
import re
from collections.abc import Mapping
from typing import Any

from cpfd.pages.environment import data_uri, templates
from cpfd.pages.markdown import html_prose, markdown_code, markdown_prose, short
from cpfd.project.graph import families
from cpfd.reports.report import Part
from cpfd.review.wording import OUTCOMES, PENDING, about, alike, basis, evidence, judged, shown

MARKER = "<!-- cpfd review -->"
"""First line of the Markdown report, by which a workflow finds the comment that it is to update."""
MAX_MARKDOWN = 60_000
"""Characters; GitHub takes 65,536 in a comment."""

_ROWS = (400, 100, 40, 15, 5, 2)  # rows of a list, tried in turn until the Markdown is short enough


def to_json(facts: Mapping[str, Any]) -> str:
    """The report as JSON."""

    def plain_value(value: Any) -> Any:
        return value.content() if isinstance(value, Part) else str(value)

    return json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=plain_value) + "\n"


def to_markdown(facts: Mapping[str, Any]) -> str:
    """Render the report as GitHub's Markdown, at most MAX_MARKDOWN characters: the longest lists are cut first."""
    template = _template("review.md.jinja", html=False)
    text = ""
    for rows in _ROWS:
        text = template.render(marker=MARKER, review=facts, rows=rows)
        text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        if len(text) <= MAX_MARKDOWN:
            break
    return text


def to_html(facts: Mapping[str, Any], plots: Mapping[str, Mapping[str, bytes]]) -> str:
    """Render the report as one self-contained page: styles and plots are in it, scripts and network are not needed.

    plots: PNG files of "base" and "head" by name, as `results.read_plots` gives them.
    """
    images = {side: {name: data_uri(image) for name, image in of.items()} for side, of in plots.items()}
    return _template("review.html.jinja", html=True).render(review=facts, images=images)


def _template(name: str, *, html: bool) -> Any:
    used = (about, shown, judged, basis, evidence, short, alike, families)
    formats: dict[str, Any] = {each.__name__: each for each in used}
    formats |= {"prose": html_prose} if html else {"code": markdown_code, "prose": markdown_prose}
    return templates("cpfd.review", formats, html=html).get_template(
        name, globals={"outcomes": OUTCOMES, "pending": PENDING}
    )

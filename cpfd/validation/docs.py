"""Great Expectations Data Docs that read without a network and have the same bytes for the same results."""

import html
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from cpfd.files import written_aside
from cpfd.reports.validation import ValidationReport
from cpfd.validation.checks import kinds

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; color: #1d2433;
       background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h5, h6 { font-size: 1rem; margin: .4rem 0; }
a { color: #1a5fb4; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; font-size: .92rem; }
th, td { border-bottom: 1px solid #d9dee7; padding: .35rem .6rem; text-align: left; vertical-align: top;
         overflow-wrap: break-word; }
.wide, .table-responsive { overflow-x: auto; }
.alert { background: #eef1f6; border-radius: 6px; padding: .4rem .8rem; margin-top: 1rem; }
.badge { background: #e4e8ef; border-radius: 4px; padding: 0 .35rem; }
.text-success { color: #1a7f37; } .text-danger { color: #c01c28; } .text-warning { color: #9a6700; }
.fa-check-circle::before { content: "\\2713"; } .fa-times::before { content: "\\2717"; }
.fa-exclamation-triangle::before { content: "!"; }
i.fas { font-style: normal; font-weight: bold; }
@media (prefers-color-scheme: dark) {
  body { background: #15181e; color: #dfe3ea; } a { color: #78aeed; } th, td { border-color: #333a46; }
  .alert, .badge { background: #262b35; }
  .text-success { color: #57ab5a; } .text-danger { color: #f47067; } .text-warning { color: #d4a72c; }
}
"""

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>{{ style | safe }}</style>
</head>
<body>
"""

_SUITE_PAGE = (
    _HEAD
    + """<p><a href="index.html">All suites</a></p>
<h1>{{ title }}</h1>
{% for section in sections %}{% set section_loop = loop %}{% include 'section.j2' %}{% endfor %}
</body>
</html>
"""
)

_INDEX_PAGE = (
    _HEAD
    + """<h1>{{ title }}</h1>
<p class="alert"><i class="fas {{ 'fa-check-circle text-success' if report.passed else 'fa-times text-danger' }}"></i>
{{ 'Passed' if report.passed else 'Failed' }}.
Usable clips: {% for split, clips in report.dataset.clips.items() %}{{ clips }} {{ split }}, {% endfor %}
in quarantine: {{ report.quarantine.clips }}.</p>
<h2>Expectations that are not met</h2>
{% if failures %}<div class="wide"><table>
<tr><th>Severity</th><th>Suite</th><th>Expected</th><th>Observed</th><th>What to do</th></tr>
{% for failure in failures %}<tr>
<td class="text-{{ 'danger' if failure.severity == 'critical' else 'warning' }}">{{ failure.severity }}</td>
<td><a href="{{ failure.suite }}.html">{{ failure.suite }}</a></td>
<td>{{ failure.expected }}</td><td>{{ failure.observed }}</td><td>{{ failure.remedy }}</td></tr>
{% endfor %}</table></div>{% else %}<p>None.</p>{% endif %}
<h2>Suites</h2>
<div class="wide"><table>
<tr><th>Suite</th><th>Critical failures</th><th>Warnings</th></tr>
{% for name, found in suites.items() %}<tr><td><a href="{{ name }}.html">{{ name }}</a></td>
<td{% if found.critical %} class="text-danger"{% endif %}>{{ found.critical }}</td>
<td{% if found.warning %} class="text-warning"{% endif %}>{{ found.warning }}</td></tr>
{% endfor %}</table></div>
<h2>Quarantine</h2>
{% if reasons %}<div class="wide"><table>
<tr><th>Table</th><th>Reason</th><th>Rows</th><th>First clip</th><th>First reason</th></tr>
{% for reason in reasons %}<tr><td>{{ reason.table }}</td><td>{{ reason.kind }}</td><td>{{ reason.rows }}</td>
<td>{{ reason.first.video_id }}</td><td>{{ reason.first.reason }}</td></tr>
{% endfor %}</table></div>{% else %}<p>Nothing.</p>{% endif %}
</body>
</html>
"""
)


def write_docs(
    folder: Path, results: list[ExpectationSuiteValidationResult], report: ValidationReport, quarantine: pd.DataFrame
) -> None:
    """Write `index.html` and a page for each suite, whole or not at all; an existing folder is replaced.

    The expectations are rendered by Great Expectations' own Data Docs renderer; its page frame, which loads styles
    from the network and prints the time, is replaced.
    """
    with written_aside(folder) as aside:
        aside.mkdir()
        for result in results:
            (aside / f"{result.suite_name}.html").write_text(_suite_page(result), encoding="utf-8")
        (aside / "index.html").write_text(_index_page(report, quarantine), encoding="utf-8")


def _suite_page(result: ExpectationSuiteValidationResult) -> str:
    for expectation in result.results:
        expectation.result = found = _presentable(expectation.result)
        rows = [row for row in found["partial_unexpected_index_list"] if isinstance(row, dict)]
        names = {name for row in rows for name in row} - {expectation.expectation_config.kwargs["column"]}
        if names:  # without this, the page shows the values that differ, but not which rows have them
            found |= {"unexpected_index_list": rows, "unexpected_index_column_names": list(names)}
    document = ValidationResultsPageRenderer().render(result)
    del document.sections[0].content_blocks[::2]  # links to pages that are not made; versions and load times
    title = f"Expectations about {result.suite_name}"
    return _render(_SUITE_PAGE, document.to_json_dict() | {"title": title})


def _index_page(report: ValidationReport, quarantine: pd.DataFrame) -> str:
    severities: dict[str, list[str]] = {expectation.suite: [] for expectation in report.expectations}
    for failure in report.unmet:
        severities[failure.suite].append(failure.severity)
    content = {
        "title": f"Validation of {report.dataset.name}",
        "report": report,
        "suites": {
            name: {severity: found.count(severity) for severity in ("critical", "warning")}
            for name, found in severities.items()
        },
        "failures": report.unmet,
        "reasons": [
            {"table": table, "kind": kind, "rows": len(rows), "first": rows.iloc[0].to_dict()}
            for (table, kind), rows in quarantine.groupby(["table", kinds(quarantine)])
        ],
    }
    return _render(_INDEX_PAGE, content)


def _render(template: str, content: dict[str, Any]) -> str:
    view = DefaultJinjaPageView()
    numbers = count(1)  # in place of random element ids
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": f"{prefix}{next(numbers)}"
    return str(view.env.from_string(template).render(content, style=_STYLE))


def _presentable(value: Any) -> Any:
    """Escaped, because Great Expectations puts strings of the data into its tables as they are; no numpy scalars."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _presentable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_presentable(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value

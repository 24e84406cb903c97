"""Great Expectations Data Docs that read without a network and have the same bytes for the same results."""

import html
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render import RenderedDocumentContent
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from markupsafe import Markup

from cpfd.files import written_aside
from cpfd.pages.environment import templates
from cpfd.reports.validation import ValidationReport
from cpfd.validation.checks import kinds

# A suite's page as Great Expectations' own template has it, without its frame.
_SECTIONS = "{% for section in sections %}{% set section_loop = loop %}{% include 'section.j2' %}{% endfor %}"


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
    page = templates("cpfd.validation").get_template("validation_suite.html.jinja")
    return page.render(suite=result.suite_name, expectations=Markup(_sections(document)))


def _index_page(report: ValidationReport, quarantine: pd.DataFrame) -> str:
    severities: dict[str, list[str]] = {expectation.suite: [] for expectation in report.expectations}
    for failure in report.unmet:
        severities[failure.suite].append(failure.severity)
    page = templates("cpfd.validation").get_template("validation_index.html.jinja")
    return page.render(
        report=report,
        suites={
            name: {severity: found.count(severity) for severity in ("critical", "warning")}
            for name, found in severities.items()
        },
        reasons=[
            {"table": table, "kind": kind, "rows": len(rows), "first": rows.iloc[0].to_dict()}
            for (table, kind), rows in quarantine.groupby(["table", kinds(quarantine)])
        ],
    )


def _sections(document: RenderedDocumentContent) -> str:
    """The HTML of a rendered suite, with numbers in place of random element ids."""
    view = DefaultJinjaPageView()
    numbers = count(1)
    view.env.filters["generate_html_element_uuid"] = lambda prefix="": f"{prefix}{next(numbers)}"
    return str(view.env.from_string(_SECTIONS).render(document.to_json_dict()))


def _presentable(value: Any) -> Any:
    """Escaped, because Great Expectations puts strings of the data into its tables as they are; no numpy scalars."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {key: _presentable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_presentable(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value

"""What is in each report: docs/reports.md and the JSON schemas in docs/schemas, made from the models.

python -m cpfd.reports.reference    write both; a test keeps them so
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cpfd.files import write_json, written_aside
from cpfd.reports.champion import ChampionReport
from cpfd.reports.confidence import ConfidenceReport
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.report import Report
from cpfd.reports.validation import ValidationReport

REPORTS: Mapping[str, type[Report]] = {
    "metrics": MetricsReport,
    "champion": ChampionReport,
    "gate": GateReport,
    "validation": ValidationReport,
    "confidence": ConfidenceReport,
}
"""Every report, by the name of its schema, in the order in which people ask for them."""

_INTRODUCTION = """\
# What is in the reports, for a script?

Five JSON files tell what a run of the pipeline has come to. `dvc metrics show` and `dvc metrics diff` read those in
`reports/` as well. Keys stay in this order, the same results give the same bytes, and every key is there in every
run. Each report has a [JSON schema](schemas) against which a script can check what it reads.

In Python, `MetricsReport.read()` of `cpfd.reports.metrics` gives an object with these fields; a report that another
version of CPFD has written is refused with one sentence.

This page and the schemas are made by `python -m cpfd.reports.reference`; a test keeps them so.
"""
_NOTES = {
    "champion": 'Where `champion.version` in `params.yaml` is null, the whole report is `{"version": null}`.',
    "confidence": "Where the data set has no dense columns, the whole report is `method` and `why`.",
}
_WORDS = {"string": "text", "boolean": "true or false"}


def schema(report: type[Report]) -> dict[str, Any]:
    """The JSON schema of a report."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **report.model_json_schema(mode="serialization", by_alias=True),
    }


def page() -> str:
    """The content of docs/reports.md: a table of keys for each report, and for each part of it."""
    lines = [_INTRODUCTION]
    for name, report in REPORTS.items():
        found = schema(report)
        lines += [f"## {report.path.as_posix()}", "", f"{found['description']} [Schema](schemas/{name}.json).", ""]
        lines += [_NOTES[name], ""] if name in _NOTES else []
        lines += _table(found)
        for part in _parts(found, found["$defs"]):
            lines += [f"**{part['title']}**: {part['description']}", "", *_table(part)]
    return "\n".join(lines)


def write_docs(folder: Path) -> None:
    """Write reports.md and schemas/<report>.json to `folder`."""
    with written_aside(folder / "reports.md") as aside:
        aside.write_text(page(), encoding="utf-8")
    for name, report in REPORTS.items():
        write_json(folder / "schemas" / f"{name}.json", schema(report))


def _table(part: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| `{key}` | {_type(value)} | {value.get('description', '')} |" for key, value in part["properties"].items()
    ]
    return ["| key | value | meaning |", "|---|---|---|", *rows, ""]


def _type(value: Mapping[str, Any]) -> str:
    """What a value of that schema is, in words."""
    if "$ref" in value:
        return _reference(value)
    if "enum" in value:
        return " or ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value:
        kinds = [_type(one) for one in value["anyOf"]]
        return " or ".join(kind for kind in kinds if kind != "integer" or "number" not in kinds)
    if value["type"] == "array":
        return f"list of {_type(value['items'])}"
    if value["type"] == "object":
        keys = value.get("propertyNames", {}).get("enum", [])
        return f"by {', '.join(f'`{key}`' for key in keys) or 'name'}: {_type(value['additionalProperties'])}"
    return _WORDS.get(value["type"], value["type"])


def _reference(value: Mapping[str, Any]) -> str:
    return str(value["$ref"]).rpartition("/")[2]


def _parts(value: Any, definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a report in the order in which its tables name them, each once."""
    waiting, seen = [value], set()
    while waiting:
        for name in _named(waiting.pop(0)):
            if name not in seen:
                seen.add(name)
                waiting.append(definitions[name])
                yield definitions[name]


def _named(value: Any) -> Iterator[str]:
    """The definitions that a schema refers to, but for those of its own definitions."""
    if isinstance(value, Mapping):
        if "$ref" in value:
            yield _reference(value)
        for key, inside in value.items():
            if key != "$defs":
                yield from _named(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _named(inside)


if __name__ == "__main__":
    write_docs(Path("docs"))

"""What each key of params.yaml means: `cpfd params` and docs/parameters.md, and what a review says of a value."""

from types import GenericAlias
from typing import Any

from pydantic.fields import FieldInfo

from cpfd.params.problems import allowed
from cpfd.params.schema import Group, Params
from cpfd.params.upgrade import defaults, shown


def reference() -> str:
    """Every key of params.yaml as Markdown: type, what is allowed, meaning and unit."""
    lines = [
        "# Parameters",
        "",
        "Every key of `params.yaml`. This page is `cpfd params`; a test keeps it so. A value outside the usual range",
        "is allowed, but `cpfd review` points at it. Seeds, threads and what shapes the demo's story have none. The",
        "default is what `cpfd params --upgrade` gives to a key that a `params.yaml` of an older version lacks;",
        "nothing else uses it.",
        "",
    ]
    values = defaults()
    for group, info in Params.model_fields.items():
        model = info.annotation
        assert isinstance(model, type)
        assert issubclass(model, Group)
        lines += [
            f"## {group}",
            "",
            model.__doc__ or "",
            "",
            "| key | allowed | usual | default | meaning |",
            "|---|---|---|---|---|",
        ]
        for name, schema in model.model_json_schema()["properties"].items():
            key, meaning = f"{group}.{name}", schema["description"].replace("|", "\\|")
            default = shown(values[group][name])
            lines.append(f"| `{key}` | {allowed(schema)} | {usual_range(key) or ''} | {default} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def description(key: str) -> str:
    """What a key means; empty for a key that does not exist."""
    info = _field(key)
    return "" if info is None or info.description is None else info.description


def usual_range(key: str) -> str | None:
    """The range in which a key usually is, in words; None where the schema has no opinion."""
    limits = _usual(key)
    return None if limits is None else f"{limits[0]:g} to {limits[1]:g}{_unit(key)}"


def unusual(key: str, value: Any) -> str | None:
    """A warning about a value outside the key's usual range, None about any other."""
    limits = _usual(key)
    size = len(value) if isinstance(value, list) else value
    if limits is None or isinstance(size, bool) or not isinstance(size, int | float) or limits[0] <= size <= limits[1]:
        return None
    return f"{size:g}{_unit(key)} is outside the usual range, {usual_range(key)}"


def _usual(key: str) -> list[float] | None:
    extra = getattr(_field(key), "json_schema_extra", None)
    return None if extra is None else extra["usual"]


def _unit(key: str) -> str:
    """What is counted in a list, whose usual range is one of its length."""
    return f" {key.partition('.')[2]}" if isinstance(getattr(_field(key), "annotation", None), GenericAlias) else ""


def _field(key: str) -> FieldInfo | None:
    group, _, name = key.partition(".")
    info = Params.model_fields.get(group)
    return None if info is None else info.annotation.model_fields.get(name)  # type: ignore[union-attr]

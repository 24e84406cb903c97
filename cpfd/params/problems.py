"""What is wrong with the content of a params.yaml, key by key: value, message and what is allowed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cpfd.errors import CpfdError
from cpfd.params.schema import Params
from cpfd.paths import PARAMS_FILE


def check_params(content: Any, path: Path = PARAMS_FILE) -> Params:
    """Check the parsed content of a params.yaml; raises CpfdError naming key, value and what is allowed."""
    found = problems(content)
    if found:
        raise CpfdError("\n".join(f"{path}: {key}: {message}" for key, message in found))
    return Params.model_validate(content)


def problems(content: Any) -> list[tuple[str, str]]:
    """What is wrong with the parsed content of a params.yaml: key and message of each, none where all is well."""
    try:
        return _disagreements(Params.model_validate(content))
    except ValidationError as error:
        return list(_explain(error))


def known_keys() -> list[str]:
    """Every key, `group.field`, in the schema's order."""
    return [
        f"{group}.{field}"
        for group, info in Params.model_fields.items()
        for field in info.annotation.model_fields  # type: ignore[union-attr]
    ]


def _disagreements(params: Params) -> list[tuple[str, str]]:
    """Keys whose values are allowed, but not together."""
    model, students, method = params.model, params.students, params.distill.method
    found = []
    if model.hidden_size % model.attention_heads:
        found.append(
            ("model.attention_heads", f"{model.attention_heads} must divide model.hidden_size {model.hidden_size}")
        )
    for group, smaller, larger in [
        ("validation", "min_seconds", "max_seconds"),
        ("validation", "min_side", "max_side"),
    ]:
        low, high = getattr(getattr(params, group), smaller), getattr(getattr(params, group), larger)
        if low > high:
            found.append((f"{group}.{smaller}", f"{low} must not be above {group}.{larger} {high}"))
    lists: dict[str, list[Any]] = {
        "students.methods": students.methods,
        "students.seeds": students.seeds,
        "text.columns": params.text.columns,
    }
    for key, values in lists.items():
        if len(set(values)) < len(values):
            found.append((key, f"{values} repeats a value"))
    if "none" not in students.methods:
        found.append(("students.methods", "'none', the student alone, is what every other method is compared with"))
    if method != "auto" and method not in students.methods:
        found.append(("distill.method", f"'{method}' is not among students.methods"))
    if method == "auto" and "posterior" not in students.methods:
        found.append(("distill.method", "'auto' may choose 'posterior', which is not among students.methods"))
    return found


def _explain(error: ValidationError) -> Iterator[tuple[str, str]]:
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(file)"
        if problem["type"] == "extra_forbidden":
            yield key, "unknown key; `cpfd params` lists those that exist"
        elif problem["type"] == "missing":
            yield key, f"missing; allowed: {_allowed_at(problem['loc'])}; `cpfd params --upgrade` adds what is new"
        else:
            yield key, f"{problem['input']!r}: {problem['msg']}; allowed: {_allowed_at(problem['loc'])}"


def _allowed_at(loc: tuple[int | str, ...]) -> str:
    info = Params.model_fields.get(str(loc[0])) if loc else None
    if info is None or len(loc) < 2:
        return "a group of keys, as `cpfd params` lists them"
    return allowed(info.annotation.model_json_schema()["properties"][loc[1]])  # type: ignore[union-attr]


def allowed(schema: dict[str, Any]) -> str:
    """What a key may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of: {allowed(schema['items'])}"
    if schema["type"] == "object":
        return f"mapping of names to: {allowed(schema['additionalProperties'])}"
    bounds = [
        f"{sign} {schema[name]:g}"
        for name, sign in [("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<")]
        if name in schema
    ]
    return " ".join([str(schema["type"]), " and ".join(bounds)]).strip()

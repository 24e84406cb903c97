"""What a change of params.yaml says: every key that differs, what it means, and whether its new value is usual."""

from collections.abc import Iterable, Mapping
from typing import Any

from cpfd.errors import CpfdError
from cpfd.params.problems import known_keys
from cpfd.params.reference import description, unusual, usual_range
from cpfd.paths import PARAMS_FILE
from cpfd.project.lock import parameter_problems
from cpfd.project.revision import Revision


def changed_parameters(base: Revision, head: Revision) -> list[dict[str, Any]]:
    """Every key of params.yaml that differs between two revisions, in the schema's order, unknown keys last.

    Each has `key`, `change` ("changed", "added" or "removed"), `old` and `new` (None where it is absent),
    `description`, `usual` (range in words, or None) and `warning` (a sentence about the new value, or None). A wrong
    value is listed although it did not change, and a file that is no valid YAML is one entry with the key `params.yaml`
    and nothing else.
    """
    try:
        old, new = _flat(base.params), _flat(head.params)
        found = parameter_problems(head)
    except CpfdError as error:
        return [_entry(str(PARAMS_FILE), "changed", None, None, str(error))]
    wrong: dict[str, list[str]] = {}
    for key, message in found:
        wrong.setdefault(_closest(key, old | new), []).append(message)
    order = {key: place for place, key in enumerate(known_keys())}
    keys = sorted({*old, *new, *wrong}, key=lambda key: (order.get(key, len(order)), key))
    entries = []
    for key in keys:
        if key not in wrong and key in old and key in new and old[key] == new[key]:
            continue
        change = "removed" if key not in new else "added" if key not in old else "changed"
        warning = "; ".join(wrong[key]) if key in wrong else unusual(key, new.get(key))
        entries.append(_entry(key, change, old.get(key), new.get(key), warning))
    return entries


def _flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Values by `group.field`, or by `group` where what should be a group of keys is none."""
    found: dict[str, Any] = {}
    for group, values in params.items():
        if isinstance(values, Mapping):
            found |= {f"{group}.{name}": value for name, value in values.items()}
        else:
            found[str(group)] = values
    return found


def _closest(key: str, keys: Iterable[str]) -> str:
    """The key that a problem belongs to: `students.seeds` for one in `students.seeds.1`."""
    return next((known for known in keys if key.startswith(f"{known}.")), key)


def _entry(key: str, change: str, old: Any, new: Any, warning: str | None) -> dict[str, Any]:
    return {
        "key": key,
        "change": change,
        "old": old,
        "new": new,
        "description": description(key),
        "usual": usual_range(key),
        "warning": warning,
    }

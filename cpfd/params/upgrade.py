"""`cpfd params --upgrade`: bring a params.yaml of an older version up to date."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, Node

from cpfd.errors import CpfdError
from cpfd.files import written_aside
from cpfd.params.load import parse_yaml
from cpfd.paths import PARAMS_FILE


def defaults() -> dict[str, dict[str, Any]]:
    """The value that each key gets where a params.yaml lacks it, by group and field, in the schema's order."""
    return parse_yaml(files("cpfd.params").joinpath("defaults.yaml").read_bytes(), "defaults.yaml")


def shown(value: Any) -> str:
    """A value as params.yaml has it."""
    return value if isinstance(value, str) else json.dumps(value)


def upgrade(path: Path = PARAMS_FILE) -> list[str]:
    """Add all keys that a params.yaml lacks, with their defaults; every other line stays as it is.

    Returns the keys. Raises CpfdError where the file is none, no valid YAML, or has a group that is written in braces.
    """
    if not path.is_file():
        raise CpfdError(f"{path}: no such file; run this in the root of a CPFD project")
    text = path.read_bytes().decode()
    content = parse_yaml(text.encode(), str(path))
    if not isinstance(content, dict):
        raise CpfdError(f"{path}: {content!r}, but expected groups of keys as `cpfd params` lists them")
    lines = text.splitlines(keepends=True)
    lines[-1] = lines[-1].removesuffix("\n") + "\n"
    nodes = {key.value: (key, value) for key, value in YAML().compose(text).value}
    known = defaults()
    added = [
        (group, field)
        for group, fields in known.items()
        for field in fields
        if isinstance(content.get(group, {}), dict) and field not in content.get(group, {})
    ]
    after: dict[int, list[str]] = {}
    for group, field in added:
        if group in content:
            line, indent = _place(*nodes[group], list(known[group]), field, str(path))
        else:
            line, indent = len(lines), "  "
            heading = f"\n{group}:\n"
            if heading not in after.setdefault(line, []):
                after[line].append(heading)
        after.setdefault(line, []).append(f"{indent}{field}: {shown(known[group][field])}\n")
    whole = "".join("".join(after.get(number, [])) + line for number, line in enumerate([*lines, ""]))
    if added:
        with written_aside(path) as aside:
            aside.write_bytes(whole.encode())
    return [f"{group}.{field}" for group, field in added]


def _place(key: Node, group: CollectionNode, order: list[str], field: str, name: str) -> tuple[int, str]:
    """The line before which a field is to stand, after those before it in `order`, and its indentation."""
    if group.flow_style or not group.value:
        raise CpfdError(f"{name}: {key.value} lacks {field} and is written in braces: write one key a line, or add it")
    before = [value for each, value in group.value if each.value in order[: order.index(field)]]
    last = max(map(_last_line, before), default=key.start_mark.line)
    return last + 1, " " * group.value[0][0].start_mark.column


def _last_line(node: Node) -> int:
    """The last line of a value; a block's own end is where the next token begins."""
    if isinstance(node, CollectionNode) and not node.flow_style:
        return max(map(_last_line, _children(node)))
    return node.end_mark.line - (node.end_mark.column == 0)


def _children(node: CollectionNode) -> Iterator[Node]:
    for child in node.value:
        yield from child if isinstance(child, tuple) else [child]

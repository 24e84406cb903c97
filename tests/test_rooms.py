"""The rooms of cpfd/ and which way imports point."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from cpfd.code import describe_stage, read_sources
from tests.support.project import ROOT

ROOMS = [
    *("errors", "locks", "files", "paths", "metrics", "options", "quiet", "params", "reports"),
    *("code", "pages", "project", "datasets", "importing", "demo", "validation", "features", "models", "distill"),
    *("training", "evaluation", "student", "comparing", "promotion", "scoring", "review", "online", "stages", "cli"),
]


def imported(source: str) -> list[str]:
    """What a module's source imports, at its start or later; of `from a import b` both a and a.b, which may be none."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def modules() -> dict[str, Path]:
    """Every module of cpfd/ by its name."""
    found = {}
    for path in sorted((ROOT / "cpfd").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def test_a_module_imports_only_from_rooms_before_its_own() -> None:
    backwards = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imported(path.read_text())
        if name != "cpfd" and other in modules() and other != "cpfd"
        if ROOMS.index(room(other)) > ROOMS.index(room(name))
    ]
    assert backwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = modules()
    graph = {
        name: [other for other in imported(path.read_text()) if other in known and other != name]
        for name, path in known.items()
    }
    list(TopologicalSorter(graph).static_order())


def test_the_library_knows_nothing_of_flows_and_benchmark() -> None:
    strangers = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imported(path.read_text())
        if other.partition(".")[0] in ("flows", "bench", "tests", "prefect")
    ]
    assert strangers == []


@pytest.mark.parametrize("stage", ["demo", "validate", "extract", "confidence", "evaluate", "gate", "export", "report"])
def test_what_trains_nothing_does_not_depend_on_the_trainer(stage: str) -> None:
    lines = describe_stage(stage, read_sources(ROOT))
    assert "cpfd/training/" not in lines
    assert "\naccelerate==" not in lines or "cpfd/features/backbones.py" in lines  # a companion of transformers

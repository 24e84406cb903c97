"""Which modules of cpfd each stage imports, and so which files dvc.yaml must list as its dependencies.

`python -m tests.code_deps` rewrites those lines of dvc.yaml; tests/test_pipeline.py compares them.
"""

import ast
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

ROOT = Path(__file__).parent.parent
LOCK = "constraints.txt"
# Templates are read through importlib.resources by the modules beside them.
TEMPLATES = {
    "cpfd/evaluation/report.py": "cpfd/evaluation/report.html.jinja",
    "cpfd/promotion/package.py": "cpfd/promotion/model_card.md.jinja",
}


def code_deps(stage: str) -> list[str]:
    """Files that a stage's module imports, directly or not, at its start or later, with the environment's lock."""
    found: set[str] = set()
    waiting = [f"cpfd.stages.{stage}"]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path is None or path in found:
            continue
        found.add(path)
        waiting += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
        waiting += imported((ROOT / path).read_text())
    found |= {TEMPLATES[path] for path in found & set(TEMPLATES)}
    return sorted([*found, LOCK])


def imported(source: str) -> list[str]:
    """What a module's source imports, at its start or later; of `from a import b` both a and a.b, which may be none."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def is_code(dep: str) -> bool:
    return dep == LOCK or dep.startswith("cpfd/")


def read_pipeline() -> CommentedMap:
    return YAML().load(ROOT / "dvc.yaml")


def body(stage: CommentedMap) -> CommentedMap:
    """The definition itself, also where `foreach` wraps it."""
    return stage.get("do", stage)


def _file(name: str) -> str | None:
    if name.split(".")[0] != "cpfd":
        return None
    base = Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if (ROOT / path).is_file():
            return path.as_posix()
    return None


def main() -> None:
    pipeline = read_pipeline()
    for name, stage in pipeline["stages"].items():
        definition = body(stage)
        data = [dep for dep in definition.get("deps", []) if not is_code(dep)]
        deps = CommentedSeq(data + code_deps(name))
        if "deps" in definition:
            definition["deps"] = deps
        else:
            definition.insert(list(definition).index("cmd") + 1, "deps", deps)
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(pipeline, ROOT / "dvc.yaml")


if __name__ == "__main__":
    main()

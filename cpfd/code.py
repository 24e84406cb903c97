"""Which code and which libraries are behind each stage: what stage `code` writes to code/<stage>.txt.

Every other stage depends on its file there, and on no source file: what changes no line of it, such as a comment, runs
nothing again, and a diff of the files tells for which stages code or libraries changed. A line is a module or a
template with a digest, or a library with its version:

    cpfd/distill/losses.py 5d41402abc4b2a76
    numpy==2.4.6
"""

import ast
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, requires
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from cpfd.errors import CpfdError
from cpfd.files import written_aside
from cpfd.paths import CODE, REQUIREMENTS

PACKAGE = Path("cpfd")
STAGES = "cpfd.stages"
DECIDE_NO_BIT = ("cpfd.code", "cpfd.params.problems", "cpfd.params.schema")
"""Modules that no stage depends on: DVC tracks the values of params.yaml, and this module only tells of code."""

Sources = Mapping[str, bytes]
"""Content of each file of the package by path (`cpfd/files.py`), and of the lock file."""


def read_sources(root: Path = Path(".")) -> dict[str, bytes]:
    """Read the package and the lock file of the project in `root`; raises CpfdError where they are not there."""
    paths = [path for path in sorted((root / PACKAGE).rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    if not paths:
        raise CpfdError(f"{root / PACKAGE}: no such folder; run this in the root of a CPFD project")
    if not (root / REQUIREMENTS).is_file():
        raise CpfdError(f"{root / REQUIREMENTS}: no such file; `git checkout {REQUIREMENTS}` brings it back")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in [*paths, root / REQUIREMENTS]}


def stage_names(sources: Sources) -> list[str]:
    """Every stage that has a file in code/: those with a module in cpfd/stages, but for `code` itself."""
    modules = (PurePosixPath(path) for path in sources)
    return sorted(
        path.stem
        for path in modules
        if path.parent.as_posix() == STAGES.replace(".", "/") and path.suffix == ".py" and path.stem[0] != "_"
        if path.stem != CODE.name
    )


def describe_stage(stage: str, sources: Sources) -> str:
    """Tell the code and the libraries of a stage: the content of its file in code/.

    Code is what `cpfd.stages.<stage>` imports, directly or not, at its start or later, and each file of the package
    that one of these names, such as a template. Libraries are what this code imports, with all that those require, as
    the lock file pins them. Raises CpfdError where a file is no Python, or a library is not installed.
    """
    code, imported = _code(stage, sources)
    versions = _locked(sources)
    return "\n".join([*code, *(f"{name}=={versions[name]}" for name in _libraries(imported, versions))]) + "\n"


def write_code(folder: Path, root: Path = Path(".")) -> None:
    """Write <stage>.txt of every stage to `folder`, for the project in `root`; raises what `describe_stage` raises."""
    sources = read_sources(root)
    with written_aside(folder) as aside:
        aside.mkdir()
        for stage in stage_names(sources):
            (aside / f"{stage}.txt").write_text(describe_stage(stage, sources), encoding="utf-8")


def refuse_other_code(stage: str) -> None:
    """Raise CpfdError where the code of a stage is not what its file in code/ says, so that DVC would not notice it."""
    file = CODE / f"{stage}.txt"
    recorded = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    code, _ = _code(stage, read_sources())
    differing = sorted(set(code) ^ {line for line in recorded if "==" not in line})
    if differing:
        raise CpfdError(
            f"{file} does not tell what code there is ({differing[0].partition(' ')[0]}): `dvc repro {CODE.name}` first"
        )


def _code(stage: str, sources: Sources) -> tuple[list[str], set[str]]:
    """The lines of a stage's code, and the names of all other packages that it imports."""
    found: dict[str, str] = {}
    others: set[str] = set()
    waiting = [f"{STAGES}.{stage}"]
    while waiting:
        name = waiting.pop()
        path = _file(name, sources)
        if not name.startswith(f"{PACKAGE}.") and name != str(PACKAGE):
            others.add(name.partition(".")[0])
        if path is None or path in found or name in DECIDE_NO_BIT:
            continue
        module = _read_module(path, sources[path])
        found[path] = module.digest
        waiting += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
        waiting += module.imports
        found |= _named_files(module.strings, sources)
    return [f"{path} {digest}" for path, digest in sorted(found.items()) if digest], others


class _Module:
    """What a module says: a digest of its syntax tree ("" for an empty one), imports, and strings."""

    def __init__(self, tree: ast.Module) -> None:
        plain = _plain(tree)
        self.digest = _digest(repr(plain).encode()) if tree.body and plain != ["Module"] else ""
        self.imports: list[str] = []
        self.strings: set[str] = set()
        self._read(tree)

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            self.imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:  # of `from a import b`, b may be a module
            self.imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.strings.add(node.value)
        for child in ast.iter_child_nodes(node):
            self._read(child)


@cache
def _read_module(path: str, source: bytes) -> _Module:
    try:
        return _Module(ast.parse(source))
    except SyntaxError as error:
        raise CpfdError(f"{path}: not valid Python: {error}") from None


def _plain(node: Any) -> Any:
    """A syntax tree in lists and words, without comments, docstrings, positions, and what is empty.

    Other versions of Python give the same, which `ast.dump` does not.
    """
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_docstring(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in ("kind", "type_comment")]
    kept = [(name, _plain(value)) for name, value in fields if value is not None or isinstance(node, ast.Constant)]
    return [type(node).__name__, *((name, value) for name, value in kept if value != [])]


def _is_docstring(node: Any) -> bool:
    """Whether a statement is a string and nothing else, as below a `def` or a constant that it explains."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _named_files(strings: Collection[str], sources: Sources) -> dict[str, str]:
    """Digests of the files of the package, no modules, that are called like one of `strings`; and those they name."""
    found: dict[str, str] = {}
    for path, content in sources.items():
        if path.startswith(f"{PACKAGE}/") and not path.endswith(".py") and PurePosixPath(path).name in strings:
            named = set(re.findall(r"""["']([\w.-]+)["']""", content.decode(errors="replace")))
            found |= {path: _digest(content)} | _named_files(named - set(strings), sources)
    return found


def _file(name: str, sources: Sources) -> str | None:
    base = name.replace(".", "/")
    return next((path for path in (f"{base}.py", f"{base}/__init__.py") if path in sources), None)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _locked(sources: Sources) -> dict[str, str]:
    """The version of each library in the lock file, by its normalised name."""
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", sources[REQUIREMENTS.as_posix()].decode(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pinned}


def _libraries(imported: Collection[str], versions: Mapping[str, str]) -> list[str]:
    """The libraries in the lock file that hold the packages `imported`, and what those require, by name.

    Conditions of requirements on machine and Python are passed over, so that all machines give the same list: the lock
    file tells what is there.
    """
    owners = _owners()
    extras = _own_extras()
    waiting = [
        (canonicalize_name(name), extras.get(canonicalize_name(name), frozenset()))
        for package in imported
        for name in owners.get(package, ())
    ]
    seen: set[tuple[NormalizedName, frozenset[str]]] = set()
    while waiting:
        asked = waiting.pop()
        if asked[0] in versions and asked not in seen:
            seen.add(asked)
            waiting += _required(*asked)
    return sorted({name for name, _ in seen})


@cache
def _owners() -> Mapping[str, list[str]]:
    """The libraries that hold each package that can be imported."""
    return packages_distributions()


@cache
def _own_extras() -> dict[str, frozenset[str]]:
    """The extras with which pyproject.toml asks for each library."""
    return {canonicalize_name(each.name): frozenset(each.extras) for each in map(Requirement, requires("cpfd") or [])}


@cache
def _required(name: NormalizedName, extras: frozenset[str]) -> list[tuple[NormalizedName, frozenset[str]]]:
    try:
        listed = distribution(name).requires or []
    except PackageNotFoundError:
        raise CpfdError(f"{name} is in {REQUIREMENTS}, but not installed: `make install`") from None
    return [(canonicalize_name(each.name), frozenset(each.extras)) for each in _asked(listed, extras)]


def _asked(listed: list[str], extras: frozenset[str]) -> Iterator[Requirement]:
    # Most that is listed is for extras; to pass it over unread halves the time.
    for requirement in map(Requirement, [each for each in listed if extras or "extra" not in each.partition(";")[2]]):
        marker = requirement.marker
        if marker is None or "extra" not in str(marker) or any(marker.evaluate({"extra": each}) for each in extras):
            yield requirement

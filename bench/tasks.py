"""The benchmark's tasks and methods, as bench/tasks/*.yaml and bench/methods.yaml declare them."""

import os
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cpfd.errors import CpfdError
from cpfd.params.problems import check_params
from cpfd.params.schema import Params

ROOT = Path(__file__).parent.parent
TASKS = ROOT / "bench" / "tasks"
METHODS = ROOT / "bench" / "methods.yaml"
Overlay = dict[str, dict[str, Any]]

QUICK: Overlay = {"train": {"epochs": 4}, "crossfit": {"folds": 3}}
"""What --quick lays over every task: it shows that all runs, its numbers say nothing."""


def shared_data() -> Path:
    """Where the real data are: CPFD_SHARED_DATA, or ../shared/data."""
    return Path(os.environ.get("CPFD_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()


@dataclass(frozen=True)
class Task:
    """A data set, what is done to its labels, and the parameters that differ from params.yaml."""

    name: str
    title: str
    classes: int
    imports: list[str]
    split: str
    """known-creators, by-creator (each seed splits anew) or given (by the data set)."""
    overlay: Overlay
    noise: dict[str, Any] = field(default_factory=dict)
    kept_labels: float = 1.0
    variant_of: str | None = None
    """The task that this is a variant of: together they count as one in averages over tasks."""
    quick: bool = False

    @property
    def base(self) -> str:
        """Name of the folder with what all seeds, and all tasks of the data set, share."""
        return f"{self.overlay['dataset']['name']}{'-quick' * self.quick}"

    @property
    def true_eta(self) -> float:
        """The share of wrong training labels, as a rate of uniformly random ones."""
        wrong = self.noise.get("rate", 0.0)
        if self.overlay["dataset"]["name"] == "demo":
            wrong = self.checked(0).demo.annotator_error_rate
        return wrong * self.classes / (self.classes - 1)

    @property
    def missing(self) -> Path | None:
        """The shared data that the task needs and this machine lacks."""
        needed = any("{shared}" in command for command in self.imports)
        return shared_data() if needed and not shared_data().is_dir() else None

    def params(self, seed: int, *overlays: Overlay) -> dict[str, Any]:
        """Content of a params.yaml for a seed: the repository's, the task's overlay, the seed, then `overlays`."""
        seeds: Overlay = {"split": {"seed": seed}, "teacher": {"seed": seed}, "crossfit": {"seed": 100 * seed}}
        return overlaid(YAML(typ="safe").load(ROOT / "params.yaml"), self.overlay, seeds, *overlays)

    def checked(self, seed: int, *overlays: Overlay) -> Params:
        """The same, checked against the schema."""
        return check_params(self.params(seed, *overlays), TASKS / f"{self.name}.yaml")


@dataclass(frozen=True)
class Method:
    """A row of the table: a student trained with the better of a few settings."""

    name: str
    title: str
    method: str
    judge: str
    """Whose out-of-fold logits teach: teacher or student."""
    grid: list[Overlay]


def load_tasks(names: list[str], *, quick: bool) -> list[Task]:
    """The tasks of these names, or all; raises CpfdError for a name that is none."""
    known = {path.stem: path for path in sorted(TASKS.glob("*.yaml"))}
    if unknown := [name for name in names if name not in known]:
        raise CpfdError(f"no task {', '.join(unknown)} in bench/tasks; there are: {', '.join(known)}")
    return [_load_task(name, quick=quick) for name in names or known]


def load_methods(names: list[str], *, quick: bool) -> list[Method]:
    """The methods of these names and `none`, or all; in a quick run, only the first setting of each.

    Raises CpfdError for a name that is none of bench/methods.yaml.
    """
    content = YAML(typ="safe").load(METHODS)
    known = content["methods"]
    if unknown := [name for name in names if name not in known]:
        raise CpfdError(f"no method {', '.join(unknown)} in bench/methods.yaml; there are: {', '.join(known)}")
    settings = content["settings"][: 1 if quick else None]
    return [
        Method(
            name=name,
            title=entry["title"],
            method=entry.get("method", name),
            judge=entry.get("judge", "teacher"),
            grid=[overlaid(entry.get("params", {}), setting) for setting in settings],
        )
        for name, entry in known.items()
        if name in {"none", *(names or known)}
    ]


def overlaid(content: dict[str, Any], *overlays: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested mappings with others laid over it."""
    result = deepcopy(content)
    for overlay in overlays:
        for key, value in overlay.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = overlaid(result[key], value) if both else deepcopy(value)
    return result


def _load_task(name: str, *, quick: bool) -> Task:
    content = YAML(typ="safe").load(TASKS / f"{name}.yaml")
    if "like" in content:
        content = overlaid(YAML(typ="safe").load(TASKS / f"{content.pop('like')}.yaml"), content)
    if quick:
        content = overlaid(content, {"params": QUICK}, content.get("quick", {}))
    content.pop("quick", None)
    return Task(name, imports=content.pop("import"), overlay=content.pop("params"), quick=quick, **content)

"""Reading params.yaml: what a stage may read of it is what dvc.yaml lists for that stage."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cpfd.errors import CpfdError
from cpfd.params.problems import check_params, known_keys
from cpfd.params.schema import Params
from cpfd.paths import PARAMS_FILE, PIPELINE_FILE


def load_params(stage: str | None = None, path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml; for a `stage` of dvc.yaml, keep only the keys that dvc.yaml lists for it.

    Reading any other key then raises AttributeError, so that no stage can depend on a knob that DVC does not watch.

    Raises CpfdError naming every wrong key with its value and what is allowed.
    """
    params = check_params(_read_yaml(path), path)
    if stage is not None:
        listed = stage_keys(stage)
        for key in known_keys():
            group, _, field = key.partition(".")
            if group not in listed and key not in listed:
                getattr(params, group).__dict__.pop(field)
    return params


def stage_keys(stage: str, path: Path = PIPELINE_FILE) -> list[str]:
    """The keys that `stage` lists under `params` in dvc.yaml: `group.field`, or `group` for all of its fields."""
    stages = _read_yaml(path)["stages"]
    if stage not in stages:
        raise CpfdError(f"{path}: no stage '{stage}'; there are: {', '.join(stages)}")
    definition = stages[stage].get("do", stages[stage])
    return [str(key) for key in definition.get("params", [])]


def parse_yaml(content: bytes, name: str) -> Any:
    """The content of a YAML file, read as DVC reads it; raises CpfdError where `name` is not valid YAML."""
    try:
        return YAML(typ="safe").load(content.decode())
    except (YAMLError, UnicodeDecodeError) as error:
        raise CpfdError(f"{name}: not valid YAML: {error}") from None


def _read_yaml(path: Path) -> Any:
    try:
        return parse_yaml(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise CpfdError(f"{path}: no such file; run this in the root of a CPFD project") from None

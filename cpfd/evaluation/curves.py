"""How networks learnt: what their trainings have logged, as one table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cpfd.errors import CpfdError

LOGGED = {"loss": "loss", "eval_loss": "validation_loss", "eval_macro_f1": "validation_macro_f1"}
"""What a training logs, by what this module calls it."""


def read_curves(files: Mapping[str, Sequence[Path]]) -> pd.DataFrame:
    """Read the curves beside the logits in `files` of each model, one per run.

    Returns `model`, `run` (its position), `step` and the values of LOGGED, NaN where a step has not logged one. Raises
    CpfdError where a curve is absent.
    """
    return pd.concat(
        [
            _read_run(path.parent / "curves").assign(model=model, run=run)
            for model, paths in files.items()
            for run, path in enumerate(paths)
        ],
        ignore_index=True,
    )[["model", "run", "step", *LOGGED.values()]]


def _read_run(folder: Path) -> pd.DataFrame:
    """One row per step of one training."""
    columns = []
    for logged, name in LOGGED.items():
        path = folder / "plots" / "metrics" / f"{logged}.tsv"
        if not path.is_file():
            raise CpfdError(f"{path}: no such file; `dvc repro` trains what is missing")
        columns.append(pd.read_csv(path, sep="\t").groupby("step")[logged].last().rename(name))
    return pd.concat(columns, axis=1).sort_index().reset_index()

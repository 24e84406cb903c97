"""The projects that the pipeline runs in: one for a data set, one for each task and seed.

A project is a folder with params.yaml, dvc.yaml and data, as the repository's root is. What does not depend on a seed
(import, validation, decoded and encoded clips) is done once for the data set; a seed's project links to it.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from bench.labels import flip, hide
from bench.tasks import ROOT, Task, shared_data
from cpfd.code import PACKAGE, write_code
from cpfd.datasets.splits import assign_splits
from cpfd.datasets.validated import read_clips, split_tables
from cpfd.errors import CpfdError
from cpfd.features.store import FeatureStore
from cpfd.files import SCRATCH, fingerprint, read_json, read_table, remove, write_json, write_table, written_aside
from cpfd.importing.youtube import creator_history
from cpfd.params.load import load_params
from cpfd.params.schema import Params
from cpfd.paths import CODE, CONTENT, CROSSFIT, DENSE, MODELS, PIPELINE_FILE, RAW, REPORTS, REQUIREMENTS, VALIDATED

WORK = ROOT / SCRATCH / "bench"
STAMPS = Path(".stamps")
"""With which inputs each stage has run last, in a project."""


def base_folder(task: Task) -> Path:
    """The project of the task's data set."""
    return WORK / "data" / task.base


def seed_folder(task: Task, seed: int) -> Path:
    """The project of one seed of a task."""
    return WORK / ("quick" if task.quick else "tasks") / task.name / str(seed)


@contextlib.contextmanager
def project(folder: Path, params: dict[str, Any]) -> Iterator[Params]:
    """Make `folder` a project with these parameters and work in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (PIPELINE_FILE, PACKAGE, REQUIREMENTS):
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(ROOT / path)
    write_code(folder / CODE, ROOT)
    YAML().dump(params, folder / "params.yaml")
    with contextlib.chdir(folder):
        yield load_params()


def prepare(task: Task) -> None:
    """Import, validate and extract the task's data set."""
    from cpfd.stages import extract, validate

    with project(base_folder(task), task.params(0)) as params:
        raw = RAW / params.dataset.name
        commands = [command.format(shared=shlex.quote(str(shared_data()))) for command in task.imports]
        _cached(
            "import", [raw], [CODE / "demo.txt"], [commands, params.demo.model_dump()], lambda: _import(raw, commands)
        )
        _cached_stage("validate", [VALIDATED, REPORTS], [raw / "manifest.parquet"], validate.main)
        _cached_stage("extract", [CONTENT], [VALIDATED / "content.parquet"], extract.main)


def replicate(task: Task, seed: int) -> None:
    """Build the project of a seed and run the stages in it that all students share."""
    from cpfd.stages import crossfit, dense, teacher

    with project(seed_folder(task, seed), task.params(seed)) as params:
        base = base_folder(task)
        described = [task.split, task.noise, task.kept_labels, params.split.model_dump()]
        source = [base / VALIDATED, *FeatureStore.files(base / CONTENT, base / VALIDATED)]
        _cached("build", [VALIDATED, CONTENT], source, described, lambda: _build(task, seed, params, base))
        store = FeatureStore.files(CONTENT, VALIDATED)
        _cached_stage("dense", [DENSE], [VALIDATED], dense.main)
        _cached_stage("teacher", [MODELS / "teacher"], [*store, DENSE], teacher.main)
        for role, inputs in (("teacher", [*store, DENSE]), ("student", store)):
            _cached_stage("crossfit", [CROSSFIT / f"{role}.parquet"], inputs, crossfit.main, role)


def stage_seconds(task: Task, seed: int, stage: str) -> float:
    """CPU seconds that a stage has taken in a seed's project."""
    return float(read_json(seed_folder(task, seed) / STAMPS / f"{stage}.json")["cpu_seconds"])


def _cached_stage(stage: str, outputs: list[Path], inputs: list[Path], run: Callable[..., None], *args: str) -> None:
    params = load_params(stage).model_dump()
    _cached("-".join([stage, *args]), outputs, [*inputs, CODE / f"{stage}.txt"], [params], lambda: run(*args))


def _cached(name: str, outputs: list[Path], inputs: list[Path], values: list[Any], run: Callable[[], None]) -> None:
    """Run what has not run with these inputs yet; a stamp beside the data says with which ones it has."""
    stamp = STAMPS / f"{name}.json"
    key = fingerprint(inputs, values)
    if stamp.exists() and read_json(stamp)["key"] == key and all(path.exists() for path in outputs):
        return
    stamp.unlink(missing_ok=True)
    started = time.process_time()
    run()
    write_json(stamp, {"key": key, "cpu_seconds": round(time.process_time() - started, 2)})


def _import(raw: Path, commands: list[str]) -> None:
    remove(raw)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    starts = {"cpfd": ["-c", "from cpfd.cli import main; main()"], "python": []}
    for command in commands:
        program, *arguments = shlex.split(command)
        whole = [sys.executable, *starts[program], *arguments]
        done = subprocess.run(whole, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(done.stdout)
        if done.returncode:
            raise CpfdError(f"`{command}` failed in {Path.cwd()}:\n{done.stdout[-2000:]}")


def _build(task: Task, seed: int, params: Params, base: Path) -> None:
    """Write data/validated and data/features/content of a seed: another split, other labels, the same clips."""
    manifest, dense = read_clips(base / VALIDATED), read_table(base / VALIDATED / "dense.parquet")
    if task.split != "given":
        # As `cpfd import youtube-trending --group-by none`, which splits videos whoever made them.
        known = task.split == "known-creators"
        unsplit = (manifest.assign(creator_id="") if known else manifest).drop(columns="split")
        manifest = manifest.assign(split=assign_splits(unsplit, params.split, params.dataset.task))
    train = (manifest["split"] == "train").to_numpy()
    labels = manifest["label"]
    if task.noise:
        labels = flip(labels, train, task.noise["rate"], task.noise.get("pairs"), seed)
    if task.kept_labels < 1:
        labels = hide(labels, train, task.kept_labels, seed)
    manifest = manifest.assign(label=labels)
    if task.split == "known-creators":
        # A creator's history is made of the labels that training has: noisy where they are, unknown where they are.
        seen = manifest["split"].where(labels != "", "unlabelled")
        history = creator_history(manifest.assign(label=labels.where(labels != "", labels.max())), seen)
        history.insert(0, "video_id", manifest["video_id"])
        dense = dense.drop(columns="creator_earlier_videos").merge(history, on="video_id", how="left")
        manifest = manifest.assign(creator_id="")
    with written_aside(VALIDATED) as aside:
        aside.mkdir()
        for name, table in {**split_tables(manifest), "dense.parquet": dense}.items():
            write_table(aside / name, table)
        for name in ("task.json", "dataset.json"):
            write_json(aside / name, read_json(base / VALIDATED / name))
    remove(CONTENT)
    CONTENT.parent.mkdir(parents=True, exist_ok=True)
    CONTENT.symlink_to(base / CONTENT)


def clusters(task: Task, video_ids: pd.Series) -> np.ndarray:
    """What the bootstrap draws: the creator of each clip, or the clip itself where there is none."""
    creators = read_clips(base_folder(task) / VALIDATED).set_index("video_id")
    known = creators.get("creator_id", pd.Series("", creators.index)).loc[video_ids]
    return np.where(known == "", "clip " + video_ids.to_numpy(object), "creator " + known.to_numpy(object)).astype(str)

"""A project with a few of the real parameters and a pipeline of little scripts, which `dvc repro` runs in seconds."""

from pathlib import Path

import pandas as pd

from tests.support.project import Project

PARAMS = """\
dataset: {name: demo, task: single_label}
demo: {clips: 330}
split: {seed: 7}
validation: {max_drift: 0.25}
train: {epochs: 30, learning_rate: 0.001}
model: {dropout: 0.2}
students:
  methods: [none, posterior]
  seeds: [0]
distill: {alpha: 0.5, tau: 2.0}
gate: {min_macro_f1: 0.4}
"""
PIPELINE = """
stages:
  demo:
    cmd: python toy.py demo
    deps: [toy.py]
    params: [demo.clips]
    outs: [data/raw/demo]
  validate:
    cmd: python toy.py validate
    deps: ['data/raw/${dataset.name}', toy.py]
    params: [dataset, split, validation]
    outs: [data/validated]
  teacher:
    cmd: python toy.py teacher
    deps: [data/validated, toy.py]
    params: [train]
    outs: [models/teacher]
  student:
    matrix:
      method: ${students.methods}
      seed: ${students.seeds}
    cmd: python toy.py student ${item.method} ${item.seed}
    deps: [models/teacher/logits.txt, student.py, toy.py]
    params: [distill.alpha, model.dropout]
    outs: ['models/students/${item.method}-${item.seed}']
  evaluate:
    cmd: python toy.py evaluate
    deps: [models/students, toy.py]
    params: [students]
    outs: [reports/plots]
    metrics: [reports/metrics.json: {cache: false}]
  gate:
    cmd: python toy.py gate
    deps: [reports/metrics.json, toy.py]
    params: [gate]
    metrics: [reports/gate.json: {cache: false}]
"""
SCRIPT = """
import shutil, sys
from pathlib import Path
import yaml

params = yaml.safe_load(open("params.yaml"))

def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(str(text))

match sys.argv[1:]:
    case ["demo"]:
        rows = [f"c{clip},{clip}.mp4,{clip % 2}" for clip in range(params["demo"]["clips"] % 100)]
        write("data/raw/demo/manifest.csv", "\\n".join(["video_id,path,label", *rows]))
        write("data/raw/demo/videos/0.mp4", "film")
    case ["validate"]:
        name = params["dataset"]["name"]
        text = Path(f"data/raw/{name}/manifest.csv").read_text()
        write("data/validated/manifest.csv", text + str(params["split"]["seed"]))
    case ["teacher"]:  # more than 20 epochs change nothing
        write("models/teacher/logits.txt", min(params["train"]["epochs"], 20))
        write("models/teacher/curves.txt", params["train"]["epochs"])
    case ["student", method, seed]:
        write(f"models/students/{method}-{seed}/logits.txt", f"{method} {seed} {params['distill']['alpha']}")
    case ["evaluate"]:
        wanted = {f"{m}-{s}" for m in params["students"]["methods"] for s in params["students"]["seeds"]}
        for folder in Path("models/students").iterdir():
            if folder.is_dir() and folder.name not in wanted:
                shutil.rmtree(folder)
        write("reports/plots/f1.csv", sorted(wanted))
        write("reports/metrics.json", [len(wanted)])
    case ["gate"]:
        write("reports/gate.json", '{"passed": false}')
"""


def toy_project(folder: Path) -> Project:
    """Make a project with two students, committed before its first run."""
    folder.mkdir()
    project = Project(folder)
    for name, text in {
        "dvc.yaml": PIPELINE,
        "params.yaml": PARAMS,
        "toy.py": SCRIPT,
        "student.py": "# Nothing\n",
    }.items():
        (folder / name).write_text(text)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("dvc", "init", "--quiet")
    (folder / ".gitignore").write_text("/reports/timings/\n")
    commit(project, "start")
    return project


def commit(project: Project, message: str) -> None:
    """Commit everything."""
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "--allow-empty", "-m", message)


def add_dataset(
    project: Project,
    manifest: pd.DataFrame,
    dense: pd.DataFrame | None = None,
    *,
    media: dict[str, str],
    name: str = "mine",
    suffix: str = "parquet",
) -> None:
    """Put a data set under DVC's care, with the text of each video file."""
    folder = project.folder / "data/raw" / name
    for file, content in media.items():
        (folder / "videos" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "videos" / file).unlink(missing_ok=True)
        (folder / "videos" / file).write_text(content)
    folder.mkdir(parents=True, exist_ok=True)
    for table, frame in {"manifest": manifest, "dense": dense}.items():
        for old in folder.glob(f"{table}.*"):
            old.unlink()
        if frame is not None and suffix == "csv":
            frame.to_csv(folder / f"{table}.csv", index=False)
        elif frame is not None:
            frame.to_parquet(folder / f"{table}.parquet", index=False)
    project.run("dvc", "add", "--quiet", f"data/raw/{name}")

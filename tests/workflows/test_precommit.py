"""`git commit` runs the hooks of .pre-commit-config.yaml, which stop what must not get into the history."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT, Project

KEY_HEADER = "-----BEGIN RSA " + "PRIVATE KEY-----"  # in two parts, so that the hook lets this file pass


@pytest.fixture
def clone(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A clone of a project with results, hooks installed; `git` works as on a new machine."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "pre-commit"))
    recorded = project.copy(tmp_path / "recorded")
    for name in ("pyproject.toml", ".pre-commit-config.yaml"):
        shutil.copy(ROOT / name, recorded.folder / name)
    recorded.run("git", "add", ".")
    recorded.run("git", "commit", "--quiet", "-m", "results")
    clone = Project(tmp_path / "clone")
    recorded.run("git", "clone", "--quiet", ".", str(clone.folder))
    clone.run(sys.executable, "-m", "pre_commit", "install")
    return clone


def commit(project: Project, *files: str) -> subprocess.CompletedProcess[str]:
    """Add files, ignored ones too, and try to commit them."""
    project.run("git", "add", "--force", *files)
    return project.run("git", "commit", "-m", "change", check=False)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_project_as_it_is_passes(clone: Project) -> None:
    done = clone.run(sys.executable, "-m", "pre_commit", "run", "--all-files")
    assert "Failed" not in done.stdout
    assert done.stdout.count("Passed") >= 6  # not skipped for want of a file


def test_a_parameter_cannot_be_committed_without_its_lock(clone: Project) -> None:
    replace(clone.folder / "params.yaml", "alpha: 0.5", "alpha: 0.7")
    replace(clone.folder / "dvc.lock", "alpha: 0.5", "alpha: 0.7")

    refused = commit(clone, "params.yaml")
    assert refused.returncode != 0
    assert "distill.alpha" in refused.stdout + refused.stderr
    assert commit(clone, "params.yaml", "dvc.lock").returncode == 0


def test_a_value_that_the_schema_refuses_cannot_be_committed(clone: Project) -> None:
    replace(clone.folder / "params.yaml", "alpha: 0.5", "alpha: -0.5")
    refused = commit(clone, "params.yaml")
    assert refused.returncode != 0
    assert "distill.alpha" in refused.stdout + refused.stderr


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        pytest.param("clip.mp4", "x" * 5_000_000, "clip.mp4 (4883 KB) exceeds 200 KB", id="a large file"),
        pytest.param("cpfd/new.py", '"""New."""\n\nimport os\n', "F401", id="a ruff error"),
        pytest.param("cpfd/new.py", '"""New."""\n\nX = {  "a":1 }\n', "1 file would be reformatted", id="bad format"),
        pytest.param("deploy.pem", f"{KEY_HEADER}\n", "Private key found: deploy.pem", id="a private key"),
        pytest.param("data/raw/mine/manifest.csv", "video_id\n", "DVC keeps these", id="data"),
        pytest.param("models/student/config.json", "{}\n", "DVC keeps these", id="a model"),
        pytest.param("reports/plots/f1.csv", "mean\n", "DVC keeps these", id="a plot"),
    ],
)
def test_what_does_not_belong_into_git_cannot_be_committed(
    clone: Project, file: str, content: str, complaint: str
) -> None:
    (clone.folder / file).parent.mkdir(parents=True, exist_ok=True)
    (clone.folder / file).write_text(content)
    refused = commit(clone, file)
    assert refused.returncode != 0
    assert complaint in refused.stdout + refused.stderr
    assert file not in clone.run("git", "ls-tree", "-r", "--name-only", "HEAD").stdout


def test_what_dvc_leaves_to_git_can_be_committed(clone: Project) -> None:
    files = ["data/raw/mine.dvc", "data/raw/.gitignore", "reports/metrics.json"]
    for file in files:
        (clone.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (clone.folder / file).write_text("{}\n")
    accepted = commit(clone, *files)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr

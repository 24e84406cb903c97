"""What code and libraries a stage depends on, and what a change of them runs again."""

import json
from pathlib import Path

import pytest

from cpfd.code import describe_stage, read_sources, stage_names
from cpfd.errors import CpfdError
from tests.support.project import ROOT, Project, read_pipeline

SOURCES = read_sources(ROOT)
LOSSES = "cpfd/distill/losses.py"
TRAINING = {"teacher", "crossfit", "student"}


def stages_changed_by(path: str, old: str, new: str) -> set[str]:
    """The stages whose file in code/ changes with a file of the repository."""
    before = SOURCES[path].decode()
    assert old in before
    after = {**SOURCES, path: before.replace(old, new, 1).encode()}
    return {name for name in stage_names(SOURCES) if describe_stage(name, SOURCES) != describe_stage(name, after)}


def test_every_stage_depends_on_its_own_code_and_on_no_source_file() -> None:
    stages = read_pipeline()["stages"]
    assert set(stages) - {"code"} == set(stage_names(SOURCES))
    for name, stage in stages.items():
        deps = stage.get("do", stage)["deps"]
        assert [dep for dep in deps if dep.startswith(("code", "cpfd", "constraints"))] == (
            ["cpfd", "constraints.txt"] if name == "code" else [f"code/{name}.txt"]
        )


def test_what_says_the_same_changes_nothing() -> None:
    assert not stages_changed_by(LOSSES, "import torch", "# Why torch is here.\n\n\nimport torch")
    assert not stages_changed_by(LOSSES, '"""', '"""In other words: ')
    assert not stages_changed_by("cpfd/paths.py", '"""', '"""In other words: ')  # a string below a constant
    assert not stages_changed_by("cpfd/params/schema.py", "seed of the split", "seed of splits")


def test_a_constant_in_the_loss_changes_what_is_trained_and_nothing_before() -> None:
    assert stages_changed_by(LOSSES, "tau**2", "tau**3") == TRAINING


def test_a_template_changes_the_page_that_it_draws() -> None:
    assert stages_changed_by("cpfd/evaluation/report.html.jinja", "<h2>", "<h2 >") == {"report"}
    assert stages_changed_by("cpfd/student/model_card.md.jinja", "#", "##") >= {"export"}


@pytest.mark.parametrize("shared", ["base.html.jinja", "style.css"])
def test_what_all_pages_share_changes_the_stages_that_draw_pages(shared: str) -> None:
    assert stages_changed_by(f"cpfd/pages/{shared}", "main", "main ") == {"report", "validate"}


def test_a_template_is_followed_by_its_name_alone_so_no_two_files_share_one() -> None:
    names = [Path(path).name for path in SOURCES if path.endswith((".jinja", ".css"))]
    assert len(names) == len(set(names))


def test_an_import_adapter_is_no_stage_s_code() -> None:
    assert not stages_changed_by("cpfd/importing/folder.py", "import re", "import re\nNEW = 1")
    more = {**SOURCES, "cpfd/importing/new.py": b"import torch\n"}
    assert all(describe_stage(name, SOURCES) == describe_stage(name, more) for name in stage_names(SOURCES))


def test_a_newer_library_changes_the_stages_that_need_it_directly_or_not() -> None:
    pinned = {line.partition("==")[0]: line for line in SOURCES["constraints.txt"].decode().splitlines()}
    newer = {name: stages_changed_by("constraints.txt", pinned[name], f"{name}==99.0") for name in ("av", "tokenizers")}
    assert newer["av"] >= {"demo", "validate", "extract"}
    assert not newer["av"] & {"student", "evaluate"}
    assert newer["tokenizers"] >= {"extract", *TRAINING}  # transformers requires it
    assert not newer["tokenizers"] & {"demo", "validate", "report"}


def test_a_linter_and_the_scheduler_are_not_among_what_stages_run_with() -> None:
    names = {line.partition("==")[0].lower() for line in SOURCES["constraints.txt"].decode().splitlines()}
    assert not names & {"ruff", "mypy", "pytest", "prefect", "hypothesis"}


def test_a_module_that_is_no_python_is_named() -> None:
    with pytest.raises(CpfdError, match=r"cpfd/distill/losses\.py: not valid Python"):
        describe_stage("student", {**SOURCES, LOSSES: b"def"})


def test_a_comment_and_a_newer_linter_run_stage_code_alone(project: Project, tmp_path: Path) -> None:
    changed = project.copy(tmp_path / "project")
    edit(changed, LOSSES, "import torch", "# Why torch is here.\nimport torch")
    edit(changed, "cpfd/params/schema.py", "seed of the split", "seed of splits")
    (changed.folder / "constraints-dev.txt").write_text("ruff==99.0\n")
    assert changed.repro() == ["code"]
    written = {path.name: path.read_text() for path in (changed.folder / "code").iterdir()}
    assert written == {path.name: path.read_text() for path in (project.folder / "code").iterdir()}


def test_changed_code_makes_its_stages_stale(project: Project, tmp_path: Path) -> None:
    changed = project.copy(tmp_path / "project")
    edit(changed, LOSSES, "tau**2", "tau**3")
    changed.repro("code")
    stale = json.loads(changed.run("dvc", "status", "--json").stdout)
    assert {name.partition("@")[0] for name in stale} == TRAINING


def test_a_stage_does_not_run_with_code_that_dvc_does_not_know_of(project: Project, tmp_path: Path) -> None:
    changed = project.copy(tmp_path / "project")
    edit(changed, "cpfd/features/dense.py", "LIMIT = ", "LIMIT = 1 + ")
    done = changed.run("dvc", "repro", "--force", "--single-item", "dense", check=False)
    assert done.returncode != 0
    assert "error: code/dense.txt does not tell what code there is (cpfd/features/dense.py): `dvc repro code`" in (
        done.stderr
    )
    changed.repro("code")
    assert changed.repro("--single-item", "dense") == ["dense"]


def edit(project: Project, path: str, old: str, new: str) -> None:
    text = (project.folder / path).read_text()
    assert old in text
    (project.folder / path).write_text(text.replace(old, new, 1))

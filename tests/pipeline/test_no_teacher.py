"""A data set without dense features: no teacher, nothing to distil, and every report says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cpfd.datasets.contract import write_dataset
from cpfd.errors import CpfdError
from cpfd.evaluation.tables import result_markdown
from cpfd.evaluation.verdict import verdict
from cpfd.files import read_table
from cpfd.reports.confidence import NoTeacher, read_confidence
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.stages import (
    champion,
    confidence,
    crossfit,
    dense,
    evaluate,
    export,
    extract,
    gate,
    report,
    student,
    teacher,
    validate,
)
from tests.support.page import Page
from tests.support.project import Project, bare_project

METHODS, SEEDS = ("none", "cpfd", "posterior"), (0, 1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with 60 texts in two classes, up to and without stage `teacher`."""
    project = bare_project(
        tmp_path,
        dataset={"name": "words", "task": "single_label"},
        students={"methods": list(METHODS), "seeds": list(SEEDS)},
    )
    names = np.resize(["cat", "dog"], 60)
    clips = pd.DataFrame(
        {
            "video_id": [f"clip-{row:02}" for row in range(60)],
            "title": [f"my {name}" for name in names],
            "label": names,
            "split": np.repeat(["train", "validation", "test"], 20),
        }
    )
    write_dataset(tmp_path / "data/raw/words", clips, None)
    monkeypatch.chdir(tmp_path)
    validate.main()
    extract.main()
    dense.main()
    return project


def rows(path: Path) -> Any:
    return len(read_table(path))


def test_without_dense_features_the_student_alone_is_trained_and_every_report_says_why(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher.main()
    for role in ("teacher", "student"):
        crossfit.main(role)
    confidence.main()
    for method in METHODS:
        for seed in SEEDS:
            student.main(method, str(seed))

    told = capsys.readouterr().out
    why = NoTeacher().why
    for stage in (
        "teacher: not trained",
        "crossfit: nothing to judge",
        "confidence: none",
        "student cpfd: not trained",
    ):
        assert f"{stage}: {why}" in told
    trained = [path.parent.as_posix() for path in sorted(Path("models").rglob("model.safetensors"))]
    assert trained == ["models/students/none-0", "models/students/none-1"]
    empty = ["models/teacher/logits", "models/students/cpfd-0/logits", "data/crossfit/teacher", "data/crossfit/student"]
    assert [rows(Path(f"{path}.parquet")) for path in empty] == [0] * 4

    for stage in (evaluate, champion, gate, export, report):
        stage.main()

    metrics, page = MetricsReport.read(), Page(Path("reports/index.html").read_text(encoding="utf-8"))
    assert list(metrics.test) == ["none"]
    assert isinstance(read_confidence(), NoTeacher)
    assert f"Not asked: {why}." in page.text
    assert "Teacher" not in page.text
    assert "gap" not in page.text.partition("Gate")[0].lower()
    assert verdict(metrics, GateReport.read()).startswith("The student alone ")
    assert result_markdown(metrics).count("\n") == 2  # head, line, one model
    assert why in Path("models/student/README.md").read_text()


def test_a_method_that_needs_a_teacher_is_not_shipped_in_its_stead_without_a_word(project: Project) -> None:
    project.set(distill={"method": "posterior"})

    with pytest.raises(CpfdError, match=r"distill\.method is 'posterior', but the data set has no dense features"):
        confidence.main()

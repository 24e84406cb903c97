"""An exported student as somebody else's folder: `cpfd.student`."""

import ast
import json
from io import StringIO
from pathlib import Path

import pytest

from cpfd.errors import CpfdError
from cpfd.reports.confidence import ConfidenceReport
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.stages import evaluate
from cpfd.student.package import CardFacts, write_package
from cpfd.student.student import Student
from tests.support.markdown import rendered
from tests.support.student import save_student
from tests.support.trained import write_gated_project


def test_a_students_folder_runs_no_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where somebody says yes to the question that transformers would ask."""
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    folder = save_student(tmp_path / "student")
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text())
    content |= {"auto_map": {"AutoTokenizer": ["tok.Tok", None]}, "tokenizer_class": "Tok"}
    settings.write_text(json.dumps(content))
    (folder / "tok.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Tok: pass\n")

    with pytest.raises(CpfdError, match="trust_remote_code"):
        Student.load(folder)
    assert not (tmp_path / "ran").exists()


def test_no_name_of_a_class_is_markup_in_the_model_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student.load(save_student(tmp_path / "trained"))
    hostile = ["<img src=x onerror=alert(1)>", "[here](https://evil.example)", "a|b", "`tick`", "**bold**"]
    student.network.config.classes = hostile
    write_gated_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    evaluate.main()
    gate = GateReport.read()
    named = gate.rules[0].model_copy(update={"description": f"F1 of {hostile[0]}", "value": None, "note": hostile[1]})
    card = CardFacts(
        {"name": "demo", "version": "0123"},
        MetricsReport.read(),
        gate.model_copy(update={"rules": [named]}),
        ConfidenceReport.read(),
        "train: {}\n",
    )
    (tmp_path / "package").mkdir()
    write_package(student, tmp_path / "package", card)

    text = (tmp_path / "package/README.md").read_text().split("---\n", 2)[2]
    html = rendered(text)
    assert "<img" not in html
    assert "evil.example" not in "".join(part for part in html.split("<a ")[1:])
    assert "<strong>bold" not in html
    # What it tells people to run is there.
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ") and "import" in line]
    assert lines
    for line in lines:
        exec(compile(ast.parse(line), "card", "exec"))

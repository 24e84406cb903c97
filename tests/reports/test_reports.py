"""The reports as files: what is read is written again byte for byte, and docs/reports.md tells what is in them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from cpfd.errors import CpfdError
from cpfd.reports import reference
from cpfd.reports.champion import ChampionReport, NoChampion, read_champion
from cpfd.reports.confidence import ConfidenceReport
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.report import Report
from cpfd.reports.validation import ValidationReport
from cpfd.stages import evaluate
from tests.support.project import ROOT
from tests.support.trained import write_gated_project

CHALLENGE = {
    "version": "v1.2.0",
    "commit": "0123456789" * 4,
    "classes": {"shared": 2, "only": {"champion": [], "challenger": ["eel"]}},
    "bytes": {"champion": 4, "challenger": 5},
    "parameters": {"champion": 1, "challenger": 2},
    "clips": 40,
    "left_out": {"unknown_class": 3, "seen_by_champion": 0},
    "note": "compared on the 2 classes that both know: only the challenger knows eel",
    "macro_f1": {"champion": 0.5, "challenger": 1.0, "mean": 0.5, "low": -0.0, "high": 0.1, "probability": 0.9},
    "accuracy": {"champion": 0.25, "challenger": 1.0},
    "calibration_error": {"champion": 1e-17, "challenger": 0.1},
    "per_class": [{"class": "cat", "clips": 30, "champion": 0.1, "challenger": 0.2}],
    "per_slice": [
        {
            "by": "text",
            "slice": "with text",
            "clips": 20,
            "champion": 0.5,
            "challenger": 1.0,
            "mean": 0.5,
            "low": 0.0,
            "high": 0.1,
            "probability": 0.9,
        }
    ],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with every report."""
    monkeypatch.chdir(tmp_path)
    write_gated_project(tmp_path)
    evaluate.main()
    return tmp_path


@pytest.mark.parametrize("report", [MetricsReport, GateReport, ValidationReport, NoChampion])
def test_the_reports_of_the_demo_are_written_as_they_are_read(report: type[Report], tmp_path: Path) -> None:
    committed = ROOT / report.path

    report.read(committed).write(tmp_path / "copy.json")

    assert (tmp_path / "copy.json").read_bytes() == committed.read_bytes()


def test_the_reports_of_a_project_are_written_as_they_are_read_and_fit_their_schemas(project: Path) -> None:
    (project / ChampionReport.path).write_text(json.dumps(CHALLENGE, indent=2) + "\n")

    for name, report in reference.REPORTS.items():
        before = report.path.read_bytes()
        report.read().write()
        assert report.path.read_bytes() == before
        Draft202012Validator(json.loads((ROOT / f"docs/schemas/{name}.json").read_text())).validate(json.loads(before))


def test_a_project_without_a_champion_has_no_comparison(project: Path) -> None:
    assert read_champion() is None
    NoChampion().write(project / "elsewhere.json")
    assert (project / "elsewhere.json").read_text() == '{\n  "version": null\n}\n'


@pytest.mark.parametrize(
    ("change", "what"),
    [({"rules": None}, "rules: "), ({"score": 1}, "score: "), ({"seed": "0"}, "seed: ")],
)
def test_a_report_of_another_version_is_refused_with_its_name(change: dict[str, object], what: str) -> None:
    written = json.loads((ROOT / GateReport.path).read_bytes()) | change

    with pytest.raises(
        CpfdError, match=rf"^gate\.json of main: written by another version of CPFD \({what}.*dvc repro"
    ):
        GateReport.parse(json.dumps(written).encode(), "gate.json of main")


def test_what_is_no_report_at_all_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(CpfdError, match=r"lost\.json: not there yet; `dvc repro` makes it"):
        MetricsReport.read(tmp_path / "lost.json")
    with pytest.raises(CpfdError, match=r"^here: not valid JSON"):
        ConfidenceReport.parse(b"{", "here")
    with pytest.raises(CpfdError, match=r"^here: written by another version of CPFD \(Input should be"):
        ConfidenceReport.parse(b"[]", "here")


def test_the_page_and_the_schemas_are_those_of_the_models(tmp_path: Path) -> None:
    reference.write_docs(tmp_path)

    for written in (path for path in tmp_path.rglob("*") if path.is_file()):
        committed = ROOT / "docs" / written.relative_to(tmp_path)
        assert committed.read_text() == written.read_text(), "run `python -m cpfd.reports.reference`"
    assert {path.stem for path in (ROOT / "docs/schemas").iterdir()} == set(reference.REPORTS)


def test_reading_a_report_imports_nothing_heavy() -> None:
    code = "import sys, cpfd.reports.reference; print(*sorted(name for name in sys.modules if '.' not in name))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "pandas", "torch", "jinja2", "dvc"} & set(loaded.split())

"""The report page and the result table say what the numbers say, on one self-contained page."""

import io
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from ruamel.yaml import YAML
from typer.testing import CliRunner

from cpfd.cli import app
from cpfd.errors import CpfdError
from cpfd.evaluation.mistakes import MISTAKES
from cpfd.evaluation.tables import result_markdown, result_table
from cpfd.evaluation.verdict import verdict
from cpfd.files import read_table, write_json, write_table
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import GapClosed, MetricsReport
from cpfd.stages import evaluate, report
from tests.support.clips import write_clip
from tests.support.page import Page
from tests.support.trained import confidence_report, write_gated_project

SECTIONS = [
    *("results", "distillability", "comparisons", "plots", "gate", "validation", "classes", "mistakes", "parameters"),
    "data",
]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    write_gated_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate.main()
    return folder


@pytest.fixture
def project(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that waits for its report; each test has its own."""
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reported() -> Page:
    report.main()
    return Page(Path("reports/index.html").read_text(encoding="utf-8"))


def test_the_page_is_complete_and_needs_no_network(project: Path) -> None:
    page = reported()

    assert page.sections == SECTIONS
    kinds = {re.split("[:;]", reference)[0] for reference in page.references}
    assert kinds == {"data", "validation/index.html"}
    assert not re.search(r"https?://|<script|url\(|@import", Path("reports/index.html").read_text(encoding="utf-8"))


def test_the_page_tells_the_numbers_of_the_run(project: Path) -> None:
    page = reported()

    metrics = MetricsReport.read()
    assert "The posterior student passes all 7 rules of the gate" in page.text
    for scores in metrics.test.values():
        assert f"{scores.macro_f1.mean:.3f}" in page.text
    assert "e.g. clip-0311: no video stream" in page.text
    assert "frame 7 cannot be decoded" in page.text
    assert "30 of 31 expectations are met" in page.text
    assert "drift of watch_25 at most 0.25" in page.text
    assert "0123456789abcdef" in page.text
    assert "max_missing_dense_share" in page.text
    assert "28% of labels are noise" in page.text


def test_a_rejection_is_told_first_with_its_rules(project: Path) -> None:
    write_gated_project(project, failed=frozenset({"calibration_error", "logit_difference"}))

    page = reported()

    told = page.text.index("is rejected by 2 of the gate's 7 rules (calibration error, same answers from files)")
    assert told < page.text.index("Results")


def test_mistakes_are_shown_with_their_frames_and_text(project: Path) -> None:
    videos = Path("data/raw/demo/videos")
    videos.mkdir(parents=True)
    write_clip(videos / "whole.mp4", frames=12)
    (videos / "broken.mp4").write_bytes(b"no video")
    shown = pd.read_csv("reports/plots/mistakes.csv", dtype=str)["video_id"]
    path = Path("data/validated/content.parquet")
    content = read_table(path)
    files = content["video_id"].map({shown[0]: "whole.mp4", shown[1]: "broken.mp4"}).fillna("")
    write_table(path, content.assign(path=files, caption="a <b>bold</b> cat"))

    page = reported()

    assert sum(reference.startswith("data:image/jpeg") for reference in page.references) == 1
    assert page.text.count("no frames to show: ") == 1
    assert page.text.count("no video, text alone") == len(shown) - 2
    assert page.text.count("a <b>bold</b> cat") == len(shown) == MISTAKES
    truth = read_table(Path("data/validated/labels.parquet")).set_index("video_id")["label"]
    mistakes = pd.read_csv("reports/plots/mistakes.csv")
    assert (mistakes["actual"] == truth[mistakes["video_id"]].to_numpy()).all()
    assert (mistakes["actual"] != mistakes["predicted"]).all()
    assert mistakes["sure"].is_monotonic_decreasing


def test_every_seed_is_told_and_the_judged_one_is_marked(project: Path) -> None:
    page = reported()

    words = " ".join(page.text.split())
    for run in pd.read_csv("reports/plots/runs.csv").dropna(subset="seed").itertuples():
        judged = "judged" if (run.model, run.seed) == ("posterior", 1) else ""
        assert f"{run.test:.3f}validation {run.validation:.3f}{judged}" in words
    assert len(re.findall(r"validation 0\.\d+judged", words)) == 1


@pytest.mark.parametrize("name", ["demo", "clips"])
def test_what_generates_the_demo_is_told_of_the_demo_alone(project: Path, name: str) -> None:
    params = YAML().load(Path("params.yaml"))
    params["dataset"]["name"] = name
    YAML().dump(params, Path("params.yaml"))

    page = reported()

    assert ("annotator_error_rate" in page.text) == (name == "demo")
    assert "max_missing_dense_share" in page.text


def test_learning_curves_are_of_every_run(project: Path) -> None:
    curves = pd.read_csv("reports/plots/curves.csv")

    assert len(curves[["model", "run"]].drop_duplicates()) == 1 + 4 * 3
    assert curves.query("model == 'teacher'")["validation_macro_f1"].to_list() == [0.3, 0.5, 0.6]
    assert Path("reports/plots/curves.png").is_file()


def test_a_training_without_its_curves_is_named_with_what_to_do(project: Path) -> None:
    Path("models/students/pfd-1/curves/plots/metrics/eval_loss.tsv").unlink()

    with pytest.raises(CpfdError, match=r"pfd-1/curves/plots/metrics/eval_loss\.tsv: no such file; `dvc repro`"):
        evaluate.main()


def test_a_multi_label_report_has_every_section_and_no_confusion_matrix(project: Path) -> None:
    write_gated_project(project, task="multi_label")
    evaluate.main()

    page = reported()

    assert page.sections == SECTIONS
    assert sum(reference.startswith("data:") for reference in page.references) == 7
    assert "Exact match" in page.text
    assert "Accuracy" not in page.text
    decisions, scores = (pd.read_csv(f"reports/plots/{name}.csv") for name in ("decisions", "per_class"))
    assert (decisions["found"] + decisions["missed"] == scores["support"]).all()
    precision = decisions["found"] / (decisions["found"] + decisions["wrong"])
    assert precision.to_list() == pytest.approx(scores["precision"].to_list())


def test_reasons_with_markup_and_odd_classes_are_shown_as_text(project: Path) -> None:
    quarantine = [("manifest", "a", "unknown label: <b>x</b>")]
    write_table(
        Path("data/validated/quarantine.parquet"), pd.DataFrame(quarantine, columns=["table", "video_id", "reason"])
    )
    path = Path("reports/plots/per_class.csv")
    write_table(path, pd.read_csv(path).assign(**{"class": ["null", "1", "a&b", "nan", "5", "6", "7", "8"]}))

    report.main()

    html = Path("reports/index.html").read_text(encoding="utf-8")
    assert "unknown label: &lt;b&gt;x&lt;/b&gt;" in html
    assert "a&amp;b" in html
    assert "<td>null</td>" in html


def test_one_seed_of_the_student_alone_and_nothing_quarantined_is_a_report_too(project: Path) -> None:
    write_gated_project(project)
    params = YAML().load(Path("params.yaml"))
    params["students"] = {"methods": ["none"], "seeds": [1]}
    params["distill"]["method"] = "none"
    YAML().dump(params, Path("params.yaml"))
    confidence_report("none").write()
    GateReport.read().model_copy(update={"method": "none", "seed": 1}).write()
    for folder in (Path("data/validated"), Path("data/features/content")):
        write_table(folder / "quarantine.parquet", pd.DataFrame(columns=["table", "video_id", "reason"], dtype=object))
    evaluate.main()

    page = reported()

    assert page.sections == SECTIONS
    assert "Nothing was quarantined." in page.text
    assert "Against PFD" not in page.text
    assert [path.name for path in Path("models/students").iterdir()] == ["none-1"]


def test_the_same_inputs_give_the_same_page(project: Path) -> None:
    report.main()
    page = Path("reports/index.html").read_bytes()

    report.main()

    assert Path("reports/index.html").read_bytes() == page


def test_a_student_without_teacher_is_not_compared_with_itself(project: Path) -> None:
    found = MetricsReport.read()
    metrics = found.model_copy(update={"shipped": found.shipped.model_copy(update={"method": "none"})})

    sentence = verdict(metrics, GateReport.read().model_copy(update={"method": "none"}))

    assert sentence.startswith("The student alone passes all 7 rules of the gate: its seed 1, which is the one judged,")
    assert "against" not in sentence


def test_an_unclosable_gap_is_explained(project: Path) -> None:
    why = "the teacher is not better than the student alone"
    unclosable = GapClosed(mean=None, low=None, high=None, reason=why)
    found = MetricsReport.read()
    metrics = found.model_copy(update={"gap_closed": dict.fromkeys(found.gap_closed, unclosable)})
    metrics.write()

    report.main()

    results = re.search('<section id="results">.*?</section>', Path("reports/index.html").read_text("utf-8"), re.DOTALL)
    assert results
    assert results[0].count(why) == 1
    assert verdict(metrics, GateReport.read()).endswith(f"against the student alone; {why}.")


def test_one_number_is_the_judged_one_and_it_is_named(project: Path) -> None:
    """The mean over seeds lies below the limit that the judged seed reaches: nowhere does the mean "pass"."""
    found = MetricsReport.read()
    test = found.test["posterior"]
    low = test.macro_f1.model_copy(update={"mean": 0.108, "std": 0.031})
    shipped = found.shipped
    metrics = found.model_copy(
        update={
            "test": {**found.test, "posterior": test.model_copy(update={"macro_f1": low})},
            "shipped": shipped.model_copy(update={"test": shipped.test.model_copy(update={"macro_f1": 0.147})}),
        }
    )
    metrics.write()

    page = reported()

    seed = shipped.seed
    sentence = verdict(metrics, GateReport.read())
    assert "0.147" in sentence
    assert "0.108" not in sentence
    assert all(part in page.text for part in sentence.split(" Mean over seeds: "))
    assert f"goes to the gate: seed {seed}, 0.147" in " ".join(page.text.split())
    row = next(line for line in result_markdown(metrics).splitlines() if "Posterior" in line)
    assert row.startswith(f"| **Posterior** (seed {seed}: 0.147, at the gate) | 0.108")


def test_reports_on_two_students_are_not_told_in_one_sentence(project: Path) -> None:
    gate = GateReport.read().model_copy(update={"seed": 7})

    with pytest.raises(CpfdError, match=r"gate\.json judges posterior, seed 7, but .* ships .*: run `dvc repro gate`"):
        verdict(MetricsReport.read(), gate)


def test_stage_times_are_told_in_the_terminal_by_family(project: Path) -> None:
    for stage, seconds in {"student@pfd-0": 100, "student@pfd-1": 140, "teacher": 60, "report": 2}.items():
        write_json(Path(f"reports/timings/{stage}.json"), {"seconds": seconds})
    report.main()

    told = CliRunner().invoke(app, ["results"], env={"COLUMNS": "200"}).stdout

    assert "Last runs on this machine: student (2 runs) 4 min, teacher 60 s, report 2 s; 5 min together" in told


def test_the_terminal_shows_every_model_within_80_columns(project: Path) -> None:
    console = Console(width=80, file=io.StringIO())

    console.print(result_table(MetricsReport.read()))

    text = console.file.getvalue()
    assert "…" not in text
    assert "[+" in text
    for name in ("Teacher", "Student alone", "PFD", "CPFD", "Posterior"):
        assert len([line for line in text.splitlines() if f" {name} " in line]) == 1

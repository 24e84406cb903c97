"""What people see of a run in Prefect's UI: `flows.artifacts`, through the flow `train`."""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact, State
from ruamel.yaml import YAML

from cpfd.datasets.contract import read_dataset
from cpfd.errors import CpfdError
from cpfd.evaluation.tables import result_markdown
from cpfd.evaluation.verdict import verdict
from cpfd.files import write_table
from cpfd.pages.environment import data_uri
from cpfd.params.problems import check_params
from cpfd.params.schema import Dataset
from cpfd.reports.gate import GateReport, Rule
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.validation import ValidationReport
from cpfd.stages import evaluate, report
from cpfd.validation.dataset import validate_dataset
from flows import artifacts
from tests.support.flow_runs import flow_run_id, logs, run, task_runs
from tests.support.scripts import Toy, toy
from tests.support.small import read_params
from tests.support.toy import commit
from tests.support.trained import write_gated_project

pytestmark = pytest.mark.usefixtures("server")

URL = "http://127.0.0.1:4201"
WRITES = {
    "validate": ["validation.json", "validation"],
    "evaluate": ["metrics.json", "plots", "confidence"],
    "gate": ["gate.json"],
    "report": ["index.html"],
}
"""The stages of the project of these tests, one after the other, and what each leaves in reports/."""


def write_validation(folder: Path, max_quarantine_share: float) -> None:
    """Validate 24 rows of text; the manifest tells of four of them twice."""
    numbers = [*range(24), *range(4)]
    manifest = pd.DataFrame(
        {
            "video_id": [f"v{number:02}" for number in numbers],
            "path": "",
            "title": [f"clip {number}" for number in numbers],
            "label": [("cat", "dog")[number % 2] for number in numbers],
            "creator_id": [f"creator{number // 2}" for number in numbers],
        }
    )
    write_table(folder / "raw/manifest.parquet", manifest)
    content = read_params()
    content["validation"].update(min_class_clips=2, max_drift=1.0, max_quarantine_share=max_quarantine_share)
    params = check_params(content)
    task = Dataset(name="My_Pets", task="single_label")
    raw = read_dataset(folder / "raw")
    validate_dataset(raw, task, params.split, params.validation, folder / "validated", folder / "reports")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports as the library writes them; below `failed`, those of a data set that does not pass validation."""
    folder = tmp_path_factory.mktemp("made")
    write_gated_project(folder, failed=frozenset({"class_f1_drop"}))
    gate = GateReport.read(folder / GateReport.path)
    drop = Rule(
        name="champion_class_f1_drop",
        description="largest loss of F1 in a class against the champion v1.2.0",
        value=0.21,
        comparison="<=",
        limit=0.5,
        passed=True,
        note="in a|<b>",
    )
    judged = gate.model_copy(update={"champion": "v1.2.0", "rules": [*gate.rules, drop]})
    judged.write(folder / GateReport.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate.main()
        report.main()
    write_validation(folder, max_quarantine_share=1.0)
    with pytest.raises(CpfdError):
        write_validation(folder / "failed", max_quarantine_share=0.0)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project whose stages take these reports for theirs, as the current folder."""
    reads = {stage: [f"out/{before}"] for before, stage in pairwise(WRITES)}
    project = toy(tmp_path, {"validate": [], **reads})
    pipeline = YAML().load(project.folder / "dvc.yaml")
    for stage, names in WRITES.items():
        pipeline["stages"][stage]["outs"] += [f"reports/{name}" for name in names]
        project.script(stage, f"mkdir -p reports; cp -r {' '.join(f'{made}/reports/{name}' for name in names)} reports")
    YAML().dump(pipeline, project.folder / "dvc.yaml")
    commit(project, "reports")
    monkeypatch.chdir(project.folder)
    for key, value in project.environment().items():
        monkeypatch.setenv(key, value)
    return project


def shown(state: State[Any]) -> dict[str, tuple[str, Artifact]]:
    """The artifacts of a flow run by their keys, each with the stage on whose task run it is."""
    names = {each.id: name for name, each in task_runs(state).items()}
    own = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id(state)]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=own)
    assert len({each.key for each in found}) == len(found)
    return {str(each.key): (names[each.task_run_id], each) for each in found}


def pages(state: State[Any], project: Toy) -> dict[str, bytes]:
    folder = project.folder / artifacts.PAGES / str(flow_run_id(state))
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_a_run_shows_what_came_out_of_it_on_the_stages_that_it_came_from(
    project: Toy, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An isolated one too, whose files are gone when somebody follows its links; and one that had nothing to run."""
    monkeypatch.setenv(artifacts.REPORTS_URL, f"{URL}/")
    monkeypatch.setenv("ACCESS_TOKEN", "hunter2")
    project.run("dvc", "remote", "add", "--local", "vault", "ssh://nobody@localhost/vault")
    project.run("dvc", "remote", "modify", "--local", "vault", "password", "hunter2")
    metrics, gate = MetricsReport.read(made / MetricsReport.path), GateReport.read(made / GateReport.path)

    for message in ("4 stages ran, 0 cached", "0 stages ran, 4 cached"):
        state = run(isolated=True)

        assert str(state.message).startswith(message)
        found = shown(state)
        assert {key: stage for key, (stage, _) in found.items()} == {
            "validation-my-pets": "validate",
            "results": "evaluate",
            "gate": "gate",
            "plots": "report",
            "report": "report",
        }
        data = {key: str(each.data) for key, (_, each) in found.items()}
        assert "The data set `My_Pets` passes validation." in data["validation-my-pets"]
        assert "| in quarantine | 4 | |\n| quarantined rows: repeated row | 4 | |" in data["validation-my-pets"]
        assert data["results"] == result_markdown(metrics)
        assert found["gate"][1].description == verdict(metrics, gate)
        assert "✗ Rejected" in data["gate"]
        assert "the champion v1.2.0" in data["gate"]
        assert "| ✓ | macro-F1 on the test split | 0.535 | ≥ 0.4 |" in data["gate"]
        assert (
            "| ✗ | largest loss of F1 in a class against the student alone<br>in travel | 0.031 | ≤ 0.2 |"
            in data["gate"]
        )
        assert "<br>in a\\|&lt;b> | 0.21 | ≤ 0.5 |" in data["gate"]
        images = sorted(made.glob("reports/plots/*.png")) + sorted(made.glob("reports/confidence/*.png"))
        assert data["plots"].count("![") == len(images) == 7
        assert all(f"]({data_uri(image.read_bytes())})" in data["plots"] for image in images)
        address = f"{URL}/{flow_run_id(state)}"
        assert f"({address}/index.html)" in data["report"]
        assert f"({address}/validation/index.html)" in data["report"]
        assert f"({address}/validation/index.html)" in data["validation-my-pets"]
        kept = pages(state, project)
        assert kept.pop("index.html") == (made / "reports/index.html").read_bytes()
        docs = made / "reports/validation"
        assert kept == {f"validation/{each.name}": each.read_bytes() for each in docs.iterdir()}
        assert "hunter2" not in json.dumps([[each.description, each.data] for _, each in found.values()])
    assert not list(project.folder.glob(".dvc/tmp/flows/*/project"))


def test_a_data_set_that_fails_shows_why_once(project: Toy, made: Path) -> None:
    """A later run that does not get as far shows no report of this one."""
    failed = made / "failed/reports"
    project.script("validate", f"mkdir -p reports; cp -r {failed}/* reports; echo 'error: not good'; exit 1")

    state = run()

    assert state.message == "stage validate: error: not good; not started: evaluate, gate, report"
    found = shown(state)
    assert set(found) == {"validation-my-pets", "expectations-my-pets"}
    text, table = (found[key][1] for key in ("validation-my-pets", "expectations-my-pets"))
    assert str(text.description).startswith("Failed: ")
    assert "expected at most 0 of the clips in quarantine" in str(text.data)
    assert f"`.prefect/reports/{flow_run_id(state)}/validation/index.html` in the project" in str(text.data)
    assert pages(state, project).keys() == {f"validation/{each.name}" for each in (failed / "validation").iterdir()}
    unmet = ValidationReport.read(failed / "validation.json").unmet
    rows = json.loads(str(table.data))
    assert [row["remedy"] for row in rows] == [each.remedy for each in unmet]
    assert rows[0].keys() == {"severity", "suite", "column", "observed", "expected", "remedy"}

    (project.folder / "validate.sh").unlink()
    again = run()
    assert again.is_failed()
    assert shown(again) == {}


def test_what_cannot_be_shown_is_named_and_fails_nothing(project: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is away when the results should be shown, and the gate's report is of some other pipeline."""
    project.script("gate", "mkdir -p reports; echo '{}' > reports/gate.json")

    def away(markdown: str, key: str, description: str) -> Any:
        if key == "results":
            raise httpx.ConnectError("no connection")
        return create(markdown, key=key, description=description)

    create = artifacts.create_markdown_artifact
    monkeypatch.setattr(artifacts, "create_markdown_artifact", away)
    state = run(targets=["report"])

    assert state.message == "4 stages ran, 0 cached"
    assert set(shown(state)) == {"validation-my-pets", "plots", "report"}
    assert "Prefect's UI will not show the results: ConnectError: no connection" in logs(state)
    assert "Prefect's UI will not show the gate's verdict: CpfdError: " in logs(state)
    assert "reports/gate.json: written by another version of CPFD" in logs(state)


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project of two stages that nobody has reports of, as the current folder."""
    made = toy(tmp_path, {"decode_a": [], "other": []})
    monkeypatch.chdir(made.folder)
    for key, value in made.environment().items():
        monkeypatch.setenv(key, value)
    return made


def test_a_long_stage_shows_how_far_it_is(stages: Toy) -> None:
    """Its bar is tqdm's; one that is done at once, as of loading weights, is none of the stage's."""
    load = "printf '\\rLoading weights: 100%%|####| 9/9 [00:00<00:00, 9.1it/s]\\n'"
    loop = "import time; from tqdm import tqdm; [time.sleep(0.6) for _ in tqdm(range(4), 'clips')]"
    stages.script("decode_a", f'{load}; {sys.executable} -c "{loop}"')
    stages.script("other", f"{load}; printf '\\rclips:  40%%|##  | 4/10 [00:08<00:12,  2.0s/it]\\n'; exit 1")

    state = run(max_parallel=1)

    found = {key: (stage, each.data, each.description) for key, (stage, each) in shown(state).items()}
    assert found == {
        "progress-decode-a": ("decode_a", 100, "decode_a: done"),
        "progress-other": ("other", 40, "clips: 4/10, 00:12 left"),
    }

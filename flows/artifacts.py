"""What people see of a run in Prefect's UI: artifacts of the task run whose stage they tell about.

They show what lies in reports/, and compute nothing. What cannot be shown is named in the log, and ends no stage.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from cpfd.files import link, written_aside
from cpfd.paths import REPORTS
from cpfd.reports.gate import GateReport, Rule
from cpfd.reports.metrics import MetricsReport
from cpfd.reports.validation import Outcome, ValidationReport
from flows.services import PAGES, REPORTS_URL
from flows.stages import Ending

_TITLES = {"index.html": "The report", "validation": "Great Expectations Data Docs"}
_LINE_CHARACTERS = 80
_PAUSE_SECONDS = 60.0  # between attempts to show progress to an API that does not answer
_BAR = re.compile(  # tqdm's: `extract:  10%|█         | 80/800 [00:31<04:40,  2.57clip/s]`
    r"(?:(?P<title>.+?): +)?(?P<percent>\d+)%\|.*\| *(?P<count>\S+) \[(?P<elapsed>[\d:]+)<(?P<left>[^,\]]+)"
)


class StageView:
    """What people see of a stage: its lines in the log, how far it is, and in the end what it has written."""

    def __init__(self, stage: str, folder: Path, project: Path) -> None:
        """Show a stage of the work tree `folder`; pages are kept in `project`."""
        self._stage, self._reports, self._project = stage, folder / REPORTS, project
        self._progress: UUID | None = None
        self._silent_until = 0.0

    def line(self, text: str) -> None:
        """Show a line that the stage has printed; a progress bar also as a progress artifact."""
        get_run_logger().info("%s", text)
        bar = _BAR.match(text)
        # What is done at once, such as loading weights, tells nothing about the stage.
        if bar and bar["elapsed"] != "00:00":
            title = self._stage if bar["title"] is None else bar["title"]
            self._tell(float(bar["percent"]), f"{title}: {bar['count']}, {bar['left']} left")

    def end(self, ending: Ending) -> None:
        """Show what the stage has written; so does one that fails, such as validation."""
        done = ending in ("ran", "cached")
        if done and self._progress:
            self._silent_until = 0.0
            self._tell(100.0, f"{self._stage}: done")
        report = _SHOWN.get(self._stage)
        # DVC deletes the outputs of a stage before it runs: what is there is no older report.
        if report and (done or ending == "failed") and (self._reports / report[0]).is_file():
            report[1](self._reports, self._project)

    def _tell(self, percent: float, description: str) -> None:
        if time.monotonic() < self._silent_until:
            return
        self._silent_until = time.monotonic() + _PAUSE_SECONDS
        # The stage waits for its reader, and the next bar comes soon: it is not the time to be patient.
        with _or_warned(f"progress of {self._stage}"), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            if self._progress is None:
                created = create_progress_artifact(percent, f"progress-{_slug(self._stage)}", description)
                assert isinstance(created, UUID)  # a coroutine only where an event loop runs
                self._progress = created
            else:
                update_progress_artifact(self._progress, percent, description)
            self._silent_until = 0.0


def show_validation(reports: Path, project: Path) -> None:
    """Show what validation has counted, and the expectations that are not met."""
    with _or_warned("the validation of the data set"):
        report = ValidationReport.read(reports / ValidationReport.path.name)
        name, expected, unmet = report.dataset.name, len(report.expectations), report.unmet
        verdict = f"The data set `{name}` {'passes' if report.passed else 'does not pass'} validation."
        pages = _pages(reports, project, "validation")
        create_markdown_artifact(
            "\n".join([verdict, "", *_counts(report), "", *map(_unmet, unmet), "", *pages]),
            key=f"validation-{_slug(name)}",
            description=f"{'Passed' if report.passed else 'Failed'}: {expected - len(unmet)} of {expected} expectations"
            f" are met, {report.quarantine.clips} clips are in quarantine",
        )
        if unmet:
            columns = ("severity", "suite", "column", "observed", "expected", "remedy")
            rows = [{column: getattr(each, column) for column in columns} for each in unmet]
            create_table_artifact(
                rows, key=f"expectations-{_slug(name)}", description=f"Expectations that {name} does not meet"
            )


def show_results(reports: Path, _project: Path) -> None:
    """Show the result table."""
    with _or_warned("the results"):
        from cpfd.evaluation.tables import result_markdown, result_table

        metrics = MetricsReport.read(reports / MetricsReport.path.name)
        create_markdown_artifact(result_markdown(metrics), key="results", description=str(result_table(metrics).title))


def show_gate(reports: Path, _project: Path) -> None:
    """Show the verdict of the gate, rule by rule."""
    with _or_warned("the gate's verdict"):
        from cpfd.evaluation.verdict import verdict
        from cpfd.pages.names import model_name

        gate = GateReport.read(reports / GateReport.path.name)
        sentence = verdict(MetricsReport.read(reports / MetricsReport.path.name), gate)
        judged = f"{model_name(gate.method)}, seed {gate.seed}"
        against = f"the champion {gate.champion}" if gate.champion else "no champion: none is in production"
        lines = [
            f"**{'✓ Passed' if gate.passed else '✗ Rejected'}**: {judged}, held against {against}.",
            "",
            "| | rule | value | limit |",
            "|---|---|---:|---:|",
            *map(_rule, gate.rules),
        ]
        create_markdown_artifact("\n".join(lines), key="gate", description=sentence)


def show_report(reports: Path, project: Path) -> None:
    """Show the plots, and where the report is."""
    from cpfd.pages.captions import CAPTIONS, EVIDENCE
    from cpfd.pages.environment import data_uri

    with _or_warned("the plots"):
        images = {reports / "plots" / f"{name}.png": text for name, text in CAPTIONS.items()}
        images |= {reports / "confidence" / f"{name}.png": text for name, text in EVIDENCE.items()}
        # Data URIs need no server besides Prefect's. Its image artifacts would print them in full below the image.
        plots = [
            f"{text}\n\n![{text}]({data_uri(path.read_bytes())})" for path, text in images.items() if path.is_file()
        ]
        if plots:
            create_markdown_artifact("\n\n".join(plots), key="plots", description="The plots of the report")
    with _or_warned("the report"):
        lines = _pages(reports, project, "index.html", "validation")
        create_markdown_artifact("\n\n".join(lines), key="report", description="Where the pages of this run are")


_SHOWN: Mapping[str, tuple[str, Callable[[Path, Path], None]]] = {
    "validate": (ValidationReport.path.name, show_validation),
    "evaluate": (MetricsReport.path.name, show_results),
    "gate": (GateReport.path.name, show_gate),
    "report": ("index.html", show_report),
}
"""By stage, the report that it writes last, and what shows it."""


@contextmanager
def _or_warned(what: str) -> Iterator[None]:
    """Turn whatever goes wrong into a warning: the API is away, or a pipeline has other reports under these names."""
    try:
        yield
    except Exception as error:
        get_run_logger().warning("Prefect's UI will not show %s: %s: %s", what, type(error).__name__, error)


def _pages(reports: Path, project: Path, *names: str) -> list[str]:
    """Keep those of _TITLES that are there for this flow run, and say in Markdown where each is."""
    base = os.environ.get(REPORTS_URL)
    lines = []
    for name in names:
        if not (reports / name).exists():
            continue
        kept = project / PAGES / str(flow_run.id) / name
        with written_aside(kept) as aside:
            if (reports / name).is_dir():
                shutil.copytree(reports / name, aside, copy_function=lambda old, new: link(Path(old), Path(new)))
            else:
                link(reports / name, aside)
        page = (kept / "index.html" if kept.is_dir() else kept).relative_to(project / PAGES).as_posix()
        linked = f"[{_TITLES[name]}]({base.rstrip('/')}/{page})" if base else None
        lines.append(linked or f"{_TITLES[name]}: `{PAGES / page}` in the project")
    return lines


def _counts(report: ValidationReport) -> list[str]:
    """Lines of a Markdown table of clips, by split and by why they are in quarantine."""
    clips, labelled, quarantine = report.dataset.clips, report.dataset.labelled, report.quarantine
    return [
        "| | clips | with a label |",
        "|---|---:|---:|",
        *(f"| {split} | {number} | {labelled[split]} |" for split, number in clips.items()),
        f"| in quarantine | {quarantine.clips} | |",
        *(f"| quarantined rows: {_markdown(reason)} | {rows} | |" for reason, rows in quarantine.reasons.items()),
    ]


def _unmet(expectation: Outcome) -> str:
    """An item of a Markdown list."""
    found = f"expected {expectation.expected}, observed {expectation.observed}: {expectation.remedy}"
    return f"- **{expectation.severity}** {_markdown(found)}"


def _rule(rule: Rule) -> str:
    """A row of the gate's table; its text in short lines, because the UI breaks none and hides what is too wide."""
    from cpfd.pages.formatting import plain

    text = "<br>".join(
        _markdown(line) for part in (rule.description, rule.note) for line in wrap(part, _LINE_CHARACTERS)
    )
    value = "-" if rule.value is None else plain(rule.value)
    limit = f"{ {'>=': '≥', '<=': '≤'}[rule.comparison] } {plain(rule.limit)}"
    return f"| {'✓' if rule.passed else '✗'} | {text} | {value} | {limit} |"


def _markdown(text: str) -> str:
    """Text of the data set's, such as the name of a class, in which nothing is markup."""
    from cpfd.pages.markdown import markdown_prose

    return markdown_prose(text)


def _slug(name: str) -> str:
    """A name as part of an artifact's key: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")

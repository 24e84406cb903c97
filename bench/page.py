"""docs/results.md, its figure and its record: the tables of the benchmark as Markdown."""

import numpy as np
import pandas as pd

from bench import thresholds
from bench.figure import plot
from bench.record import Change, Record, TaskRecord, read_record, write_record
from bench.tasks import ROOT, Task

PAGE = ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "results.svg"
NUMBERS = ROOT / "docs" / "results.json"
BEGIN, END = "<!-- written by `python -m bench.run --write`: begin -->", "<!-- end -->"


def write_page(record: Record, tasks: list[Task]) -> None:
    """Write docs/results.json; from what it holds, the figure and the tables between the markers of docs/results.md."""
    write_record(NUMBERS, record)
    kept = read_record(NUMBERS)
    plot(kept, tasks, FIGURE)
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = f"{BEGIN}\n\n![Change against the student alone]({FIGURE.name})\n\n{markdown(kept, tasks)}\n{END}"
    PAGE.write_text(f"{before}{body}{after}", encoding="utf-8")


def markdown(record: Record, tasks: list[Task]) -> str:
    """All tables as Markdown; `tasks` are those of the record, in its order."""
    lines = _overall_table(record) if len(tasks) > 1 else []
    for task, found in zip(tasks, record.tasks, strict=True):
        lines += _task_table(task, found)
    if tasks and "posterior" in record.tasks[0].models:
        lines += _told_before(record, tasks)
        if len(tasks) > 2:
            lines += _thresholds_elsewhere(record, tasks)
    return "\n".join(lines)


def _overall_table(record: Record) -> list[str]:
    lines = ["### All tasks", ""]
    lines += ["| model | against the student | against PFD | gap closed |", "|---|---:|---:|---:|"]
    for row in record.overall.values():
        cells = [row.title, _relative(row.against_none), _relative(row.against_pfd), _share(row.gap_closed)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _task_table(task: Task, found: TaskRecord) -> list[str]:
    lines = [f"### {task.title}", "", _caption(found), ""]
    lines += [
        "| model | macro-F1 | against the student | against PFD | gap closed | CPU s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in found.models.values():
        f1 = f"{100 * row.macro_f1:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        cells = [row.title, f1, _difference(row.against_none), _difference(row.against_pfd), _share(row.gap_closed)]
        lines.append(f"| {' | '.join(cells)} | {row.cpu_seconds:.1f} |")
    return [*lines, ""]


def _caption(found: TaskRecord) -> str:
    evidence = pd.DataFrame(found.evidence)
    mean = evidence[["eta", "gain", "labelled", "unlabelled"]].mean()
    choice = ", ".join(f"{name} {count} x" for name, count in evidence["method"].value_counts().items())
    return (
        f"{len(found.seeds)} seeds; {mean['labelled']:.0f} labelled and {mean['unlabelled']:.0f} unlabelled clips to"
        f" train on, {found.clips.tested:.0f} to test. Known before a student is trained: eta {mean['eta']:.2f},"
        f" g {mean['gain']:+.3f}; auto chooses {choice}."
    )


def _told_before(record: Record, tasks: list[Task]) -> list[str]:
    """What stage `confidence` said before any student was trained, and what came."""
    header = "| task | true noise | eta | g | follows the teacher | labels doubted | posterior against the student |"
    lines = ["### What was told before training, and what came", "", header, "|---|---:|---:|---:|---:|---:|---:|"]
    for task, found in zip(tasks, record.tasks, strict=True):
        mean = pd.json_normalize(found.evidence).mean(numeric_only=True)
        # A teacher no better than chance, as in a quick run, leaves no error of eta.
        eta_error = pd.Series([told["eta_error"] for told in found.evidence], dtype=float).mean()
        cells = [
            task.title,
            f"{task.true_eta:.2f}",
            f"{mean['eta']:.2f} ± {eta_error:.2f}",
            f"{mean['gain']:+.3f} ± {mean['gain_error']:.3f}",
            f"{mean['distillability.follows_teacher']:.0%}",
            f"{mean['distillability.labels_doubted'] / mean['labelled']:.0%}",
            _difference(found.models["posterior"].against_none),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "Means over seeds; eta and g with the standard error that a single seed reports.", ""]


def _thresholds_elsewhere(record: Record, tasks: list[Task]) -> list[str]:
    """The rule of auto with thresholds set on all tasks but the one that it decides on."""
    distill = tasks[0].checked(0).distill
    titled = {task.title: found for task, found in zip(tasks, record.tasks, strict=True)}
    evidence = {title: found.evidence for title, found in titled.items()}
    scores = {
        title: {name: np.array(found.models[name].by_seed) for name in thresholds.SHIPPED}
        for title, found in titled.items()
    }
    lines = ["### auto, with thresholds set on the other tasks", ""]
    lines += ["| task | min_eta | min_gain | auto against the student |", "|---|---:|---:|---:|"]
    for title, at in thresholds.leave_one_out(evidence, scores, (distill.min_eta, distill.min_gain)).items():
        lines.append(f"| {title} | {at['min_eta']} | {at['min_gain']} | {at['gain']:+.1%} |")
    return [*lines, ""]


def _difference(change: Change | None) -> str:
    if change is None:
        return ""
    mark = "**" if change.low > 0 or change.high < 0 else ""
    return f"{mark}{100 * change.mean:+.1f}{mark} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"


def _relative(change: Change | None) -> str:
    return "" if change is None else f"{change.mean:+.1%} [{change.low:+.1%}, {change.high:+.1%}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"

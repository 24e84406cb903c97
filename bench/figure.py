"""The figure of docs/results.md."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.record import Record, TaskRecord
from bench.simple_models import TITLES as SIMPLE
from bench.tasks import Task

LEFT_OUT = ("none", "teacher", "cpfd-default", *SIMPLE)
"""Models without a line: what others are held against, and what is far away."""


def plot(record: Record, tasks: list[Task], path: Path) -> None:
    """Change of macro-F1 against the student alone, with intervals: one panel a task, one line a method."""
    shown = [name for name in record.tasks[0].models if name not in LEFT_OUT]
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    with rc_context({"svg.hashsalt": "cpfd"}):  # the same ids, and so the same bytes, every time
        figure = Figure(figsize=(4 * columns, 0.28 * len(shown) * rows + 1.2 * rows))
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axis, task, found in zip(axes.flat, tasks, record.tasks, strict=False):
            _panel(axis, task.title, found, shown)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})


def _panel(axis: Axes, title: str, found: TaskRecord, shown: list[str]) -> None:
    for at, name in enumerate(reversed(shown)):
        change = found.models[name].against_none
        assert change is not None  # the student, which has none, is not shown
        low, mean, high = (100 * value for value in (change.low, change.mean, change.high))
        colour = "tab:red" if high < 0 else "tab:green" if low > 0 else "tab:gray"
        axis.plot([low, high], [at, at], color=colour, linewidth=2)
        axis.plot(mean, at, "o", color=colour)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(shown)), [found.models[name].title.replace("*", "") for name in reversed(shown)])
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("macro-F1 x 100, against the student")

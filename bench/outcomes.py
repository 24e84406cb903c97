"""The tables and the figure of the benchmark."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import intervals, thresholds
from bench.arms import ARMS, chosen
from bench.replicates import clusters, seed_folder, stage_seconds
from bench.tasks import ROOT, Method, Task
from cpfd.features.store import FeatureStore
from cpfd.files import read_json, read_table, write_json
from cpfd.paths import CONTENT, MODELS

SAMPLES = 2000
PAGE = ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "results.svg"
NUMBERS = ROOT / "docs" / "results.json"
BEGIN, END = "<!-- written by `python -m bench.run --write`: begin -->", "<!-- end -->"
SIMPLE = {"majority": "Majority class", "tfidf": "TF-IDF, logistic regression", "boosting": "Boosting on dense alone"}
PFD = ("pfd-in-sample", "pfd")
BASELINE = "none"


@dataclass
class TaskTable:
    """What came out on one task: one row per model."""

    task: Task
    seeds: list[int]
    rows: dict[str, dict[str, Any]]
    drawn: dict[str, np.ndarray]
    clips: dict[str, float]
    summaries: list[dict[str, Any]]

    @property
    def best_pfd(self) -> str | None:
        """The form of PFD with the larger mean, which methods are compared with."""
        forms = [name for name in PFD if name in self.rows]
        return max(forms, key=lambda name: self.rows[name]["macro_f1"]) if forms else None

    def as_json(self) -> dict[str, Any]:
        """All numbers but the resamples and the transition matrices."""
        evidence = [{name: told[name] for name in told if name != "transition"} for told in self.summaries]
        return {
            "task": self.task.name,
            "seeds": self.seeds,
            "clips": self.clips,
            "evidence": evidence,
            "models": self.rows,
        }


def task_table(task: Task, seeds: list[int], methods: list[Method]) -> TaskTable:
    """Read what was trained on a task, and compare it."""
    results = [_read_seed(task, seed, methods) for seed in seeds]
    kind = task.checked(seeds[0]).dataset.task
    scores = intervals.observed(results, kind)
    drawn = intervals.resampled(results, kind, SAMPLES, seed=0)
    titles = {"teacher": "Teacher", **SIMPLE, **{method.name: method.title for method in methods}}
    titles |= {"plain": "Student, clips weighed alike", "cpfd-default": "CPFD, params.yaml as it is"}
    titles["auto"] = "**auto** (what ships)"
    tested = float(np.mean([len(result.targets) for result in results]))
    trained = float(np.mean([result.train_clips for result in results]))
    table = TaskTable(task, seeds, {}, drawn, {"tested": tested, "trained": trained}, [r.summary for r in results])
    for model in [name for name in titles if name in scores]:
        low, high = intervals.interval(drawn[model])
        table.rows[model] = {
            "title": titles[model],
            "macro_f1": float(scores[model].mean()),
            "low": low,
            "high": high,
            "by_seed": [float(score) for score in scores[model]],
            "cpu_seconds": float(np.mean([result.seconds[model] for result in results])),
            "settings": [result.settings[model] for result in results],
        }
    for model, row in table.rows.items():
        for against in filter(None, (BASELINE, table.best_pfd)):
            if model != against:
                low, high = intervals.interval(drawn[model] - drawn[against])
                corrected = intervals.seed_interval(scores[model] - scores[against], tested, trained)
                row[f"against_{'pfd' if against in PFD else against}"] = {
                    "mean": row["macro_f1"] - table.rows[against]["macro_f1"],
                    "low": low,
                    "high": high,
                    "seed_interval": corrected,
                }
        gap = table.rows["teacher"]["macro_f1"] - table.rows[BASELINE]["macro_f1"]
        row["gap_closed"] = (row["macro_f1"] - table.rows[BASELINE]["macro_f1"]) / gap if gap > 0 else None
    return table


def overall(tables: list[TaskTable]) -> dict[str, Any]:
    """Average over tasks of the relative change of macro-F1, against the student and the stronger form of PFD.

    Variants of a task share its weight. Models that a task lacks are left out.
    """
    if not tables:
        return {}
    owners = [table.task.variant_of or table.task.name for table in tables]
    weights = np.array([1 / owners.count(owner) for owner in owners])
    weights /= weights.sum()
    found: dict[str, Any] = {}
    for model in [name for name in tables[0].rows if all(name in table.rows for table in tables)]:
        row = {"title": tables[0].rows[model]["title"]}
        for against in ("none", "pfd"):
            names = [BASELINE if against == "none" else table.best_pfd for table in tables]
            if None in names:
                continue
            pairs = list(zip(weights, tables, names, strict=True))
            mean = sum(w * (t.rows[model]["macro_f1"] / t.rows[n]["macro_f1"] - 1) for w, t, n in pairs)
            drawn = sum(w * (t.drawn[model] / t.drawn[n] - 1) for w, t, n in pairs)
            low, high = intervals.interval(drawn)
            row[f"against_{against}"] = {"mean": float(mean), "low": low, "high": high}
        closed = [table.rows[model]["gap_closed"] for table in tables]
        row["gap_closed"] = float(weights @ closed) if None not in closed else None
        found[model] = row
    return found


def markdown(tables: list[TaskTable], found: dict[str, Any]) -> str:
    """All tables as Markdown."""
    lines = []
    if len(tables) > 1:
        lines += [
            "### All tasks",
            "",
            "| model | against the student | against PFD | gap closed |",
            "|---|---:|---:|---:|",
        ]
        for row in found.values():
            cells = [_relative(row.get(f"against_{name}")) for name in ("none", "pfd")]
            lines.append(f"| {row['title']} | {' | '.join(cells)} | {_share(row['gap_closed'])} |")
        lines.append("")
    for table in tables:
        lines += [f"### {table.task.title}", "", _caption(table), ""]
        lines += [
            "| model | macro-F1 | against the student | against PFD | gap closed | CPU s |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for row in table.rows.values():
            f1 = f"{100 * row['macro_f1']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
            cells = [_difference(row.get(f"against_{name}")) for name in ("none", "pfd")]
            cells += [_share(row["gap_closed"]), f"{row['cpu_seconds']:.1f}"]
            lines.append(f"| {row['title']} | {f1} | {' | '.join(cells)} |")
        lines.append("")
    if tables and "posterior" in tables[0].rows:
        lines += told_before(tables)
        if len(tables) > 2:
            lines += rule_elsewhere(tables)
    return "\n".join(lines)


def told_before(tables: list[TaskTable]) -> list[str]:
    """What stage `confidence` said before any student was trained, and what came; Markdown lines."""
    header = "| task | true noise | eta | g | follows the teacher | labels doubted | posterior against the student |"
    lines = ["### What was told before training, and what came", "", header, "|---|---:|---:|---:|---:|---:|---:|"]
    for table in tables:
        mean = pd.json_normalize(table.summaries).mean(numeric_only=True)
        # A teacher no better than chance, as in a quick run, leaves no error of eta.
        eta_error = pd.Series([told["eta_error"] for told in table.summaries], dtype=float).mean()
        cells = [
            table.task.title,
            f"{table.task.true_eta:.2f}",
            f"{mean['eta']:.2f} ± {eta_error:.2f}",
            f"{mean['gain']:+.3f} ± {mean['gain_error']:.3f}",
            f"{mean['distillability.follows_teacher']:.0%}",
            f"{mean['distillability.labels_doubted'] / mean['labelled']:.0%}",
            _difference(table.rows["posterior"].get("against_none")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Means over seeds; eta and g with the standard error that a single seed reports.", ""]
    return lines


def rule_elsewhere(tables: list[TaskTable]) -> list[str]:
    """The rule of auto with thresholds set on all tasks but the one that it decides on; Markdown lines."""
    distill = tables[0].task.checked(0).distill
    evidence = {table.task.title: table.summaries for table in tables}
    scores = {
        table.task.title: {name: np.array(table.rows[name]["by_seed"]) for name in thresholds.SHIPPED}
        for table in tables
    }
    found = thresholds.leave_one_out(evidence, scores, (distill.min_eta, distill.min_gain))
    lines = ["### auto, with thresholds set on the other tasks", ""]
    lines += ["| task | min_eta | min_gain | auto against the student |", "|---|---:|---:|---:|"]
    lines += [f"| {task} | {at['min_eta']} | {at['min_gain']} | {at['gain']:+.1%} |" for task, at in found.items()]
    return [*lines, ""]


def write_page(tables: list[TaskTable], found: dict[str, Any]) -> None:
    """Write docs/results.json, the figure, and the tables between the markers of docs/results.md."""
    write_json(NUMBERS, {"tasks": [table.as_json() for table in tables], "overall": found})
    plot(tables, FIGURE)
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    body = f"{BEGIN}\n\n![Change against the student alone]({FIGURE.name})\n\n{markdown(tables, found)}\n{END}"
    PAGE.write_text(f"{before}{body}{after}", encoding="utf-8")


def plot(tables: list[TaskTable], path: Path) -> None:
    """Change of macro-F1 against the student alone, with intervals: one panel a task, one line a method."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "cpfd"
    import matplotlib.pyplot as plt

    shown = [name for name in tables[0].rows if name not in (BASELINE, "teacher", "majority", *SIMPLE, "cpfd-default")]
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 0.28 * len(shown) * rows + 1.2 * rows), sharey=True
    )
    for axis, table in zip(np.atleast_1d(axes).flat, tables, strict=False):
        for at, name in enumerate(reversed(shown)):
            change = table.rows[name]["against_none"]
            low, mean, high = (100 * change[key] for key in ("low", "mean", "high"))
            colour = "tab:red" if high < 0 else "tab:green" if low > 0 else "tab:gray"
            axis.plot([low, high], [at, at], color=colour, linewidth=2)
            axis.plot(mean, at, "o", color=colour)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(shown)), [table.rows[name]["title"].replace("*", "") for name in reversed(shown)])
        axis.set_title(table.task.title, fontsize=10)
        axis.set_xlabel("macro-F1 x 100, against the student")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _read_seed(task: Task, seed: int, methods: list[Method]) -> intervals.SeedResult:
    folder = seed_folder(task, seed)
    store = FeatureStore(folder / CONTENT)
    rows = store.rows("test", labelled=True)
    ids = store.index["video_id"].iloc[rows]
    train = len(store.rows("train", labelled=True))
    result = intervals.SeedResult(store.targets[rows], clusters(task, ids), train)
    result.summary = read_json(folder / ARMS / "summary.json")

    def add(model: str, path: Path, seconds: float, setting: str) -> None:
        logits = read_table(path).set_index("video_id")["logits"].loc[ids]
        result.logits[model] = np.stack(logits.to_list())
        result.seconds[model], result.settings[model] = seconds, setting

    add("teacher", folder / MODELS / "teacher" / "logits.parquet", stage_seconds(task, seed, "teacher"), "")
    arms = {method.name: [f"{method.name}-{number}" for number in range(len(method.grid))] for method in methods}
    arms |= {name: [f"{name}-0", f"{name}-1"][: 1 if name == "majority" else 2] for name in SIMPLE}
    arms["plain"], arms["cpfd-default"] = ["none-0"], ["cpfd-max_prob-1"]
    arms["auto"] = arms.get(result.summary["method"], [])
    for model, names in arms.items():
        if best := chosen(folder, names):
            add(model, best[1], best[0]["seconds"], best[0]["arm"])
    return result


def _caption(table: TaskTable) -> str:
    evidence = pd.DataFrame(table.summaries)
    mean = evidence[["eta", "gain", "labelled", "unlabelled"]].mean()
    choice = ", ".join(f"{name} {count} x" for name, count in evidence["method"].value_counts().items())
    return (
        f"{len(table.seeds)} seeds; {mean['labelled']:.0f} labelled and {mean['unlabelled']:.0f} unlabelled clips to"
        f" train on, {table.clips['tested']:.0f} to test. Known before a student is trained: eta {mean['eta']:.2f},"
        f" g {mean['gain']:+.3f}; auto chooses {choice}."
    )


def _difference(change: dict[str, Any] | None) -> str:
    if change is None:
        return ""
    mark = "**" if change["low"] > 0 or change["high"] < 0 else ""
    return f"{mark}{100 * change['mean']:+.1f}{mark} [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}]"


def _relative(change: dict[str, Any] | None) -> str:
    if change is None:
        return ""
    return f"{change['mean']:+.1%} [{change['low']:+.1%}, {change['high']:+.1%}]"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"

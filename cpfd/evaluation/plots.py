"""The plots of reports/plots: legible on a phone, told apart by colour-blind readers, the same bytes every time.

They are drawn on pure white, so that the report page can blend them into its own background, light or dark.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cpfd.files import written_aside
from cpfd.pages.markdown import short
from cpfd.pages.names import model_name
from cpfd.reports.metrics import Model, SpreadInterval

# Okabe and Ito's palette ("Color universal design", 2008).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8C8C8C"

# By model, so that neither colour nor line alone tells them apart.
_LINES: Mapping[Any, tuple[str, str]] = {
    "teacher": (GREY, "-"),
    "none": (BLUE, "--"),
    "pfd": ("#009E73", "-."),
    "cpfd": ("#CC79A7", ":"),
    "posterior": (ORANGE, "-"),
}
_MOST_CLASSES = 40
_NAME = 20  # characters of a class; longer names would leave the plot no room

# 4.6 inches across the 360 CSS pixels of a phone make 10 points 11 pixels high.
_WIDTH = 4.6
_STYLE: dict[str, Any] = {
    "figure.dpi": 220,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8C8C8C",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "xtick.color": "#404040",
    "ytick.color": "#404040",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def plot_f1(
    path: Path, models: Mapping[Model, SpreadInterval], runs: pd.DataFrame, shipped: str, coverage: float
) -> None:
    """Plot macro-F1 of each model with its interval, and of each run.

    runs: `model`, `test`. The shipped method stands out.
    """

    def draw(axes: Axes) -> None:
        for row, (model, f1) in enumerate(models.items()):
            colour = ORANGE if model == shipped else GREY if model == "teacher" else BLUE
            axes.plot([f1.low, f1.high], [row, row], color=colour, lw=7, alpha=0.3, solid_capstyle="round")
            each = runs.loc[runs["model"] == model, "test"]
            if len(each) > 1:
                axes.plot(each, np.full(len(each), row), "|", color=colour, ms=11, mew=1.2)
            axes.plot(f1.mean, row, "o", color=colour, ms=8, mec="white", mew=1.2)
            axes.annotate(f"{f1.mean:.3f}", (f1.mean, row), (0, 10), textcoords="offset points", ha="center")
        axes.set_yticks(range(len(models)), [model_name(model) for model in models])
        for label, model in zip(axes.get_yticklabels(), models, strict=True):
            label.set_fontweight("bold" if model == shipped else "normal")
        axes.set_ylim(len(models) - 0.5, -0.7)
        axes.margins(x=0.08)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set(
            title="Macro-F1 on the test split", xlabel=f"dot: mean, band: {100 * coverage:g} % interval, ticks: seeds"
        )

    write_plot(path, draw, height=1.3 + 0.52 * len(models))


def plot_confusion(path: Path, pairs: pd.DataFrame, classes: list[str]) -> None:
    """Plot counts of `actual` against `predicted` class, shaded by the share of the actual class."""
    counts = pd.crosstab(pairs["actual"], pairs["predicted"]).reindex(index=classes, columns=classes, fill_value=0)
    shares = counts.to_numpy() / np.maximum(counts.to_numpy().sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        size = min(10.0, 105 / len(classes))
        if size >= 4:
            for (row, column), count in np.ndenumerate(counts.to_numpy()):
                if count:
                    colour = "white" if shares[row, column] > 0.55 else "#202020"
                    axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)
            names = [short(name, _NAME) for name in classes]
            axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=size)
            axes.set_yticks(range(len(classes)), names, fontsize=size)
        else:  # names would overlap; per_class.csv has them in the same order
            axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(title="Confusion on the test split", xlabel="predicted", ylabel="actual")

    write_plot(path, draw, height=4.6)


def plot_decisions(path: Path, decisions: pd.DataFrame) -> None:
    """Plot `mistakes.decision_table`: a bar for each class.

    Of many classes, those with the most errors are shown.
    """
    errors = decisions["missed"] + decisions["wrong"]
    rows = decisions.loc[errors.nlargest(_MOST_CLASSES).index].sort_index()

    def draw(axes: Axes) -> None:
        left = np.zeros(len(rows))
        for column, colour, hatch in (("found", BLUE, ""), ("missed", "#BFBFBF", ""), ("wrong", ORANGE, "///")):
            axes.barh(range(len(rows)), rows[column], left=left, color=colour, ec="white", hatch=hatch, label=column)
            left += rows[column].to_numpy()
        axes.set_yticks(range(len(rows)), [short(name, _NAME) for name in rows["class"]])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set(xlabel="test clips")
        axes.grid(visible=False, axis="y")
        title_above_legend(axes, "Decisions on the test split")

    write_plot(path, draw, height=1.4 + 0.28 * len(rows))


def plot_curves(path: Path, curves: pd.DataFrame) -> None:
    """Plot validation macro-F1 by step, a line for each run of `curves.read_curves`."""

    def draw(axes: Axes) -> None:
        for (model, run), each in curves.groupby(["model", "run"], sort=False):
            scored = each.dropna(subset="validation_macro_f1")
            colour, line = _LINES[model]
            label = model_name(str(model)) if run == 0 else None
            axes.plot(scored["step"], scored["validation_macro_f1"], line, color=colour, lw=1.4, label=label)
        axes.set(xlabel="step", ylabel="validation macro-F1")
        title_above_legend(axes, "Learning curves")

    write_plot(path, draw, height=3.8)


def plot_loss(path: Path, run: pd.DataFrame) -> None:
    """Plot training and validation loss by step of one run of `curves.read_curves`."""

    def draw(axes: Axes) -> None:
        for column, words, colour, line in (
            ("loss", "training", BLUE, "-"),
            ("validation_loss", "validation", ORANGE, "--"),
        ):
            logged = run.dropna(subset=column)
            axes.plot(logged["step"], logged[column], line, color=colour, lw=1.8, label=words)
        axes.set(xlabel="step", ylabel="loss")
        axes.set_ylim(bottom=0)
        title_above_legend(axes, "Loss of the judged student")

    write_plot(path, draw, height=3.8)


def plot_reliability(path: Path, title: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Plot one or two named `metrics.reliability` tables: accuracy against confidence.

    Bars below are the share of predictions in each bin of the last table.
    """

    def draw(axes: Axes) -> None:
        last = list(tables.values())[-1]
        share, width = last["predictions"] / last["predictions"].sum(), last["high"].iloc[0] - last["low"].iloc[0]
        axes.bar(last["low"], share, width, align="edge", color="#D9D9D9", edgecolor="white", label="predictions")
        axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1.2)
        for (name, table), colour in zip(reversed(list(tables.items())), (ORANGE, BLUE), strict=False):
            filled = table[table["predictions"] > 0]
            axes.plot(filled["confidence"], filled["accuracy"], "o-", color=colour, ms=6, lw=2, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        title_above_legend(axes, title)

    write_plot(path, draw, height=3.8)


def plot_confidence(path: Path, histogram: pd.DataFrame) -> None:
    """Plot a histogram of `low`, `high`, `agrees` and `disagrees` as stacked bars."""

    def draw(axes: Axes) -> None:
        widths = histogram["high"] - histogram["low"]
        axes.bar(
            histogram["low"],
            histogram["agrees"],
            widths,
            align="edge",
            color=BLUE,
            edgecolor="white",
            label="agrees with the label",
        )
        axes.bar(
            histogram["low"],
            histogram["disagrees"],
            widths,
            bottom=histogram["agrees"],
            align="edge",
            color=ORANGE,
            edgecolor="white",
            hatch="///",
            label="disagrees",
        )
        axes.set(xlim=(0, 1), xlabel="calibrated out-of-fold confidence", ylabel="training clips")
        axes.grid(visible=False, axis="x")
        title_above_legend(axes, "Confidence of the teacher")

    write_plot(path, draw, height=3.4)


def title_above_legend(axes: Axes, title: str) -> None:
    """Keep the legend out of the axes: wherever it were inside, some data would be below it."""
    legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3, columnspacing=1.2, handlelength=1.6)
    axes.set_title(title, pad=12 + 14 * -(-len(legend.get_texts()) // 3))


def write_plot(path: Path, draw: Callable[[Axes], None], height: float) -> None:
    """Write one plot, `height` inches high, as PNG without a date or a version in it."""
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        with written_aside(path) as aside:
            figure.savefig(aside, format="png", metadata={"Software": None})

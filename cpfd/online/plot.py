"""The plot of an online experiment: the interval of its lift as it evolved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from cpfd.evaluation.plots import BLUE, GREY, ORANGE, title_above_legend, write_plot


def plot_lift(path: Path, readout: Mapping[str, Any]) -> None:
    """Plot the interval of an online experiment's lift as it evolved, coloured by what is decided at each look.

    readout: what `readout.analyse` returns. Looks before there is an interval are left out.
    """
    shown = pd.DataFrame(readout["looks"]).dropna(subset=["lift"])
    min_lift = readout["plan"]["min_lift"]
    names = {
        "keep running": (("continue",), GREY),
        "go": (("go",), BLUE),
        "stop": (("harm", "futility"), ORANGE),
        "invalid": (("invalid",), "black"),
    }

    def draw(axes: Axes) -> None:
        for name, (decisions, colour) in names.items():
            these = shown[shown["decision"].isin(decisions)]
            if len(these):
                axes.vlines(these["units"], these["low"], these["high"], color=colour, lw=1.6, alpha=0.4, label=name)
                axes.plot(these["units"], these["lift"], "o", color=colour, ms=2)
        axes.axhline(0, color="black", lw=1)
        if min_lift:
            axes.axhline(min_lift, color="black", lw=1, ls="--", label="least lift worth a launch")
        axes.set(xlabel="units with an outcome, in order of arrival", ylabel=f"lift of the {readout['measure']}")
        if shown.empty:
            axes.set_title("Too few units for an interval")
            return
        # The first intervals are so wide that they would flatten all others.
        later = shown[shown["units"] >= shown["units"].max() / 10]
        low, high = min(later["low"].min(), 0), max(later["high"].max(), min_lift)
        axes.set(xlim=(0, None), ylim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
        title_above_legend(axes, f"Lift, {100 * readout['plan']['interval']:g} % interval at every look")

    write_plot(path, draw, height=3.6)

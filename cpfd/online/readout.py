"""What an online experiment has come to: its numbers, the decision in a sentence, and how a terminal shows them."""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cpfd.online.log import Log
from cpfd.online.sequence import (
    MIN_UNITS,
    MISMATCH,
    Moments,
    Plan,
    absolute_lift,
    decide,
    mismatch_p_value,
    moments,
    more_units,
    relative_lift,
)
from cpfd.pages.formatting import MINUS, SPACE

_LOOKS = 200


def analyse(log: Log, plan: Plan) -> dict[str, Any]:
    """Everything that `cpfd online --json` prints.

    `decision` is the present one and rests on all units so far. `looks` has the same at up to 200 earlier
    moments, units in order of arrival: what this log would have said then, had all its outcomes been known.
    """
    # Units of one moment have no order among themselves (a log may only have dates): looks are between them.
    ends = np.append(np.flatnonzero(log.served_at[1:] != log.served_at[:-1]), len(log.served_at) - 1)
    looks = np.unique(np.linspace(0, len(ends) - 1, _LOOKS).round().astype(np.int64))
    treated_units = np.cumsum(log.treated)[ends]
    p_values = np.minimum.accumulate(mismatch_p_value(treated_units, ends + 1 - treated_units, plan.split))
    control, treatment = (moments(log.outcome, member, ends[looks]) for member in (~log.treated, log.treated))
    path = absolute_lift(control, treatment, plan)
    path.insert(0, "served_at", np.datetime_as_string(log.served_at[ends[looks]], unit="s", timezone="UTC"))
    path["mismatch_p_value"] = p_values[looks]
    path["decision"] = [
        decide(low, high, mismatch, plan.min_lift)
        for low, high, mismatch in zip(path["low"], path["high"], path["mismatch_p_value"], strict=True)
    ]
    last = path.iloc[-1]
    readout = {
        "decision": last["decision"],
        "sentence": "",
        "measure": log.measure,
        "control": _variant(log, log.control, ~log.treated, control),
        "treatment": _variant(log, log.treatment, log.treated, treatment),
        "lift": {name: _number(last[column]) for name, column in [("mean", "lift"), ("low", "low"), ("high", "high")]},
        "relative_lift": relative_lift(control, treatment, plan),
        "more_units": more_units(last, plan) if last["decision"] == "continue" else None,
        "sample_ratio": {
            "planned": plan.split,
            "observed": float(log.treated.mean()),
            "p_value": float(p_values[-1]),
        },
        "contaminated_units": log.contaminated,
        "warnings": [],
        "plan": asdict(plan),
        "looks": path.drop(columns="error").astype(object).where(path.notna(), None).to_dict("records"),
    }
    return readout | {"sentence": _sentence(readout), "warnings": _warnings(log, readout)}


def render(readout: dict[str, Any]) -> Group:
    """Lay out what `analyse` returns for a terminal."""
    counts = Table(
        title=f"Intervals hold at all looks at once with probability {readout['plan']['interval']:g}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for column in ("variant", "rows", "missing", "units", "with outcome", readout["measure"]):
        counts.add_column(column, justify="left" if column == "variant" else "right")
    decimals = _decimals(readout["lift"])
    for role in ("control", "treatment"):
        arm = readout[role]
        counts.add_row(
            Text(arm["name"]),
            f"{arm['rows']:,}",
            _missing_share(arm),
            f"{arm['units']:,}",
            f"{arm['units_with_outcome']:,}",
            "-" if arm["mean"] is None else f"{arm['mean']:z,.{decimals}f}".replace("-", MINUS),
        )
    facts = Table.grid(padding=(0, 2))
    relative, ratio = readout["relative_lift"], readout["sample_ratio"]
    facts.add_row(Text(f"lift of {readout['treatment']['name']}"), _with_interval(readout["lift"], decimals))
    facts.add_row("relative lift", _with_interval(relative, decimals=1, percent=True) + _because(relative["reason"]))
    facts.add_row(
        "sample ratio",
        f"{_percent(ratio['observed'])}, planned {_percent(ratio['planned'])}, p = {ratio['p_value']:.2g}",
    )
    warnings = [Text(f"Warning: {warning}\n", "yellow") for warning in readout["warnings"]]
    return Group(counts, Padding(facts, (0, 0, 1, 2)), *warnings, Text(readout["sentence"], "bold"))


def _variant(log: Log, name: str, member: NDArray[np.bool_], counted: Moments) -> dict[str, Any]:
    return {
        "name": name,
        "rows": int(log.rows[member].sum()),
        "rows_without_outcome": int(log.rows_without_outcome[member].sum()),
        "units": int(member.sum()),
        "units_with_outcome": int(counted.units[-1]),
        "mean": _number(counted.mean[-1]),
    }


def _sentence(readout: dict[str, Any]) -> str:
    treatment, control = readout["treatment"]["name"], readout["control"]["name"]
    plan, lift, decision = readout["plan"], readout["lift"], readout["decision"]
    if decision == "invalid":
        ratio = readout["sample_ratio"]
        return (
            f"Invalid: {_percent(ratio['observed'])} of the units were served {treatment} instead of"
            f" {_percent(ratio['planned'])}, which chance does not explain (p = {ratio['p_value']:.2g}): check"
            " assignment and logging before you believe any lift."
        )
    if lift["mean"] is None:
        few = min((readout[role] for role in ("control", "treatment")), key=lambda arm: arm["units_with_outcome"])
        if few["units_with_outcome"] < MIN_UNITS:
            return (
                f"Keep running: {few['units_with_outcome']} units of {few['name']} have an outcome, and the interval"
                f" starts at {MIN_UNITS} of each variant."
            )
        return "Keep running: all outcomes so far are the same, so that nothing can be said about their spread."
    decimals = _decimals(lift)
    evidence = f"{readout['measure']} {_with_interval(lift, decimals)}"
    least = f"{plan['min_lift']:.{decimals}f}"
    if decision == "go":
        return (
            f"Go: {treatment} is better than {control}{f' by more than {least}' * bool(plan['min_lift'])}: {evidence}."
        )
    if decision == "harm":
        return f"Stop: {treatment} is worse than {control}: {evidence}."
    if decision == "futility":
        return f"Stop: {treatment} is not better than {control} by {least}: {evidence}."
    more = readout["more_units"]
    outlook = (
        "At this lift and spread, 100 times the units would not decide it"
        if more is None
        else f"If lift and spread stay as observed, about {more:,} more units with an outcome decide it at even odds"
    )
    return f"Keep running: the interval includes {least if plan['min_lift'] else 0}, {evidence}. {outlook}."


def _warnings(log: Log, readout: dict[str, Any]) -> list[str]:
    warnings = []
    if log.contaminated:
        warnings.append(f"units served by both variants were left out: {log.contaminated:,}")
    incomplete = log.rows_without_outcome > 0
    counts = np.bincount(log.treated[incomplete], minlength=2)
    if mismatch_p_value(counts[1], counts[0], readout["plan"]["split"]) < MISMATCH:
        missing = [f"{_missing_share(readout[role])} of {readout[role]['name']}" for role in ("control", "treatment")]
        warnings.append(
            f"outcomes are missing in {missing[0]}'s rows and {missing[1]}'s, which chance does not explain: if they"
            " would be unlike the known ones, the lift is biased"
        )
    return warnings


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _decimals(lift: dict[str, float | None]) -> int:
    """Three decimals as everywhere, more where the interval is too narrow for three."""
    if lift["low"] is None or lift["high"] is None:
        return 3
    return max(3, 1 - int(np.floor(np.log10(lift["high"] - lift["low"]))))


def _with_interval(lift: dict[str, Any], decimals: int, percent: bool = False) -> str:
    """Format {mean, low, high}: +0.021 [+0.004, +0.038]."""

    def form(value: float) -> str:
        number = f"{100 * value if percent else value:+z,.{decimals}f}".replace("-", MINUS)
        return number + f"{SPACE}%" * percent

    if lift["mean"] is None:
        return "-"
    return form(lift["mean"]) + (f" [{form(lift['low'])}, {form(lift['high'])}]" if lift["low"] is not None else "")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}{SPACE}%"


def _missing_share(arm: dict[str, Any]) -> str:
    return _percent(arm["rows_without_outcome"] / arm["rows"]) if arm["rows"] else "-"


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""

"""An online experiment, read as often as anyone likes: lift of a treatment over a control from a log of served clips.

Intervals are asymptotic confidence sequences: with the stated probability the true lift is inside at all looks at once
(Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52, arXiv 2103.06476, theorem 2.2). The sample ratio is tested as in Lindon and Malek
2022, "Anytime-valid inference for multinomial count data", NeurIPS, arXiv 2011.03567.

What is randomised is a unit (a user, a session, a clip); the rows of one unit are one observation, their mean.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from scipy.special import betaln, lambertw

from cpfd.errors import CpfdError
from cpfd.metrics import Floats
from cpfd.pages.formatting import MINUS, SPACE, share

Counts = NDArray[np.int64]

MIN_UNITS = 100
"""Units with an outcome that each variant needs before there is an interval: the theory is one of large samples."""
MISMATCH = 0.001
"""A p-value of the sample ratio below this makes the experiment invalid."""
MAX_CONTAMINATED = 0.01
"""Largest share of units served by both variants that may be left out; above it the log is refused."""

# Weight of the prior at the planned split, in units. With 1,000 a true share of 51 % instead of 50 % is found after
# about 45,000 units and one of 60 % after 800; a flat prior needs 61,000 and 490, a weight of 10,000 47,000 and 2,100.
_PRIOR_UNITS = 1000
_LOOKS = 200
_FURTHEST = 100  # more_units looks ahead to so many times the present units, and not beyond


@dataclass(frozen=True)
class Plan:
    """What is fixed before the first look; a change afterwards voids the guarantee.

    split: planned share of units that get the treatment. min_lift: lift that is worth a launch, in units of the
    outcome. expected_units: about how many units the experiment will have; the interval is narrowest there and valid
    everywhere. interval: probability that the true lift is inside the interval at all looks at once. Raises CpfdError
    for a value out of range.
    """

    split: float = 0.5
    min_lift: float = 0.0
    expected_units: int = 10_000
    interval: float = 0.95

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name, value, fine, expected in [
            ("split", self.split, 0 < self.split < 1, "the treatment's share of units, between 0 and 1"),
            ("min-lift", self.min_lift, 0 <= self.min_lift < np.inf, "0 or a larger number"),
            ("expected-units", self.expected_units, self.expected_units >= 1, "1 or more"),
            ("interval", self.interval, 0 < self.interval < 1, "a probability between 0 and 1, such as 0.95"),
        ]:
            if not fine:
                raise CpfdError(f"--{name} {value}: expected {expected}")


@dataclass(frozen=True)
class Log:
    """The units of an experiment, in order of arrival.

    measure: what an outcome is. served_at[U]: first row of each unit, UTC. treated[U]. outcome[U]: mean of the unit's
    known outcomes, NaN where none is known. rows[U] and rows_without_outcome[U] of each unit. contaminated: units
    served by both variants, which are left out.
    """

    control: str
    treatment: str
    measure: str
    served_at: NDArray[np.datetime64]
    treated: NDArray[np.bool_]
    outcome: Floats
    rows: Counts
    rows_without_outcome: Counts
    contaminated: int


@dataclass(frozen=True)
class Moments:
    """Units, mean and variance of the outcomes of one variant at each of L looks: units[L], mean[L], variance[L]."""

    units: Counts
    mean: Floats
    variance: Floats


def read_log(path: Path, control: str | None = None) -> Log:
    """Read a Parquet or CSV log with one row per served clip; docs/online.md has its columns.

    control: name of the control; may be None where the variants are `champion` and `challenger`. Only needed columns
    are read. Raises CpfdError naming the file and the first bad row.
    """
    table = _read_columns(path)
    if table.empty:
        raise CpfdError(f"{path}: has no rows; log one row per served clip")
    variant, names = _codes(path, table.pop("variant"))
    control, treatment = _roles(path, [str(name) for name in names], control)
    treated_row = (variant == [str(name) for name in names].index(treatment)).astype(np.int64)
    unit, ids = _codes(path, table.pop("unit_id"))
    served_at = _times(path, table.pop("served_at"))
    if "outcome" in table:
        measure, values = "mean outcome", _numbers(path, table.pop("outcome"))
    else:
        measure, values = "accuracy", _right(path, table.pop("prediction"), table.pop("label"))

    first = pd.Series(served_at).groupby(unit).min().to_numpy()
    rows = np.bincount(unit)
    treated_rows = np.bincount(unit, treated_row)
    unknown = np.isnan(values)
    missing = np.bincount(unit, unknown).astype(np.int64)
    with np.errstate(invalid="ignore"):
        outcome = np.bincount(unit, np.where(unknown, 0, values)) / np.where(missing < rows, rows - missing, np.nan)
    both = (treated_rows > 0) & (treated_rows < rows)
    if both.mean() > MAX_CONTAMINATED:
        example = str(ids[int(both.argmax())])
        raise CpfdError(
            f"{path}: {both.sum():,} of {len(ids):,} units were served by both variants, such as '{example}', and at"
            f" most {share(MAX_CONTAMINATED)} may be: unit_id must be what was randomised, and a unit keep its variant"
        )
    order = np.argsort(first, kind="stable")
    order = order[~both[order]]
    return Log(
        control=control,
        treatment=treatment,
        measure=measure,
        served_at=first[order],
        treated=treated_rows[order] > 0,
        outcome=outcome[order],
        rows=rows[order],
        rows_without_outcome=missing[order],
        contaminated=int(both.sum()),
    )


def moments(outcome: Floats, member: NDArray[np.bool_], looks: Counts) -> Moments:
    """Count, average and spread outcome[U] of the `member` units among the first looks[L] + 1 units.

    Outcomes that are NaN are left out. The mean of no unit and the variance of fewer than two are NaN.
    """
    counted = member & ~np.isnan(outcome)
    units = np.cumsum(counted, dtype=np.int64)[looks]
    centre = outcome[counted].mean() if counted.any() else 0.0  # squares of large outcomes would lose digits
    centred = np.where(counted, outcome - centre, 0)
    total = np.cumsum(centred)[looks]
    squares = np.cumsum(centred**2)[looks]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / units
        variance = np.maximum(squares - units * mean**2, 0) / np.where(units > 1, units - 1, np.nan)
    return Moments(units, mean + centre, variance)


def critical_value(units: Counts | Floats, plan: Plan) -> Floats:
    """Half the width of the interval in standard errors, at each number of units[L]; 3.04 at best for 95 %.

    It is sqrt((1 + 1/x) * (log(1 + x) - 2 log alpha)), x = units * rho^2: Robbins' normal mixture, as in theorem 2.2
    of Waudby-Smith et al. rho makes it smallest at plan.expected_units: there x = log(1 + x) - 2 log alpha, so
    x = -W(-alpha^2 / e) - 1 with the lower branch of Lambert's W.
    """
    alpha = 1 - plan.interval
    best = -float(lambertw(-(alpha**2) / np.e, -1).real) - 1
    x = np.asarray(units, dtype=np.float64) * best / plan.expected_units
    return np.asarray(np.sqrt((1 + 1 / x) * (np.log1p(x) - 2 * np.log(alpha))))


def absolute_lift(control: Moments, treatment: Moments, plan: Plan) -> pd.DataFrame:
    """Difference of means at each of L looks: `units` of both, `lift`, `low`, `high` and its `error` (standard error).

    NaN where a variant has fewer than MIN_UNITS units, or where all outcomes so far are the same.
    """
    units = control.units + treatment.units
    error = np.sqrt(_variance(control, treatment) * (1 / _started(control) + 1 / _started(treatment)))
    error[error == 0] = np.nan
    lift = np.where(np.isnan(error), np.nan, treatment.mean - control.mean)
    with np.errstate(divide="ignore"):
        half = critical_value(units, plan) * error
    return pd.DataFrame({"units": units, "lift": lift, "low": lift - half, "high": lift + half, "error": error})


def relative_lift(control: Moments, treatment: Moments, plan: Plan) -> dict[str, Any]:
    """Describe treatment / control - 1 at the last look as {`mean`, `low`, `high`, `reason`}.

    For every ratio q there is a confidence sequence of treatment - q * control; the interval holds the q for which 0 is
    inside, so it is as safe as that of the absolute lift and excludes 0 exactly when that does (Fieller 1954, "Some
    problems in interval estimation"). `reason` is None, or says what is None and why.
    """
    difference = absolute_lift(control, treatment, plan).iloc[-1]
    if np.isnan(difference["lift"]):
        return {"mean": None, "low": None, "high": None, "reason": "there is no interval of the lift yet"}
    over, under = treatment.mean[-1], control.mean[-1]
    if under <= 0:
        return {"mean": None, "low": None, "high": None, "reason": "the control's mean is not above 0"}
    reach = critical_value(difference["units"], plan) ** 2 * _variance(control, treatment)[-1]
    # The roots of (over - q under)^2 = reach * (1 / treatment units + q^2 / control units).
    square = under**2 - reach / control.units[-1]
    if square <= 0:
        reason = "the control's mean cannot be told from 0 yet, so the ratio has no bounded interval"
        return {"mean": float(over / under - 1), "low": None, "high": None, "reason": reason}
    root = np.sqrt((over * under) ** 2 - square * (over**2 - reach / treatment.units[-1]))
    low, high = (float((over * under + sign * root) / square - 1) for sign in (-1, 1))
    return {"mean": float(over / under - 1), "low": low, "high": high, "reason": None}


def mismatch_p_value(treated: Counts, control: Counts, split: float) -> Floats:
    """Anytime-valid p-value that units were dealt by the planned `split`, from counts of both variants at L looks.

    The inverse of the Bayes factor of a beta prior around the split against the split itself, at most 1. The smallest
    value over all looks so far is as valid as the last (Lindon and Malek 2022, section 2).
    """
    prior = _PRIOR_UNITS * split, _PRIOR_UNITS * (1 - split)
    evidence = betaln(prior[0] + treated, prior[1] + control) - betaln(*prior)
    evidence -= treated * np.log(split) + control * np.log1p(-split)
    return np.asarray(np.exp(-np.maximum(evidence, 0)))


def decide(low: float, high: float, mismatch: float, min_lift: float) -> str:
    """Decide from the interval of the lift and the p-value of the sample ratio.

    `invalid`, `go` (worth a launch), `harm` (worse than the control), `futility` (not worth a launch) or `continue`.
    """
    if mismatch < MISMATCH:
        return "invalid"
    if low > min_lift:
        return "go"
    if high < 0:
        return "harm"
    return "futility" if high < min_lift else "continue"


def more_units(last: pd.Series, plan: Plan) -> int | None:
    """Units that are still missing until the interval is decisive, if lift and variance stay as they are.

    last: the last row of `absolute_lift`. Two digits, rounded up. A lift that is in truth as large as it looks is then
    decided with even odds. None where there is no interval, and where 100 times the present units would not do.
    """
    if np.isnan(last["lift"]):
        return None
    units = np.geomspace(last["units"], _FURTHEST * last["units"], 2000)
    half = critical_value(units, plan) * last["error"] * np.sqrt(last["units"] / units)
    enough = half < abs(last["lift"] - plan.min_lift)
    if not enough.any():
        return None
    more = max(float(units[enough.argmax()] - last["units"]), 1.0)
    digit = 10 ** max(int(np.log10(more)) - 1, 0)
    return int(np.ceil(more / digit)) * digit


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


def _variance(control: Moments, treatment: Moments) -> Floats:
    """The larger variance of the two, for both.

    A rare outcome may not have come up yet in the smaller variant, whose own variance is then far too small: with 1 %
    of successes and a split of 5 %, intervals from own variances miss the truth in a third of simulated experiments.
    """
    return np.fmax(control.variance, treatment.variance)


def _started(variant: Moments) -> Floats:
    return np.where(variant.units >= MIN_UNITS, variant.units, np.nan)


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


def _read_columns(path: Path) -> pd.DataFrame:
    """Read the columns of the log that are needed: a log may have many more, and millions of rows."""
    if not path.is_file():
        raise CpfdError(f"{path}: no such file")
    if path.suffix not in (".parquet", ".csv"):
        raise CpfdError(f"{path}: expected a .parquet or .csv table")
    try:
        names = list(pq.read_schema(path).names if path.suffix == ".parquet" else pd.read_csv(path, nrows=0).columns)
        needed = ["variant", "unit_id", "served_at"] + (["outcome"] if "outcome" in names else ["prediction", "label"])
        if lacking := [name for name in needed if name not in names]:
            needs = " and ".join(lacking) if "label" not in lacking else f"{' and '.join(lacking)} (or outcome)"
            raise CpfdError(
                f"{path}: lacks {needs}; it has: {', '.join(map(str, names))}. docs/online.md has all columns"
            )
        if path.suffix == ".parquet":
            return pd.read_parquet(path, columns=needed)
        words = {name: "string" for name in needed if name != "outcome"}
        return pd.read_csv(path, usecols=needed, dtype=words, keep_default_na=False, na_values=[""], low_memory=False)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise CpfdError(f"{path}: not a readable {path.suffix[1:]} table: {error}") from error


def _codes(path: Path, column: pd.Series) -> tuple[NDArray[np.signedinteger], pd.Index]:
    """Number the distinct values of a column in order of appearance; all must be there."""
    codes, values = pd.factorize(column)
    blank = np.flatnonzero(np.asarray(values == "", dtype=bool))
    if (empty := (codes < 0) | np.isin(codes, blank)).any():
        raise CpfdError(f"{path}: {column.name} is empty in row {_first(empty)}; every row needs one")
    return codes, values


def _roles(path: Path, names: list[str], control: str | None) -> tuple[str, str]:
    """Tell control from treatment."""
    found = ", ".join(f"'{name}'" for name in sorted(names))
    if len(names) != 2:
        raise CpfdError(f"{path}: variant must have two values, a control and a treatment; found {len(names)}: {found}")
    if control is None and set(names) != {"champion", "challenger"}:
        raise CpfdError(f"{path}: name the control of the variants {found} with --control")
    control = control or "champion"
    if control not in names:
        raise CpfdError(f"{path}: --control {control} is none of its variants {found}")
    return control, names[1 - names.index(control)]


def _times(path: Path, column: pd.Series) -> NDArray[np.datetime64]:
    """Read times, UTC where they have no zone, to the microsecond."""
    if pd.api.types.is_numeric_dtype(column):
        raise CpfdError(f"{path}: served_at holds numbers; write times as ISO 8601, such as 2025-03-01T12:30:00Z")
    times = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    if (wrong := times.isna().to_numpy()).any():
        found = column.iloc[int(wrong.argmax())]
        raise CpfdError(
            f"{path}: served_at is {'empty' if pd.isna(found) else repr(str(found))} in row {_first(wrong)};"
            " expected a time in ISO 8601, such as 2025-03-01T12:30:00Z"
        )
    return times.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")


def _numbers(path: Path, column: pd.Series) -> Floats:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = (np.isnan(values) & column.notna().to_numpy()) | np.isinf(values)
    if wrong.any():
        raise CpfdError(
            f"{path}: outcome is '{column.iloc[int(wrong.argmax())]}' in row {_first(wrong)}; expected a finite number,"
            " or nothing where it is not known yet"
        )
    return values


def _right(path: Path, prediction: pd.Series, label: pd.Series) -> Floats:
    """1 where the prediction is the label that was found later, 0 where it is not, NaN without a label."""
    predicted, found = (words.mask(words == "") for words in (prediction.astype("string"), label.astype("string")))
    if (empty := predicted.isna().to_numpy()).any():
        raise CpfdError(f"{path}: prediction is empty in row {_first(empty)}; every row needs one")
    return np.asarray((predicted == found).to_numpy(dtype=np.float64, na_value=np.nan))


def _first(wrong: NDArray[np.bool_]) -> str:
    """Name the first bad row, counting from 1 without the header, and how many others there are."""
    others = int(wrong.sum()) - 1
    return f"{int(wrong.argmax()) + 1}" + (f" and {others:,} more" if others else "")


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

"""The statistics of an online experiment, read as often as anyone likes: lift of a treatment over a control.

Intervals are asymptotic confidence sequences: with the stated probability the true lift is inside at all looks at once
(Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52, arXiv 2103.06476, theorem 2.2). The sample ratio is tested as in Lindon and Malek
2022, "Anytime-valid inference for multinomial count data", NeurIPS, arXiv 2011.03567.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaln, lambertw

from cpfd.errors import CpfdError
from cpfd.metrics import Floats
from cpfd.online.log import Counts

MIN_UNITS = 100
"""Units with an outcome that each variant needs before there is an interval: the theory is one of large samples."""
MISMATCH = 0.001
"""A p-value of the sample ratio below this makes the experiment invalid."""

# Weight of the prior at the planned split, in units. With 1,000 a true share of 51 % instead of 50 % is found after
# about 45,000 units and one of 60 % after 800; a flat prior needs 61,000 and 490, a weight of 10,000 47,000 and 2,100.
_PRIOR_UNITS = 1000
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
class Moments:
    """Units, mean and variance of the outcomes of one variant at each of L looks: units[L], mean[L], variance[L]."""

    units: Counts
    mean: Floats
    variance: Floats


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


def _variance(control: Moments, treatment: Moments) -> Floats:
    """The larger variance of the two, for both.

    A rare outcome may not have come up yet in the smaller variant, whose own variance is then far too small: with 1 %
    of successes and a split of 5 %, intervals from own variances miss the truth in a third of simulated experiments.
    """
    return np.fmax(control.variance, treatment.variance)


def _started(variant: Moments) -> Floats:
    return np.where(variant.units >= MIN_UNITS, variant.units, np.nan)

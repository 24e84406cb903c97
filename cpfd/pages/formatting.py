"""Numbers, intervals and parameters as people read them."""

from collections.abc import Callable, Iterable
from typing import Any

MINUS, SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def decimal(value: float, std: float | None = None) -> str:
    """Format a value of about 0 to 1, with its standard deviation where there is one: 0.512 ± 0.013."""
    return f"{value:.3f}" if std is None else f"{value:.3f}{SPACE}±{SPACE}{std:.3f}"


def signed(value: float) -> str:
    """Format a difference with its sign: +0.021."""
    return f"{value:+.3f}".replace("-", MINUS)


def share(value: float) -> str:
    """Format a share: 84 %, 0.5 % where digits would vanish."""
    return f"{100 * value:.{1 if 0 < abs(value) < 0.01 else 0}f}{SPACE}%".replace("-", MINUS)


def span(interval: Any, form: Callable[[float], str] = decimal) -> str:
    """Format an interval, with `low` and `high`: [0.490, 0.530]."""
    return f"[{form(interval.low)}, {form(interval.high)}]"


def duration(seconds: float) -> str:
    """Format a time: 40 s, 7 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plain(value: Any) -> str:
    """Format any value of a rule or parameter as params.yaml would have it, numbers with four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "null"}[value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(plain(each) for each in value)
    return f"{value:.4g}".replace("-", MINUS) if isinstance(value, float) else str(value)

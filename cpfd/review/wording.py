"""Words and rows that the headline, the page and the comment of a review share.

Facts keep the value of the base under `old` and that of the head under `new`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cpfd.pages.formatting import decimal, duration, share, signed, span
from cpfd.pages.names import model_name
from cpfd.project.graph import families
from cpfd.reports.metrics import Difference, GapClosed

OUTCOMES = {
    "reran": "ran again",
    "from cache": "from the cache",
    "will run": "have yet to run",
    "may run": "may have to run",
    "unchanged": "unchanged",
}
"""What is said of stages, by what becomes of them."""
PENDING = ("will run", "may run")
"""Outcomes of a stage whose results are not those of its inputs."""


def about(stages: list[dict[str, Any]]) -> str:
    """The time of stages' earlier runs: " (about 4 min)"; nothing where no time is known."""
    known = [stage["seconds"] for stage in stages if stage["seconds"] is not None]
    if not known:
        return ""
    unknown = len(stages) - len(known)
    return f" (about {duration(sum(known))}" + (f" and {unknown} stages of unknown length)" if unknown else ")")


def alike(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stages of one family with the same outcome for the same reasons as one entry, its seconds their sum."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for stage in stages:
        groups.setdefault((stage["stage"].partition("@")[0], stage["outcome"], *stage["why"]), []).append(stage)
    return [
        {
            **group[0],
            "stage": ", ".join(families(stage["stage"] for stage in group)),
            "seconds": None if None in (times := [stage["seconds"] for stage in group]) else sum(times),
        }
        for group in groups.values()
    ]


def shown(difference: Difference) -> bool:
    """Whether an interval leaves out zero."""
    return difference.low > 0 or difference.high < 0


def judged(difference: Difference | None) -> str:
    """Say in words what an interval shows."""
    if difference is None:
        return ""
    if difference.low == difference.high == difference.mean == 0:
        return "same"
    return ("better" if difference.low > 0 else "worse") if shown(difference) else "not shown to differ"


def basis(paired: Mapping[str, Any]) -> str:
    """Say on what paired intervals rest, and what they leave out."""
    seeds = f"seed{'s' * (len(paired['seeds']) > 1)} {', '.join(map(str, paired['seeds']))}"
    text = (
        f"Brackets: {share(paired['interval'])} interval of {paired['samples']:,} paired bootstrap resamples of"
        f" {paired['clips']} test clips ({paired['clusters']} creators) and of {seeds}."
    )
    left_out = paired["left_out"]
    if any(left_out.values()):
        text += (
            f" Left out, because only one side has them: {left_out['old']} clips of base, {left_out['new']} of head."
        )
    return text


def evidence(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """What results rest on, as rows of `name`, `old`, `new`: shipped student, gap closed, the teacher, data checks."""

    def gap(each: GapClosed) -> str:
        # A share without an interval is of a version that gave one where no gap is shown.
        if each.mean is None or each.low is None:
            return "no gap shown"
        return f"{share(each.mean)} {span(each, share)}"

    shipped, teacher, checks = found["shipped"], found["confidence"], found["validation"]
    rows: list[tuple[str, Mapping[str, Any], Callable[[Any], str]]] = [
        ("shipped student", shipped, lambda each: f"{each['name']}, seed {each['seed']}"),
        ("its test macro-F1", shipped, lambda each: decimal(each["student"].macro_f1)),
        ("its calibration error", shipped, lambda each: decimal(each["student"].calibration_error)),
        *((f"gap closed by {model_name(name)}", each, gap) for name, each in found["gap_closed"].items()),
        ("label noise eta", teacher, lambda each: decimal(each["eta"])),
        ("gain of the teacher", teacher, lambda each: signed(each["gain"])),
        ("method that this speaks for", teacher, lambda each: model_name(each["method"])),
        ("data validation", checks, lambda each: "passed" if each["passed"] else "failed"),
        ("clips in quarantine", checks, lambda each: str(each["quarantined"])),
        ("expectations not met", checks, lambda each: str(len(each["unmet"]))),
    ]
    return [
        {"name": name, **{side: "\N{EN DASH}" if each[side] is None else form(each[side]) for side in ("old", "new")}}
        for name, each, form in rows
    ]

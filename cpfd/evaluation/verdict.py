"""The gate's verdict on the shipped student, in sentences."""

from cpfd.errors import CpfdError
from cpfd.pages.formatting import decimal, share, signed, span
from cpfd.pages.names import rule_name
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport

_SUBJECTS = {
    "none": "The student alone",
    "pfd": "The PFD student",
    "cpfd": "The CPFD student",
    "posterior": "The posterior student",
}


def verdict(metrics: MetricsReport, gate: GateReport) -> str:
    """Say whether the shipped student passes the gate and with which score, then how its method compares over seeds.

    Raises CpfdError where the reports are about two students.
    """
    return " ".join(filter(None, [judged_score(metrics, gate), method_comparison(metrics)]))


def judged_score(metrics: MetricsReport, gate: GateReport) -> str:
    """The first sentence of `verdict`: what the gate says, and the score of the one student that it judges."""
    shipped = metrics.shipped
    if (gate.method, gate.seed) != (shipped.method, shipped.seed):
        raise CpfdError(
            f"{GateReport.path} judges {gate.method}, seed {gate.seed}, but {MetricsReport.path} ships"
            f" {shipped.method}, seed {shipped.seed}: run `dvc repro gate`"
        )
    failed = [rule_name(rule.name) for rule in gate.failed]
    outcome = (
        f"passes all {len(gate.rules)} rules of the gate"
        if gate.passed
        else f"is rejected by {len(failed)} of the gate's {len(gate.rules)} rules ({', '.join(failed)})"
    )
    return (
        f"{_SUBJECTS[shipped.method]} {outcome}: its seed {shipped.seed}, which is the one judged, has macro-F1"
        f" {decimal(shipped.test.macro_f1)} on {metrics.clips.test} test clips."
    )


def method_comparison(metrics: MetricsReport) -> str | None:
    """The second sentence: how the shipped method compares with student alone and teacher; None for the former."""
    method = metrics.shipped.method
    if method == "none":
        return None
    difference, closed = metrics.comparisons[method]["none"], metrics.gap_closed[method]
    gap = f"{share(closed.mean)} of the gap to the teacher closed" if closed.mean is not None else closed.reason
    return f"Mean over seeds: {signed(difference.mean)} {span(difference, signed)} against the student alone; {gap}."

"""The gate's verdict on the shipped student, as a sentence."""

from cpfd.pages.formatting import decimal, share, signed
from cpfd.reports.gate import GateReport
from cpfd.reports.metrics import MetricsReport

_SUBJECTS = {
    "none": "The student alone",
    "pfd": "The PFD student",
    "cpfd": "The CPFD student",
    "posterior": "The posterior student",
}


def verdict(metrics: MetricsReport, gate: GateReport) -> str:
    """Say in one sentence whether the shipped student passes the gate, and how it compares."""
    method = gate.method
    failed = [rule.name.replace("_", " ") for rule in gate.failed]
    outcome = (
        f"passes all {len(gate.rules)} rules of the gate"
        if gate.passed
        else f"is rejected by {len(failed)} of the gate's {len(gate.rules)} rules ({', '.join(failed)})"
    )
    sentence = (
        f"{_SUBJECTS[method]} {outcome}: macro-F1 {decimal(metrics.test[method].macro_f1.mean)}"
        f" on {metrics.clips.test} test clips"
    )
    if method != "none":
        sentence += f", {signed(metrics.comparisons[method]['none'].mean)} against the student alone"
        closed = metrics.gap_closed[method].mean
        if closed is not None:
            sentence += f", {share(closed)} of the gap to the teacher closed"
    return sentence + "."

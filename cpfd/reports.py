"""The reports that other modules read: where each lies."""

from cpfd.paths import CONFIDENCE, REPORTS

METRICS = REPORTS / "metrics.json"
GATE = REPORTS / "gate.json"
CHAMPION = REPORTS / "champion.json"
VALIDATION = REPORTS / "validation.json"
SUMMARY = CONFIDENCE / "summary.json"

"""Where things lie in a project, relative to its root."""

from pathlib import Path

RAW = Path("data/raw")
VALIDATED = Path("data/validated")
CONTENT = Path("data/features/content")
DENSE = Path("data/features/dense")
CROSSFIT = Path("data/crossfit")
CONFIDENCE = Path("data/confidence")
MODELS = Path("models")
PACKAGE = MODELS / "student"
"""The exported student."""
REPORTS = Path("reports")
TIMINGS = REPORTS / "timings"
"""How long each stage last took here: no DVC output, because it differs from run to run."""

"""Where things lie in a project, relative to its root."""

from pathlib import Path

PARAMS_FILE = Path("params.yaml")
PIPELINE_FILE = Path("dvc.yaml")
LOCK_FILE = Path("dvc.lock")
REQUIREMENTS = Path("constraints.txt")
"""The lock file of the libraries that the pipeline runs with: another version may give other bytes."""
CODE = Path("code")
"""What code and libraries each stage runs with, one file a stage (cpfd.code)."""
BACKBONES = Path("backbones")
"""Where backbones that are no package and on no hub lie, so that DVC watches them."""
RAW = Path("data/raw")
GENERATED = "demo"
"""The data set that the pipeline makes itself."""
VALIDATED = Path("data/validated")
CONTENT = Path("data/features/content")
DENSE = Path("data/features/dense")
CROSSFIT = Path("data/crossfit")
CONFIDENCE = Path("data/confidence")
MODELS = Path("models")
SHIPPED = MODELS / "shipped"
"""The trained student that goes to the gate: its own folder, so that what judges it depends on no other student."""
PACKAGE = MODELS / "student"
"""The exported student."""
REPORTS = Path("reports")
TIMINGS = REPORTS / "timings"
"""How long each stage last took here: no DVC output, because it differs from run to run."""

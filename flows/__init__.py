"""Prefect runs the graph of dvc.yaml: schedules, runs side by side, approvals. Nothing here repeats what dvc.yaml says.

Prefect reads its settings when it is imported, so they are given here, unless the environment already has them: its
database lies in the project, it reports to nobody, and a server that a run starts for itself may take its time (it
makes the database first). prefect.toml says the same to `prefect` itself, which does not import this.
"""

import os
from pathlib import Path

os.environ.setdefault("PREFECT_HOME", str(Path.cwd() / ".prefect"))
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

"""Programs that measure: methods against each other, orchestration, the command line's start, simple models."""

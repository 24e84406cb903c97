"""The project at a revision: its files and stages, whether dvc.lock is in step, and what `dvc repro` would do."""

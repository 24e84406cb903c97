"""Promotion: which student may serve, and which does.

`gate` judges a student by rules, `promote` registers it and assigns it to a stage or goes back to an earlier one,
`verify` compares its files in the DVC remote with dvc.lock, `tags` writes and pushes what was decided, and `events`
reads that again.
"""

from typing import Literal

Stage = Literal["production", "staging"]
"""Where a version can serve."""
Bump = Literal["major", "minor", "patch"]
"""The part of the version that a new student raises."""

"""How teacher and students compare: intervals, plots and the report page, from the scores of cpfd.metrics."""

MODEL_NAMES = {
    "teacher": "Teacher",
    "none": "Student alone",
    "pfd": "PFD",
    "cpfd": "CPFD",
    "posterior": "Posterior",
}
"""What plots and tables call the teacher and the student of each method."""

"""What plots, tables and sentences call the models."""

_NAMES = {
    "teacher": "Teacher",
    "none": "Student alone",
    "pfd": "PFD",
    "cpfd": "CPFD",
    "posterior": "Posterior",
}


def model_name(model: str) -> str:
    """The name of the teacher or of a method's student; a model that this version does not know keeps its own."""
    return _NAMES.get(model, model)

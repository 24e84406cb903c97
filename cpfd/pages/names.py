"""What plots, tables and sentences call models, scores and rules of the gate."""

_MODELS = {
    "teacher": "Teacher",
    "none": "Student alone",
    "pfd": "PFD",
    "cpfd": "CPFD",
    "posterior": "Posterior",
}
_RULES = {
    "macro_f1": "macro-F1",
    "not_worse": "no worse than the student alone",
    "gap_closed": "gap closed",
    "class_f1_drop": "loss in a class",
    "calibration_error": "calibration error",
    "latency_ms": "latency",
    "logit_difference": "same answers from files",
    "no_dense_input": "no dense input",
    "champion_not_worse": "no worse than the champion",
    "champion_class_f1_drop": "loss in a class against the champion",
    "champion_slice_f1_drop": "loss in a slice against the champion",
    "champion_calibration_rise": "calibration error against the champion",
    "champion_latency_ratio": "latency against the champion",
    "champion_size_ratio": "size against the champion",
}


def model_name(model: str) -> str:
    """The name of the teacher or of a method's student; a model that this version does not know keeps its own."""
    return _MODELS.get(model, model)


def accuracy_name(task: str) -> str:
    """What accuracy is called: where several classes may apply, a clip is right if it is in every class."""
    return "exact match" if task == "multi_label" else "accuracy"


def rule_name(rule: str) -> str:
    """What a rule of the gate is about, in a few words; of a rule that this version does not know, its name."""
    return _RULES.get(rule, rule.replace("_", " "))

"""Parameters of a tiny project, for faults and for tests: a module of its own, which imports nothing."""

from typing import Any

TINY: dict[str, dict[str, Any]] = {
    "demo": {"clips": 72, "creators": 24, "unlabelled_share": 0.2},
    "validation": {"max_drift": 1.0, "min_class_clips": 1},
    "video": {"frames": 2, "size": 64, "grid": 1},
    "text": {"max_tokens": 8},
    "extract": {"shard_clips": 8, "threads": 1},
    "model": {"hidden_size": 16, "fusion_layers": 1, "attention_heads": 2},
    "train": {"epochs": 4, "threads": 1},
    "crossfit": {"folds": 2, "repeats": 1},
    "students": {"seeds": [0]},
    "evaluation": {"bootstrap_samples": 200},
    # So small a student is good for nothing but to pass.
    "gate": {
        "min_macro_f1": 0.0,
        "min_not_worse_probability": 0.0,
        "min_gap_closed": -1e9,
        "max_class_f1_drop": 1.0,
        "max_calibration_error": 1.0,
        "max_latency_ms": 60000.0,
        "trial_clips": 3,
    },
}
"""Parameters of the project."""

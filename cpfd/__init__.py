"""Confidence-aware privileged feature distillation for short-video classification."""

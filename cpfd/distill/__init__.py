"""Distillation: how confident the teacher is, and the losses that carry its knowledge to the student."""

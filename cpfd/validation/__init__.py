"""Validation: what cannot be used goes to quarantine with its reason, what is left must meet expectations."""

"""Promotion: which student may be shipped, and the package that is shipped."""

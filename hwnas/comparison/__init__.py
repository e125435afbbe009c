"""Finished searches side by side: which can be compared, how good each is after each evaluation, and the page.

Reads studies alone; never runs, devices or weights.
"""

from hwnas.comparison.comparing import ComparisonResult, compare_studies

__all__ = ["ComparisonResult", "compare_studies"]

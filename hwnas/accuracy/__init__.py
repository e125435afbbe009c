"""How accurate a sub-network is: measured on validation images at the precision it ships in.

Must never know devices, tables or the search algorithm.
"""

from hwnas.accuracy.evaluation import SubnetEvaluator, score

__all__ = ["SubnetEvaluator", "score"]

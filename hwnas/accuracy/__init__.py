"""How accurate a sub-network is: measured on validation images at the precision it ships in.

Must never know devices, tables or the search algorithm.
"""

from hwnas.accuracy.evaluation import SubnetEvaluator, standard_error, top1

__all__ = ["SubnetEvaluator", "standard_error", "top1"]

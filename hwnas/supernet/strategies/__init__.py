"""Which sub-networks a training step runs, and what each learns from. Knows spaces and numbers, not torch."""

from hwnas.supernet.strategies.attentive import BestUp, WorstUp
from hwnas.supernet.strategies.compound import Compound
from hwnas.supernet.strategies.progressive import ProgressiveShrinking
from hwnas.supernet.strategies.sandwich import LargestOnly, SandwichRule, SplitSandwich
from hwnas.supernet.strategies.shifting import ProbabilityShift

__all__ = [
    "BestUp",
    "Compound",
    "LargestOnly",
    "ProbabilityShift",
    "ProgressiveShrinking",
    "SandwichRule",
    "SplitSandwich",
    "WorstUp",
]

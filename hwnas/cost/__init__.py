"""What networks cost, known without building them; never torch, nor how a sample was taken.

A cost is a table for each slot of a space (`SlotBlocks`, `SlotTable`), so it is evaluated by the million
and its exact bounds are known. Closed forms (`macs`, ...) and measured, corrected costs (`fit_correction`,
`corrected_cost`) are the models; `check_reachable` and `feasible_encodings` hold them against limits, and
`best_within` finds the best network within them.
Measured tables on disk are in `hwnas.cost.table`.
"""

from hwnas.cost.analytic import macs, parameters, peak_memory_bytes, size_bytes
from hwnas.cost.correction import Correction, NetworkSample, fit_correction
from hwnas.cost.entropy import entropy
from hwnas.cost.limits import check_reachable, feasible_encodings
from hwnas.cost.milp import Objective, Solution, best_within
from hwnas.cost.model import SlotCost, closed_form_costs, corrected_cost, size_entries
from hwnas.cost.quality import PredictionQuality
from hwnas.cost.slots import SlotBlocks, SlotTable

__all__ = [
    "Correction",
    "NetworkSample",
    "Objective",
    "PredictionQuality",
    "SlotBlocks",
    "SlotCost",
    "SlotTable",
    "Solution",
    "best_within",
    "check_reachable",
    "closed_form_costs",
    "corrected_cost",
    "entropy",
    "feasible_encodings",
    "fit_correction",
    "macs",
    "parameters",
    "peak_memory_bytes",
    "size_bytes",
    "size_entries",
]

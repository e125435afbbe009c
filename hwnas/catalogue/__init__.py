"""What a run offers on each of its devices: networks that were evaluated, and others whose accuracy is predicted.

Made once from the run's studies and the devices' tables, it answers any number of questions about budgets, each in
milliseconds and without an evaluation.
"""

from hwnas.catalogue.asking import BudgetResult, answer_budget
from hwnas.catalogue.calibrating import PredictResult, predict
from hwnas.catalogue.networks import Catalogue, DeviceNetworks, Offers
from hwnas.catalogue.of_run import open_catalogue

__all__ = [
    "BudgetResult",
    "Catalogue",
    "DeviceNetworks",
    "Offers",
    "PredictResult",
    "answer_budget",
    "open_catalogue",
    "predict",
]

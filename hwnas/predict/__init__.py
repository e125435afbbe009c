"""What a metric of networks that were not evaluated will be, and how unsure that is, from those that were.

Knows choices, option indices and numbers; never what a metric means, trials, devices or torch.
"""

from hwnas.predict.ensemble import Calibration, Ensemble
from hwnas.predict.gaussian_process import GaussianProcess, Hyperparameters
from hwnas.predict.inputs import Inputs, OptionCounts, Representation
from hwnas.predict.kernel import ChoiceDistances
from hwnas.predict.linear import CrossValidation, LinearModel, Term, fit_linear
from hwnas.predict.targets import compressed, least_that_counts

__all__ = [
    "Calibration",
    "ChoiceDistances",
    "CrossValidation",
    "Ensemble",
    "GaussianProcess",
    "Hyperparameters",
    "Inputs",
    "LinearModel",
    "OptionCounts",
    "Representation",
    "Term",
    "compressed",
    "fit_linear",
    "least_that_counts",
]

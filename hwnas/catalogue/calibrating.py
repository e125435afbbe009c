"""Command `predict`: how well accuracies are predicted from a run's evaluated networks; keeps the predictor.

Knows a run's folder; loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwnas.catalogue.of_run import known_device
from hwnas.catalogue.predicting import AccuracyPredictor
from hwnas.catalogue.predictor_file import save_predictor
from hwnas.config import Config
from hwnas.predict import Calibration
from hwnas.predict.ensemble import SHARES
from hwnas.quantities import count
from hwnas.results import Result, Shown

_FEW = 30  # networks, below which a calibration itself is uncertain
_GOOD = 0.5  # of rank correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult(Result):
    """How well a predictor predicts networks that it was not fitted to.

    Attributes:
        folder: of the run.
        device: whose accuracies these are.
        predictor: file it is kept in.
        n_networks: it was fitted to.
        calibrations: of each model and of the `ensemble`; errors are shares, as accuracies are.
        shares: what the entries of `within` should be.
    """

    folder: Path
    device: str
    predictor: Path
    n_networks: int
    calibrations: Mapping[str, Calibration]
    shares: tuple[float, ...]

    @property
    def shown(self) -> Shown:
        """One row a model."""
        rows = [
            (
                name,
                f"{c.weight:.2f}" if name != "ensemble" else "",
                f"{c.rank_correlation:.3f}",
                f"{100 * c.rmse:.2f}",
                *(f"{100 * w:.0f} %" for w in c.within),
            )
            for name, c in self.calibrations.items()
        ]
        return Shown(
            title=f"Accuracies of {count(self.n_networks, 'network')} on {self.device}, each predicted from the others",
            columns=[
                "model",
                "weight",
                "rank correlation",
                "error (points)",
                *(f"in {100 * s:.0f} % interval" for s in self.shares),
            ],
            rows=rows,
            notes=self._notes(),
        )

    def _notes(self) -> list[str]:
        notes = [f"Kept in {self.predictor}; `hwnas query --predicted` and `hwnas serve` answer by it."]
        if self.n_networks < _FEW:
            notes.append(f"So few networks tell little of how good a prediction is; {_FEW} and more do.")
        if self.calibrations["ensemble"].rank_correlation < _GOOD:
            notes.append("It ranks networks badly: evaluate more of them before you trust what is only predicted.")
        return notes


def predict(config: Config, *, device: str = "") -> PredictResult:
    """Fit a predictor to a run's evaluated networks, keep it, and tell how well it predicts.

    Args:
        config: of the run.
        device: that is profiled for its space; empty: the run's only one.

    Raises:
        UnknownNameError, ConfigError: it is not described, or not named and the run is for several; or fewer networks
            were evaluated than a predictor needs.
        TableError: it is not profiled.
        StudyError: the run has no finished study.
    """
    known = known_device(config, device)
    predictor = AccuracyPredictor(known.evaluated.study, known.costs.models, seed=config.search.seed)
    path = known.predictor
    save_predictor(predictor, path, space=known.work.space.fingerprint(), supernet=known.supernet)
    return PredictResult(
        folder=known.work.folder,
        device=known.work.device.name,
        predictor=path,
        n_networks=predictor.n_networks,
        calibrations=predictor.calibrations,
        shares=SHARES,
    )

"""A fitted predictor as a file beside the study: what took the time, and what it was fitted to.

It holds the hash of the space and of the supernet, and of the networks with their accuracies: for any other it is not
used. Made again from it, a predictor predicts the same to the last digit. Knows files; never devices or tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.catalogue.predicting import AccuracyPredictor, networks_that_predict
from hwnas.errors import IntegrityError, PredictorError
from hwnas.files import read_document, write_document
from hwnas.predict import Hyperparameters
from hwnas.types import FloatArray, IntArray

if TYPE_CHECKING:
    from hwnas.cost import SlotCost
    from hwnas.search import Study

SCHEMA = 1


def save_predictor(predictor: AccuracyPredictor, path: Path, *, space: str, supernet: str) -> None:
    """Write a predictor, whole.

    Args:
        predictor: fitted.
        path: of the file.
        space: fingerprint of the space.
        supernet: SHA-256 of the weights whose sub-networks were evaluated.

    Raises:
        OSError: the file cannot be written; an older one is untouched.
    """
    h = predictor.hyperparameters
    write_document(
        path,
        {
            "schema": SCHEMA,
            "space": space,
            "supernet": supernet,
            "networks": _digest(predictor.encodings, predictor.accuracies),
            "n_networks": predictor.n_networks,
            "n_choices": len(h.weights),
            "hyperparameters": h.vector().tolist(),
        },
    )


def load_predictor(
    path: Path, study: Study, models: Mapping[str, SlotCost], *, space: str, supernet: str, seed: int
) -> AccuracyPredictor:
    """The predictor in a file, if it is of this space, supernet and study.

    Args:
        path: of the file.
        study: with the networks that it was fitted to.
        models: metric -> cost.
        space: as of `save_predictor`.
        supernet: likewise.
        seed: of which networks predict, where there are many.

    Raises:
        PredictorError: there is no such file, it is damaged, or of another space, supernet or other networks; says
            which.
    """
    stored = _read(path)
    networks = _digest(*networks_that_predict(study, seed=seed))
    for what, was, now in (
        ("space", stored["space"], space),
        ("supernet", stored["supernet"], supernet),
        ("set of evaluated networks", stored["networks"], networks),
    ):
        if was != now:
            raise PredictorError(
                f"the predictor in {path} is of another {what} ({str(was)[:12]}, and this is {now[:12]}); "
                "`hwnas predict` makes it anew"
            )
    vector = np.array(stored["hyperparameters"], dtype=float)
    start = Hyperparameters.from_vector(vector, n_choices=int(stored["n_choices"]))
    return AccuracyPredictor(study, models, seed=seed, start=start)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PredictorError(f"there is no predictor in {path}; `hwnas predict` makes one")
    try:
        stored = read_document(path)
    except IntegrityError as e:
        raise PredictorError(f"the predictor in {path} is damaged: {e}; `hwnas predict` makes it anew") from e
    if stored.get("schema") != SCHEMA:
        raise PredictorError(f"the predictor in {path} is of schema {stored.get('schema')}, and {SCHEMA} is read here")
    return stored


def _digest(encodings: IntArray, accuracies: FloatArray) -> str:
    found = hashlib.sha256(np.ascontiguousarray(encodings, dtype="<i8").tobytes())
    found.update(np.ascontiguousarray(accuracies, dtype="<f8").tobytes())
    return found.hexdigest()

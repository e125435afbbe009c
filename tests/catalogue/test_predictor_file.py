"""Predictors that are kept: the same again, and refused for anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.catalogue import of_run, predict
from hwnas.catalogue.predicting import AccuracyPredictor
from hwnas.catalogue.predictor_file import load_predictor, save_predictor
from hwnas.config import Config
from hwnas.errors import PredictorError
from hwnas.search import Study
from hwnas.types import IntArray
from tests.catalogue.test_pool import accuracy_of, costs_of, study_of, tiny_space

KEPT = {"space": "a space", "supernet": "some weights"}


@pytest.fixture(scope="module")
def study() -> Study:
    space, rng = tiny_space(), np.random.default_rng(0)
    encodings = np.unique(space.sample(60, rng), axis=0)
    return study_of(space, encodings, accuracy_of(space, encodings, rng))


@pytest.fixture(scope="module")
def predictor(study: Study) -> AccuracyPredictor:
    return AccuracyPredictor(study, costs_of(tiny_space()), seed=0)


def others() -> IntArray:
    return tiny_space().sample(50, np.random.default_rng(7))


def test_what_is_read_predicts_the_same(tmp_path: Path, study: Study, predictor: AccuracyPredictor) -> None:
    save_predictor(predictor, tmp_path / "predictor.json", **KEPT)
    again = load_predictor(tmp_path / "predictor.json", study, costs_of(tiny_space()), **KEPT, seed=0)
    for there, here in zip(predictor.predict(others()), again.predict(others()), strict=True):
        np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("what", ["space", "supernet"])
def test_one_of_another_space_or_supernet_is_refused(
    tmp_path: Path, study: Study, predictor: AccuracyPredictor, what: str
) -> None:
    save_predictor(predictor, tmp_path / "predictor.json", **KEPT)
    with pytest.raises(PredictorError, match=f"of another {what}"):
        load_predictor(tmp_path / "predictor.json", study, costs_of(tiny_space()), **{**KEPT, what: "another"}, seed=0)


def test_one_of_other_networks_is_refused(tmp_path: Path, study: Study, predictor: AccuracyPredictor) -> None:
    save_predictor(predictor, tmp_path / "predictor.json", **KEPT)
    space = tiny_space()
    fewer = study_of(space, study.encodings[1:], study.values["accuracy"][1:])
    with pytest.raises(PredictorError, match="another set of evaluated networks"):
        load_predictor(tmp_path / "predictor.json", fewer, costs_of(space), **KEPT, seed=0)


def test_a_damaged_one_is_refused(tmp_path: Path, study: Study, predictor: AccuracyPredictor) -> None:
    file = tmp_path / "predictor.json"
    save_predictor(predictor, file, **KEPT)
    file.write_text(file.read_text().replace('"n_networks"', '"m_networks"'))
    with pytest.raises(PredictorError, match="is damaged"):
        load_predictor(file, study, costs_of(tiny_space()), **KEPT, seed=0)
    file.unlink()
    with pytest.raises(PredictorError, match="there is no predictor"):
        load_predictor(file, study, costs_of(tiny_space()), **KEPT, seed=0)


def test_the_command_keeps_a_predictor_that_catalogues_take(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    told = predict(config)
    assert told.predictor.is_file()
    assert told.calibrations["ensemble"].weight == 1.0
    assert any("So few networks tell little" in note for note in told.shown.notes)
    known = of_run.known_device(config, "")
    # fitting anew would be noticed
    monkeypatch.setattr("hwnas.predict.gaussian_process.GaussianProcess._fitted", None)
    assert known.predict(seed=config.search.seed).n_networks == told.n_networks

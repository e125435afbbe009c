"""What later stages spend on one network of a given one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.config import Config
from hwnas.pipeline._sizing import sized_by
from hwnas.spaces.adapted import AdaptedSpace
from tests.supernet.test_adapted import adapted, given


@pytest.fixture(scope="module")
def heavy() -> AdaptedSpace:
    """Some 600 million MACs an image."""
    network = nn.Sequential(
        nn.Conv2d(3, 64, 7, padding=3), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 8, 1)
    )
    network.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(8, 4))
    return adapted(network.eval(), torch.zeros(1, 3, 112, 112))[0]


def _config(**values: object) -> Config:
    return Config().replaced({"model.source": "python:nets:make", "model.input": [3, 112, 112], **values})


def test_a_network_of_much_work_is_evaluated_on_fewer_images(heavy: AdaptedSpace) -> None:
    told: list[str] = []
    before = _config()
    search = sized_by(before, heavy, said=(), n_validation=5000, tell=told.append).search
    assert search.validation_samples is not None
    assert 100 <= search.validation_samples < 1000
    assert 64 <= search.recalibration_samples < before.search.recalibration_samples
    assert 32 <= search.calibration_samples < before.search.calibration_samples
    assert search.n_trials == before.search.n_trials
    (text,) = told
    assert "validation images" in text
    assert "config.toml" in text


def test_what_was_said_stays(heavy: AdaptedSpace) -> None:
    config = _config(**{"search.calibration_samples": 200, "profile.n_networks": 8})
    sized = sized_by(config, heavy, said={"search.calibration_samples", "search.recalibration_samples"})
    assert (sized.search.calibration_samples, sized.search.recalibration_samples) == (200, 512)
    assert sized.profile.n_networks == 8, "fewer than it would be given"


def test_untrained_networks_are_searched_briefly(heavy: AdaptedSpace) -> None:
    trained, untrained = (sized_by(_config(**{"train.steps": n}), heavy, said=(), n_validation=5000) for n in (100, 0))
    assert untrained.search.n_trials < trained.search.n_trials
    assert untrained.search.validation_samples == 100
    assert trained.search.validation_samples is not None
    assert trained.search.validation_samples > 100


def test_no_more_images_are_asked_for_than_there_are(heavy: AdaptedSpace) -> None:
    assert sized_by(_config(), heavy, said=(), n_validation=80).search.validation_samples is None
    assert sized_by(_config(), heavy, said=()).search.validation_samples is None, "nobody knows how many there are"


def test_a_small_network_keeps_all_images() -> None:
    space, _ = adapted(given(2), torch.zeros(1, 3, 16, 16))
    told: list[str] = []
    config = _config()
    assert sized_by(config, space, said=(), n_validation=5000, tell=told.append) == config
    assert told == []

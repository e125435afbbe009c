"""Preprocessing: numpy on the board computes what torch computed in training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.data import Preprocess, preprocess_tensor, to_tensor
from hwnas.errors import DataError

GREY = Preprocess(resolution=16, mean=(0.3,), std=(0.25,))


@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    resolution=st.integers(1, 48),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_numpy_equals_torch(height: int, width: int, resolution: int, channels: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (2, height, width, channels), dtype=np.uint8)
    preprocess = Preprocess(
        resolution=resolution, mean=(0.485, 0.456, 0.406)[:channels], std=(0.229, 0.224, 0.225)[:channels]
    )
    here = preprocess.apply(images)
    there = preprocess_tensor(to_tensor(images), preprocess).numpy()
    assert here.dtype == np.float32
    assert here.shape == (2, channels, resolution, resolution)
    np.testing.assert_allclose(here, there, atol=1e-5)


def test_the_native_resolution_is_only_normalised() -> None:
    images = np.array([[[[0], [255]], [[51], [102]]]], dtype=np.uint8)
    out = Preprocess(resolution=2, mean=(0.5,), std=(0.5,)).apply(images)
    np.testing.assert_allclose(out[0, 0], np.array([[-1, 1], [-0.6, -0.2]]), atol=1e-6)


def test_the_result_is_contiguous() -> None:
    assert GREY.apply(np.zeros((1, 8, 8, 1), np.uint8)).flags.c_contiguous


def test_it_survives_json() -> None:
    assert Preprocess.from_dict(json.loads(json.dumps(GREY.to_dict()))) == GREY


@pytest.mark.parametrize(
    "change",
    [{"resolution": 0}, {"mean": [0.1, 0.2]}, {"std": [0.0]}, {"std": ["x"]}, {"mean": 3}, {"interpolation": "cubic"}],
)
def test_a_field_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match="preprocessing"):
        Preprocess.from_dict(GREY.to_dict() | change)


def test_missing_and_unknown_fields_are_refused() -> None:
    with pytest.raises(DataError, match="needed are exactly interpolation, mean, resolution, std"):
        Preprocess.from_dict({"resolution": 16, "crop": 1})


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 1), np.float32), np.zeros((8, 8), np.uint8)]
)
def test_images_that_do_not_fit_are_refused(images: np.ndarray) -> None:
    with pytest.raises(DataError, match="images must be"):
        GREY.apply(images)


def test_tensors_with_other_channels_are_refused() -> None:
    with pytest.raises(DataError, match="images must be"):
        preprocess_tensor(torch.zeros(1, 3, 8, 8), GREY)

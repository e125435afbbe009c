"""One low-pass filter in numpy, torch and Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hwnas.data.resampling import resize_float, resize_uint8, taps
from hwnas.data.tensors import resize

SIDES = st.integers(1, 70)


def picture(height: int, width: int, channels: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


@given(side=SIDES, size=SIDES, channels=st.sampled_from([1, 3]), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_whole_values_of_a_square_are_those_of_pillow(side: int, size: int, channels: int, seed: int) -> None:
    image = picture(side, side, channels, seed=seed)
    file = Image.fromarray(image if channels == 3 else image[..., 0])
    expected = np.asarray(file.resize((size, size), Image.Resampling.BILINEAR)).reshape(size, size, channels)
    np.testing.assert_array_equal(resize_uint8(image, (size, size)), expected)


@given(height=SIDES, width=SIDES, size=st.tuples(SIDES, SIDES))
@settings(deadline=None, max_examples=40)
def test_whole_values_are_rounded_after_the_width_and_after_the_height(
    height: int, width: int, size: tuple[int, int]
) -> None:
    """Pillow itself begins with either, and has changed its mind about which."""
    image = picture(height, width, 1)
    wide = Image.fromarray(image[..., 0]).resize((size[1], height), Image.Resampling.BILINEAR)
    expected = np.asarray(wide.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize_uint8(image, size)[..., 0], expected)


@given(
    height=SIDES, width=SIDES, size=st.tuples(SIDES, SIDES), channels=st.sampled_from([1, 3]), seed=st.integers(0, 9)
)
@settings(deadline=None, max_examples=60)
def test_numpy_equals_torch(height: int, width: int, size: tuple[int, int], channels: int, seed: int) -> None:
    image = picture(height, width, channels, seed=seed).astype(np.float32) / 255
    there = resize(torch.from_numpy(image).permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(resize_float(image, size), there, atol=1e-6)


@pytest.mark.parametrize(("height", "size"), [(640, (224, 224)), (333, (332, 320)), (512, (1, 499))])
def test_numpy_equals_torch_for_large_images(height: int, size: tuple[int, int]) -> None:
    """Where torch in single precision is off by a thousandth."""
    image = picture(height, 500, 1).astype(np.float32) / 255
    there = resize(torch.from_numpy(image).permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(resize_float(image, size), there, atol=1e-6)


def test_a_pattern_too_fine_for_the_new_size_becomes_its_mean() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (64, 32))[..., None]
    assert np.abs(resize_float(stripes, (16, 16)) - 0.5).max() < 0.1  # two taps would give 0 or 1
    tensor = torch.from_numpy(stripes).permute(2, 0, 1)[None]
    assert float((resize(tensor, (16, 16)) - 0.5).abs().max()) < 0.1


def test_an_enlarged_image_is_what_plain_bilinear_gives() -> None:
    x = torch.rand(2, 3, 8, 8)
    plain = torch.nn.functional.interpolate(x, (24, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(x, (24, 24)), plain, atol=2e-6, rtol=0)


def test_an_image_of_the_right_size_is_left_alone() -> None:
    x = torch.rand(1, 1, 8, 8)
    assert resize(x, (8, 8)) is x


def test_a_resized_batch_keeps_its_memory_order_and_its_gradient() -> None:
    x = torch.rand(300, 3, 32, 32).contiguous(memory_format=torch.channels_last).requires_grad_()
    small = resize(x, (24, 24))
    assert small.is_contiguous(memory_format=torch.channels_last)
    small.sum().backward()
    assert x.grad is not None
    assert float(x.grad.sum()) == pytest.approx(300 * 3 * 24 * 24, rel=1e-5)


@given(size=st.integers(1, 300), side=st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_weights_sum_to_one_and_stay_inside(size: int, side: int) -> None:
    found = taps(size, side)
    assert len(found) == side
    for first, weights in found:
        assert 0 <= first < first + len(weights) <= size
        assert weights.sum() == pytest.approx(1.0)

"""Every step from an image to the network's input: numpy on the board computes what torch computed in training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hwnas.data import Preprocessing
from hwnas.data.decoding import DecodingRule, decode
from hwnas.data.tensors import normalise, resize, to_unit_range
from hwnas.errors import DataError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def colour(**changes: Any) -> Preprocessing:
    values: dict[str, Any] = {
        "shape": (32, 32, 3),
        "mean": MEAN,
        "std": STD,
        "resolution": (24, 24),
    }
    return Preprocessing.of(DecodingRule(channels=3, size=32), **(values | changes))


def photo(height: int = 60, width: int = 81) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def content(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    resolution=st.tuples(st.integers(1, 48), st.integers(1, 48)),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_numpy_equals_torch(height: int, width: int, resolution: tuple[int, int], channels: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    mean, std = MEAN[:channels], STD[:channels]
    steps = Preprocessing.of(None, shape=image.shape, mean=mean, std=std, resolution=resolution)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    there = resize(normalise(to_unit_range(x), mean=mean, std=std), resolution)[0].numpy()
    here = steps.apply(image)
    assert here.dtype == np.float32
    assert here.flags.c_contiguous
    np.testing.assert_allclose(here, there, atol=1e-6 / min(STD))


def test_the_native_resolution_is_only_normalised() -> None:
    image = np.array([[[0], [255]], [[51], [102]]], dtype=np.uint8)
    steps = Preprocessing.of(None, shape=(2, 2, 1), mean=(0.5,), std=(0.5,), resolution=(2, 2))
    np.testing.assert_allclose(steps.apply(image)[0], np.array([[-1, 1], [-0.6, -0.2]]), atol=1e-6)
    assert [step.step for step in steps.steps] == ["pixels", "scale", "normalise", "layout"]


def test_the_steps_are_listed_in_order() -> None:
    assert [step.step for step in colour().steps] == [
        "decode", "crop", "resize", "pixels", "scale", "normalise", "resize", "layout"
    ]  # fmt: skip


def test_the_steps_do_what_reading_the_training_images_does() -> None:
    data = content(photo())
    pixels = decode(data, DecodingRule(channels=3, size=32))
    rest = Preprocessing.of(None, shape=(32, 32, 3), mean=MEAN, std=STD, resolution=(24, 24))
    np.testing.assert_array_equal(colour().apply(data), rest.apply(pixels))


def test_a_path_its_content_a_pillow_image_and_an_array_are_the_same(tmp_path: Path) -> None:
    image = photo()
    path = tmp_path / "photo.png"
    path.write_bytes(content(image))
    steps = colour()
    expected = steps.apply(path)
    for source in (str(path), path.read_bytes(), image, Image.open(path), np.asarray(image)):
        np.testing.assert_array_equal(steps.apply(source), expected)


def test_an_image_is_turned_as_its_exif_data_say() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = content(photo(), exif=exif)
    upright = content(photo().transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(colour().apply(turned), colour().apply(upright))


def test_grey_pixels_become_colours_and_colours_grey_as_in_files() -> None:
    image = photo()
    grey = image.convert("L")
    np.testing.assert_array_equal(colour().apply(np.asarray(grey)), colour().apply(grey))
    one = Preprocessing.of(
        DecodingRule(channels=1, size=32), shape=(32, 32, 1), mean=(0.4,), std=(0.2,), resolution=(16, 16)
    )
    np.testing.assert_array_equal(one.apply(np.asarray(image)), one.apply(image))


# ---------------------------------------------------------------- what is refused


def test_an_image_of_another_size_is_refused_where_no_step_brings_it_to_the_right_one() -> None:
    steps = Preprocessing.of(None, shape=(8, 8, 1), mean=(0.5,), std=(0.5,), resolution=(8, 8))
    with pytest.raises(DataError, match=r"shape \(9, 8, 1\).* trained on images of the shape \(8, 8, 1\)"):
        steps.apply(np.zeros((9, 8), np.uint8))


def test_a_file_is_refused_where_training_images_were_arrays() -> None:
    steps = Preprocessing.of(None, shape=(8, 8, 1), mean=(0.5,), std=(0.5,), resolution=(8, 8))
    with pytest.raises(DataError, match="nothing says how an image file becomes one"):
        steps.apply(content(photo()))


@pytest.mark.parametrize("pixels", [np.zeros((60, 80, 3), np.float32), np.zeros((1, 60, 80, 3), np.uint8)])
def test_pixels_of_another_type_or_shape_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"must be \(H, W\) or \(H, W, C\) uint8"):
        colour().apply(pixels)


def test_pixels_with_transparency_are_refused() -> None:
    with pytest.raises(DataError, match="give the file"):
        colour().apply(np.zeros((60, 80, 4), np.uint8))


# ---------------------------------------------------------------- as data


def test_it_survives_json() -> None:
    text = json.dumps(colour().to_json())
    assert Preprocessing.from_json(json.loads(text)) == colour()


@pytest.mark.parametrize(
    ("step", "change"),
    [
        (0, {"ground": "pink"}),
        (0, {"orientation": "none"}),
        (1, {"shape": "stretched"}),
        (2, {"width": 0}),
        (2, {"filter": "cubic"}),
        (2, {"antialias": False}),
        (2, {"rounding": "up"}),
        (3, {"colour": "red"}),
        (4, {"divide_by": 1}),
        (5, {"mean": [0.1]}),
        (5, {"std": [0.0, 1.0, 1.0]}),
        (5, {"mean": [float("nan")] * 3}),
        (7, {"step": "sharpen"}),
    ],
)
def test_a_step_that_this_version_cannot_do_is_refused(step: int, change: dict[str, object]) -> None:
    steps = colour().to_json()
    steps[step] |= change
    with pytest.raises(DataError):
        Preprocessing.from_json(steps)

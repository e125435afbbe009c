"""Samples as they were found, and what notices that steps or images changed."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwnas.data import Preprocessing, load_data
from hwnas.data.decoding import DecodingRule
from hwnas.deployment import Samples
from hwnas.deployment.samples import raw_images

STEPS = Preprocessing.of(
    DecodingRule(channels=3, size=32),
    shape=(32, 32, 3),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    resolution=(24, 24),
)


def photo(kind: str = "PNG", *, seed: int = 0) -> bytes:
    """90 x 70 pixels, half of them half transparent where the format allows, turned by EXIF."""
    pixels = np.random.default_rng(seed).integers(0, 256, (70, 90, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(pixels if kind == "PNG" else pixels[..., :3]).save(file, kind, exif=exif)
    return file.getvalue()


def samples(*raw: bytes, steps: Preprocessing = STEPS) -> Samples:
    inputs = np.stack([steps.apply(image) for image in raw])
    return Samples(raw=raw, inputs=inputs, outputs=np.zeros((len(raw), 2), np.float32))


def changed(step: int, **changes: Any) -> Preprocessing:
    steps = STEPS.to_json()
    steps[step] |= changes
    return Preprocessing.from_json(steps)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_steps_that_were_done_are_no_problem(kind: str) -> None:
    assert samples(photo(kind), photo(kind, seed=1)).preprocessing_problems(STEPS) == []


@pytest.mark.parametrize(
    "steps",
    [
        Preprocessing(tuple(s for s in STEPS.steps if s.step != "crop")),
        Preprocessing((STEPS.steps[0], STEPS.steps[2], STEPS.steps[1], *STEPS.steps[3:])),
        changed(0, ground="black"),
        changed(5, mean=[0.6, 0.5, 0.4]),
        changed(5, mean=[0.4001, 0.5, 0.6]),
        changed(5, std=[0.2, 0.25, 0.31]),
        changed(6, height=23),
    ],
    ids=["no crop", "crop after", "ground", "colour order", "a little mean", "std", "size"],
)
def test_a_change_of_any_step_is_noticed(steps: Preprocessing) -> None:
    (problem,) = samples(photo()).preprocessing_problems(steps)
    assert "preprocessing" in problem


def test_a_change_of_a_step_before_a_lossy_file_is_noticed() -> None:
    assert samples(photo("JPEG")).preprocessing_problems(changed(5, std=[0.2, 0.25, 0.4]))


def test_an_image_that_is_another_is_noticed() -> None:
    kept = samples(photo())
    assert dataclasses.replace(kept, raw=(photo(seed=1),)).preprocessing_problems(STEPS)


def test_files_are_stored_as_they_are_as_long_as_there_is_room(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(files):
        path.write_bytes(photo(seed=i))
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    size = len(photo())
    raw = raw_images(pixels, files, limit_bytes=2 * size + 100)
    assert [isinstance(image, bytes) for image in raw] == [True, True, False]
    assert raw[0] == photo()
    assert all(not isinstance(image, bytes) for image in raw_images(pixels, None, limit_bytes=size))


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    kept = samples(photo(), photo("JPEG"))
    mixed = dataclasses.replace(kept, raw=(kept.raw[0], np.zeros((32, 32, 3), np.uint8)))
    mixed.write(tmp_path)
    found = Samples.read(tmp_path)
    assert found.raw[0] == kept.raw[0]
    np.testing.assert_array_equal(found.raw[1], mixed.raw[1])
    np.testing.assert_array_equal(found.inputs, kept.inputs)


@pytest.mark.parametrize("parts", [("",), ("train", "test")])
def test_the_images_of_a_folder_are_known_by_their_files(parts: tuple[str, ...], tmp_path: Path) -> None:
    for part in parts:
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(12):
                (tmp_path / part / name / f"{i}.png").write_bytes(photo(seed=hash((part, name, i)) % 1000))
    data = load_data(f"folder:{tmp_path}?size=32", seed=0)
    steps = Preprocessing.of(
        data.decoding, shape=(32, 32, data.in_channels), mean=data.mean, std=data.std, resolution=(24, 24)
    )
    rest = Preprocessing.of(None, shape=(32, 32, 3), mean=data.mean, std=data.std, resolution=(24, 24))
    for part in (data.train, data.validation, data.test):
        assert part.files is not None
        for path, pixels, label in zip(part.files, part.inputs, part.targets, strict=True):
            assert path.parent.name == data.class_names[label]
            np.testing.assert_array_equal(steps.apply(path), rest.apply(pixels))

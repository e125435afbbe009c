"""Several inputs of samples as rows."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hwnas.data import Preprocessing, RawData, one_row, split
from hwnas.data.rows import row_of_sample
from hwnas.errors import DataError
from hwnas.row_parts import RowPart, split_outputs

PARTS = (RowPart(name="image", shape=(2, 3, 3)), RowPart(name="age", shape=(1,)))


def inputs(n: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"image": rng.normal(size=(n, 2, 3, 3)), "age": rng.integers(0, 90, (n, 1))}


def test_rows_hold_each_input_from_its_first_to_its_last_number() -> None:
    given = inputs()
    rows = one_row(given)
    assert (rows.shape, rows.dtype) == ((20, 19), np.float32)
    apart = split_outputs(rows, PARTS)
    for name, array in given.items():
        np.testing.assert_array_equal(apart[name], array.astype(np.float32))
    np.testing.assert_array_equal(rows, one_row(list(given.values())))


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "not none"), ({"a": np.zeros((2, 3)), "b": np.zeros((3, 3))}, "as many each, not a float64 (2, 3), b"),
     ({"a": np.array(["x"])}, "must be arrays of numbers")],
)  # fmt: skip
def test_what_makes_no_rows_is_refused(given: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(DataError, match=re.escape(told)):
        one_row(given)


def test_a_sample_is_given_by_name_in_order_or_as_a_row() -> None:
    given = inputs(1)
    sample = {name: array[0] for name, array in reversed(given.items())}
    row = one_row(given)[0]
    for form in (sample, (sample["image"], sample["age"]), row):
        np.testing.assert_array_equal(row_of_sample(form, PARTS), row)


@pytest.mark.parametrize(
    ("sample", "told"),
    [({"image": np.zeros((2, 3, 3))}, "a sample has the inputs image 2x3x3, age 1; given are: image"),
     ({"image": np.zeros((3, 3, 2)), "age": np.zeros(1)}, "the input image 2x3x3 of a sample is given as float64 of"),
     ((np.zeros(1), np.zeros((2, 3, 3))), "the input image 2x3x3 of a sample is given as float64 of shape (1,)"),
     (np.zeros(18), "give them by name, in order, or as one row of 19")],
)  # fmt: skip
def test_another_sample_is_refused(sample: object, told: str) -> None:
    with pytest.raises(DataError, match=re.escape(told)):
        row_of_sample(sample, PARTS)


def test_a_source_gives_them_by_name() -> None:
    raw = RawData(name="two", train=(inputs(), np.arange(20) % 2))
    data = split(raw, seed=0)
    assert data.input_shape == (19,)
    assert not data.are_images
    with pytest.raises(DataError, match="training samples: several inputs must be of the same samples"):
        split(RawData(name="two", train=({"a": np.zeros((4, 2)), "b": np.zeros((5, 2))}, np.arange(4) % 2)), seed=0)


def test_other_parts_of_a_data_set_are_brought_to_the_order_of_the_training_samples() -> None:
    given = inputs()
    classes = np.arange(20) % 2
    other = dict(reversed(given.items()))
    data = split(RawData(name="two", train=(given, classes), test=(other, classes)), seed=0)
    assert data.inputs == PARTS
    np.testing.assert_array_equal(data.test.inputs, one_row(given))


@pytest.mark.parametrize(
    ("test", "told"),
    [({"image": np.zeros((4, 2, 3, 3)), "years": np.zeros((4, 1))}, "test samples have the inputs image 2x3x3, years"),
     (np.zeros((4, 19)), "test samples have the inputs one without a name, and training samples image 2x3x3, age 1"),
     ({"image": [[1], [2, 3]], "age": np.zeros((2, 1))}, "test samples: input 'image' is not one array")],
)  # fmt: skip
def test_parts_of_other_inputs_are_refused(test: object, told: str) -> None:
    raw = RawData(name="two", train=(inputs(), np.arange(20) % 2), test=(test, np.arange(4) % 2))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=re.escape(told)):
        split(raw, seed=0)


def test_each_channel_of_an_input_has_one_mean_and_a_manifest_says_it_once() -> None:
    rng = np.random.default_rng(0)
    given = {"image": rng.normal(size=(40, 2, 8, 8)) + np.array([[[3]], [[50]]]), "age": rng.integers(0, 90, (40, 1))}
    data = split(RawData(name="two", train=(given, np.arange(40) % 2)), seed=0)
    assert len(data.mean) == 2 * 64 + 1
    assert len(set(data.mean)) == 3
    assert data.mean[0] == pytest.approx(3, abs=0.1)
    steps = Preprocessing.of_numbers(data.input_shape, mean=data.mean, std=data.std)
    assert len(str(steps.to_json())) < 500
    row = one_row(given)[0]
    np.testing.assert_array_equal(
        Preprocessing.from_json(steps.to_json()).apply(row), (row - np.float32(data.mean)) / np.float32(data.std)
    )
    assert "of 64, 64, 1 channels in their order" in steps.steps[-1].describe()

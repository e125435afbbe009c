"""Several inputs of samples as rows."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hwnas.data import RawData, one_row, split
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

"""Several outputs in one row, and apart."""

from __future__ import annotations

import numpy as np
import torch

from hwnas.row_parts import RowPart, columns, split_outputs

PARTS = (RowPart(name="boxes", shape=(4,)), RowPart(name="mask", shape=(1, 2, 3)))


def test_a_row_is_taken_apart_in_the_parts_order_and_shapes() -> None:
    row = np.arange(20.0).reshape(2, 10)
    found = split_outputs(row, PARTS)
    assert {name: values.shape for name, values in found.items()} == {"boxes": (2, 4), "mask": (2, 1, 2, 3)}
    assert np.array_equal(np.concatenate([v.reshape(2, -1) for v in found.values()], 1), row)
    assert [place for _, place in columns(PARTS)] == [slice(0, 4), slice(4, 10)]


def test_tensors_are_taken_apart_as_arrays_are_and_keep_their_gradients() -> None:
    row = torch.arange(10.0)[None].requires_grad_()
    split_outputs(row, PARTS)["mask"].sum().backward()
    assert row.grad is not None
    assert row.grad.tolist() == [[0.0] * 4 + [1.0] * 6]

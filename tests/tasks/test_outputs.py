"""The task of networks that learn a given network's outputs, whatever these are."""

from __future__ import annotations

import pytest
import torch

from hwnas.row_parts import RowPart
from hwnas.tasks import make_task, score_of
from hwnas.tasks.outputs import Outputs

PARTS = (RowPart(name="large", shape=(2, 3, 3)), RowPart(name="small", shape=(4,)))
SIZE = 22


def task() -> Outputs:
    found = make_task("outputs")
    assert isinstance(found, Outputs)
    found.parts = PARTS
    return found


def rows(n: int = 50, *, seed: int = 0) -> torch.Tensor:
    """Of two outputs whose units differ by a thousand."""
    x = torch.randn(n, SIZE, generator=torch.Generator().manual_seed(seed))
    x[:, :18] *= 1000
    return x + 5


def test_every_output_counts_alike_whatever_its_unit_and_size() -> None:
    t, off = rows(), rows()
    off[:, :18] *= 0.5
    only_large = float(task().distill(off, t))
    off = rows()
    off[:, 18:] *= 0.5
    assert float(task().distill(off, t)) == pytest.approx(only_large)
    assert only_large == pytest.approx(0.125)  # the mean of a quarter and nothing
    assert float(task().distill(t, t)) == 0
    assert task().divergence(off, t) == pytest.approx(only_large)


def test_agreement_is_the_mean_over_outputs_of_the_variance_that_is_told() -> None:
    t = rows(2000)
    assert score_of(task(), [(t, t)]).value == 1
    mean = t.clone()
    mean[:, :18] = mean[:, :18].reshape(-1, 2, 9).mean((0, 2)).repeat_interleave(9)
    found = score_of(task(), [(mean[:1000], t[:1000]), (mean[1000:], t[1000:])])
    assert found.value == pytest.approx(0.5, abs=1e-3)  # of one output nothing but each channel's mean, of one all
    assert found.measures["output large"] == pytest.approx(0, abs=1e-3)
    assert found.measures["output small"] == 1
    assert 0 < found.standard_error < 0.1


def test_an_output_that_never_changes_is_right_or_not() -> None:
    t = rows()
    t[:, 18:] = 3.0
    assert score_of(task(), [(t, t)]).value == 1
    off = t.clone()
    off[:, 18:] = 4.0
    assert score_of(task(), [(off, t)]).value == pytest.approx(0.5)


@pytest.mark.parametrize(("unit", "offset"), [(1e-8, 0.0), (1.0, 1e5)])
def test_an_output_of_any_unit_is_scored_by_what_varies(unit: float, offset: float) -> None:
    t = rows(500).double()
    t[:, 18:] = t[:, 18:] * unit + offset
    off = t.clone()
    off[:, 18:] = off[:, 18:].mean(0)
    assert score_of(task(), [(off, t)]).measures["output small"] == pytest.approx(0, abs=1e-2)


def test_a_network_of_one_output_of_any_shape_is_taken_as_well() -> None:
    found = Outputs()
    t = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert score_of(found, [(t, t)]).value == 1
    assert score_of(found, [(t + 0.1, t)]).value < 1
    assert float(found.loss(t, t)) == 0
    assert set(found.split(t)) == {"output"}
    assert found.fits((3, 4, 4), n_outputs=None)
    assert not found.fits((3, 4, 4), n_outputs=10)  # labels of somebody else's

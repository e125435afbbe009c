"""What the several outputs of a module are called."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hwnas.graph.joining import output_parts
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.tracing import trace_with_numbers

Found = namedtuple("Found", "boxes scores")


class Returns(nn.Module):
    def __init__(self, how: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.maps, self.row, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), how

    def forward(self, x: Tensor) -> Any:
        y = self.maps(x)
        return self.how(y, self.row(y.mean((2, 3))))


@pytest.mark.parametrize(
    ("how", "names"),
    [
        (lambda y, z: (y, z), ["output_0", "output_1"]),
        (lambda y, z: [y, z], ["output_0", "output_1"]),
        (lambda y, z: {"map": y, "the row": z}, ["map", "the_row"]),
        (Found, ["boxes", "scores"]),
        (lambda y, z: {"heads": [y, z], "sum": z + 1}, ["heads.0", "heads.1", "sum"]),
        (lambda y, z: (y, None, z), ["output_0", "output_2"]),
        (lambda y, z: (y, (z, z + 1)), ["output_0", "output_1.0", "output_1.1"]),
    ],
)
def test_outputs_have_the_names_that_the_result_gives_them(how: Callable[..., Any], names: list[str]) -> None:
    module, x = Returns(how).eval(), torch.randn(2, 3, 6, 6)
    graph, numbers = trace_with_numbers(module, x, join=True)
    assert [part.name for part in output_parts(graph)] == names
    made = OpGraphModule(graph)
    made.load_state_dict(numbers)
    given = [y for y in torch.utils._pytree.tree_leaves(module(x)) if y is not None]
    assert torch.equal(made.eval()(x), torch.cat([y.flatten(1) for y in given], 1))


def test_a_tuple_of_one_is_one_output_as_it_is() -> None:
    graph, _ = trace_with_numbers(Returns(lambda y, z: [y]), torch.zeros(1, 3, 6, 6), join=True)
    assert output_parts(graph) == ()
    assert graph.by_name[graph.outputs[0]].shape == (4, 4, 4)


def test_names_can_be_given() -> None:
    module = Returns(lambda y, z: (y, z))
    graph, _ = trace_with_numbers(module, torch.zeros(1, 3, 6, 6), join=True, names=["a", "b"])
    assert [part.name for part in output_parts(graph)] == ["a", "b"]

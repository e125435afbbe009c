"""Modules from graphs: names, parts, and what can be done with them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call

from hwnas.errors import GraphError
from hwnas.graph import GraphBuilder, Op, OpGraph, Value
from hwnas.spaces.adapted.kind import block_of
from hwnas.spaces.kinds import block_graph
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.pure import to_pure
from hwnas.supernet.quantization.region import QuantizedBlock
from hwnas.supernet.subnetwork import BlockModule
from hwnas.supernet.tracing import trace
from hwnas.testing.exporter_suite import sample_blocks

BLOCKS = sample_blocks("ffff", act="hswish", se_channels=4, features=16)
SUM, HEAD = BLOCKS[1], BLOCKS[3]  # with an addition; with a hidden layer


def _module(block=SUM) -> OpGraphModule:
    torch.manual_seed(0)
    return OpGraphModule(block_graph(block)).eval()


def _image(block=SUM, batch=3) -> torch.Tensor:
    return torch.randn(batch, *block.in_shape, generator=torch.Generator().manual_seed(1))


def test_parameters_are_named_by_the_graph_in_its_order() -> None:
    graph = block_graph(SUM)
    statistics = {name for name, _ in _module().named_buffers()}
    assert [name for name, _ in _module().named_parameters()] == [w.name for w in graph.weights() if w.trained]
    assert {w.name for w in graph.weights() if not w.trained} <= statistics


def test_the_seed_gives_the_numbers_torch_gives_its_layers() -> None:
    module = _module(HEAD)
    torch.manual_seed(0)
    layers = [nn.Conv2d(12, 32, 1, bias=False), nn.Linear(32, 16), nn.Linear(16, 10)]
    found = [module.conv.conv.weight, module.mix.weight, module.classifier.weight]
    assert all(torch.equal(p, layer.weight) for p, layer in zip(found, layers, strict=True))


def test_what_names_have_in_common_is_a_part_that_computes() -> None:
    module, seen = _module(), []
    module.se.register_forward_hook(lambda m, args, y: seen.append((len(args), tuple(y.shape))))
    module(_image())
    assert seen == [(1, (3, 8, 6, 6))]


def test_names_that_come_back_later_are_no_part() -> None:
    g = GraphBuilder()
    x = g.input((2, 4, 4))
    y = g.op("relu", g.conv2d(g.conv2d(x, 3, name="a.one"), 3, name="b.two"), name="a.act")
    module = OpGraphModule(g.build(y))
    images = torch.randn(2, 2, 4, 4)
    assert torch.equal(module(images), module.b.two(module.a.one(images)).relu())


def test_an_operator_may_have_the_name_that_others_begin_with() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.op("relu", g.input((2, 4, 4)), name="a.act"), 3, name="a")
    module = OpGraphModule(g.build(x))
    images = torch.randn(2, 2, 4, 4)
    assert torch.equal(module(images), module.a(images.relu()))


def test_a_part_may_take_and_give_several_values() -> None:
    g = GraphBuilder()
    x, y = g.input((4,), name="x"), g.input((4,), name="y")
    total, product = g.op("add", x, y, name="p.sum"), g.op("mul", g.op("relu", x, name="p.act"), y, name="p.product")
    module = OpGraphModule(g.build(g.op("sub", total, product, name="out"), product))
    a, b = torch.randn(2, 4), torch.randn(2, 4)
    found = module(a, b)
    assert torch.equal(found[0], a + b - a.relu() * b)
    assert torch.equal(found[1], a.relu() * b)


def test_it_can_be_traced_exported_copied_and_pickled() -> None:
    for block in (SUM, HEAD):
        module, x = _module(block), _image(block)
        expected = module(x)
        others = [
            torch.jit.trace(module, x),
            to_pure(module),
            torch.export.export(module, (x,)).module(),
            copy.deepcopy(module),
            pickle.loads(pickle.dumps(module)),
        ]
        for other in others:
            assert torch.equal(other(x), expected)


def test_it_computes_on_other_weights() -> None:
    module, x = _module(), _image()
    zeros = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    assert torch.equal(functional_call(module, zeros, (x,), strict=False), x)  # only what is added is left


def test_storage_is_not_needed_to_know_the_names() -> None:
    with torch.device("meta"):
        module = OpGraphModule(block_graph(SUM))
    assert all(p.is_meta for p in module.parameters())


def test_operators_without_a_rule_are_named_with_their_places() -> None:
    graph = OpGraph(
        values=(Value(name="x", shape=(4,)), Value(name="y", shape=(4,))),
        ops=(Op(name="layers.3", kind="fourier", inputs=("x",), outputs=("y",)),),
        inputs=("x",),
        outputs=("y",),
    )
    with pytest.raises(GraphError, match=r"no rule here for fourier \('layers.3'\); known: .*conv2d"):
        OpGraphModule(graph)


def test_a_name_that_torch_has_for_its_own_is_refused() -> None:
    g = GraphBuilder()
    with pytest.raises(GraphError, match="'forward' cannot be a module of that name"):
        OpGraphModule(g.build(g.op("relu", g.input((4,)), name="forward")))


@pytest.mark.parametrize("name", ["block", "label", "labels", "layer", "plan", "result"])
def test_a_networks_modules_may_be_called_as_ours_would(name: str) -> None:
    network = nn.Sequential()
    network.add_module(name, nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    graph = trace(network, torch.zeros(1, 1, 8, 8))
    module = QuantizedBlock(BlockModule(block_of(graph, precision="int8"), graph=graph))
    assert {path.partition(".")[0] for path, _ in module.named_parameters()} == {name}
    assert module(torch.randn(3, 1, 8, 8)).shape == (3, 4, 8, 8)

"""Regions and branches of traced networks: the chain computes what the module computes, and blocks are people's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hwnas.graph import Op, OpGraph
from hwnas.graph.elasticity.branches import branches, without
from hwnas.graph.elasticity.regions import Region, droppable, regions
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.tracing import trace

from .conftest import randomise_norms
from .networks import NETWORKS, Attention, conv, network


class Basic(nn.Module):
    """Two convolutions and a sum (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act = nn.ReLU()
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Basic(8, 8), Basic(8, 8))
        self.layer2 = nn.Sequential(Basic(8, 12, 2), Basic(12, 12))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer2(self.layer1(x))), 1))


class Inverted(nn.Module):
    """Expand, look around, project (Sandler et al., 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual, middle = stride == 1 and inputs == outputs, 2 * inputs
        around = conv(middle, middle, stride=stride, groups=middle)
        self.conv = nn.Sequential(
            conv(inputs, middle, 1), around, nn.Conv2d(middle, outputs, 1), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNet(nn.Module):
    """`features` of a stem, blocks with and without a sum, and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [Inverted(8, 12, 2), Inverted(12, 12, 1), Inverted(12, 12, 1), Inverted(12, 16, 1)]
        self.features = nn.Sequential(conv(3, 8, stride=2), *blocks, conv(16, 24, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(24, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [m for i in (3, 6, 6) for m in (nn.Conv2d(i, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))]
        self.features, self.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class DenseNet(nn.Module):
    """Blocks whose layers read all before them, and transitions that begin with their norm (Huang et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.blocks = nn.ModuleList(nn.ModuleList(conv(4 + 3 * i, 3) for i in range(3)) for _ in range(2))
        transition = nn.Sequential(nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 4, 1), nn.AvgPool2d(2))
        self.transition, self.head = transition, nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i, layers in enumerate(self.blocks):
            found = [x]
            for layer in layers:
                found.append(layer(torch.cat(found, 1)))
            x = torch.cat(found, 1)
            x = self.transition(x) if i == 0 else x
        return self.head(x.mean((2, 3)))


class Layer(nn.Module):
    """A transformer's layer that begins with its norms, left out by chance while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(8), Attention(8, 2), nn.LayerNorm(8)
        self.mlp, self.scale = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)), nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.attn(self.norm1(x))
        if self.training:
            y = y * y.new_empty((y.shape[0], 1, 1)).bernoulli_(0.8).div_(0.8)
        x = x + y
        return x + self.scale * self.mlp(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks = nn.Conv2d(3, 8, 4, 4), nn.Sequential(*(Layer() for _ in range(3)))
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Skips(nn.Module):
    """A stem and a last layer around what leads down and up again (Ronneberger et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.deep = conv(3, 4), conv(4, 6, stride=2), conv(6, 6)
        self.up, self.join, self.out = nn.ConvTranspose2d(6, 4, 2, 2), conv(8, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(self.join(torch.cat([x, self.up(self.deep(self.down(x)))], 1)))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "mobilenet": MobileNet,
    "vgg": VGG,
    "densenet": DenseNet,
    "transformer": Transformer,
    "skips": Skips,
}


@cache
def made(name: str) -> tuple[nn.Module, tuple[Tensor, ...], OpGraph]:
    """A network that computes with random numbers everywhere, what it is called with, and its graph."""
    if name in NETWORKS:
        module, inputs = network(name)
    else:
        torch.manual_seed(0)
        module, inputs = FAMILIES[name](), (torch.randn(2, 3, 16, 16)[..., : 8 if name == "transformer" else 16, :8],)
        randomise_norms(module)
    return module, inputs, trace(module, inputs)


def run(graph: OpGraph, module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a graph computes with the module's own numbers."""
    built = OpGraphModule(graph).eval()
    given = module.state_dict(keep_vars=True)
    built.load_state_dict({k: v for k, v in given.items() if k in built.state_dict()})
    with torch.no_grad():
        return tuple(tree_leaves(built(*inputs)))


def always(ops: Sequence[Op]) -> bool:
    return True


def never(ops: Sequence[Op]) -> bool:
    return False


def names(chain: Sequence[Region]) -> list[str]:
    return [region.name for region in chain]


@pytest.mark.parametrize("fits", [always, never])
@pytest.mark.parametrize("name", [*NETWORKS, *FAMILIES])
def test_the_chain_computes_what_the_module_computes(name: str, fits: Callable[[Sequence[Op]], bool]) -> None:
    module, inputs, graph = made(name)
    values: Sequence[Tensor] = inputs
    for region in regions(graph, fits=fits):
        values = run(region.graph, module, values)
    with torch.no_grad():
        expected = tree_leaves(module.eval()(*inputs))
    assert len(values) == len(expected)
    for y, z in zip(values, expected, strict=True):
        torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*NETWORKS, *FAMILIES])
def test_each_operator_is_in_one_region_and_each_region_multiplies(name: str) -> None:
    graph = made(name)[2]
    chain = regions(graph, fits=never)
    in_regions = [op.name for region in chain for op in region.graph.ops]
    constant = {op.name for op in graph.ops if not any(v.batched for v in graph.output_values(op))}
    assert sorted(n for n in in_regions if n not in constant) == sorted({op.name for op in graph.ops} - constant)
    assert len(set(names(chain))) == len(chain)
    assert {w.name for region in chain for w in region.graph.weights()} == {w.name for w in graph.weights()}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet", ["conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"]),
        ("mobilenet", [*(f"features.{i}" for i in range(6)), "classifier"]),
        ("densenet", ["stem", "blocks.0", "transition", "blocks.1", "head"]),
        ("transformer", ["patch", "blocks.0", "blocks.1", "blocks.2", "head"]),
        ("skips", ["stem", "down", "join", "out"]),
        ("residual", ["stem", "body", "head"]),
    ],
)
def test_regions_are_what_people_call_blocks(name: str, blocks: list[str]) -> None:
    assert names(regions(made(name)[2], fits=always)) == blocks


def test_a_row_of_layers_is_parted_where_it_does_not_fit() -> None:
    chain = regions(made("vgg")[2], fits=lambda ops: sum(op.kind == "conv2d" for op in ops) < 2)
    assert names(chain) == ["features.0", "features.3", "features.6", "classifier"]
    pooled = [[op.kind for op in region.graph.ops] for region in chain]
    assert pooled[0] == ["conv2d", "relu", "max_pool2d"]
    assert pooled[-1] == ["adaptive_avg_pool2d", "reshape", "linear", "relu", "dropout", "linear"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet", ["layer1.0", "layer1.1", "layer2.1"]),
        ("mobilenet", ["features.2", "features.3"]),
        ("transformer", [f"blocks.{i}.{part}" for i in range(3) for part in ("attn", "mlp")]),
        ("residual", ["body"]),
        ("squeeze-excite", ["reduce"]),
        ("vgg", []),
        ("densenet", []),
    ],
)
def test_branches_are_the_sums_of_blocks(name: str, expected: list[str]) -> None:
    graph = made(name)[2]
    found = branches(graph)
    assert [b.name for b in found] == expected
    dropped = [b.name for r in regions(graph, fits=always) for b in droppable(r, found)]
    assert dropped == expected


def test_without_a_branch_the_network_computes_as_if_it_gave_nothing() -> None:
    module, inputs, graph = made("resnet")
    module.eval()
    less = run(without(graph, ["layer1.1", "layer2.1"]), module, inputs)
    assert less[0].sub(run(graph, module, inputs)[0]).abs().max() > 1e-3
    zeroed = ResNet().eval()
    zeroed.load_state_dict(module.state_dict())
    with torch.no_grad():
        for block in (zeroed.layer1[1], zeroed.layer2[1]):
            assert isinstance(block, Basic)
            block.bn2.weight.zero_()
            block.bn2.bias.zero_()
        torch.testing.assert_close(less[0], zeroed(*inputs), rtol=1e-5, atol=1e-6)

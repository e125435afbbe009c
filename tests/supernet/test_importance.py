"""Orders of importance: what a network does without goes first, and nothing else decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.supernet.importance import ORDERS, Largest, rank_

from .networks import network
from .test_adapted import ONE_TO_ONE, Mobile, adapted, of


class Two(nn.Module):
    """Two layers that read the same channels, one of them at another scale; `divided` makes up for it."""

    def __init__(self, divided: float = 1.0) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
        self.head, self.divided = nn.Linear(4, 3), divided

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head((self.a(x) * self.divided + self.b(x)).mean((2, 3)))


def alive() -> nn.Module:
    """With random numbers, and the statistics of some data, so that every activation lets something pass."""
    torch.manual_seed(0)
    module = Mobile()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape) * 0.2)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 1.0  # of the last batch alone
        module.train()(torch.randn(64, 3, 16, 16))
    return module.eval()


def orders(supernet: AdaptedSupernet) -> dict[str, list[int]]:
    dims = supernet.space.network.dependencies.dims
    return {d.name: supernet.order(i).tolist() for i, d in enumerate(dims)}


def worths(how: str, supernet: AdaptedSupernet, batches: list[tuple[Tensor, Tensor]]) -> dict[str, np.ndarray]:
    found = ORDERS[how](Largest.of(supernet, batches), batches, F.cross_entropy)
    return dict(zip(orders(supernet), found, strict=True))


def batches(n: int = 2, *, classes: int = 4, side: int = 16) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 3, side, side, generator=draw), torch.randint(classes, (8,), generator=draw)) for _ in range(n)
    ]


def _silence_(module: nn.Module, units: list[int]) -> None:
    """By normalisations that multiply by nothing."""
    for norm in (module.blocks[0][1], module.blocks[0][4]):
        norm.weight[units] = norm.bias[units] = 0.0


def _ignore_(module: nn.Module, units: list[int]) -> None:
    """By weights of 0 where they are read."""
    module.blocks[0][6].weight[:, units] = 0.0


def _hold_(module: nn.Module, units: list[int]) -> None:
    """By a value that never changes, which statistics make up for."""
    module.blocks[0][4].weight[units], module.blocks[0][4].bias[units] = 0.0, 3.0


@pytest.mark.parametrize(
    ("how", "make_useless_"),
    [
        ("magnitude", _silence_),
        ("taylor", _silence_),
        ("taylor", _ignore_),
        ("measured", _silence_),
        ("measured", _ignore_),
        ("measured", _hold_),
    ],
)
@pytest.mark.parametrize("units", [[0, 3], [7, 8, 15]])
def test_units_that_do_nothing_are_last(how: str, make_useless_: object, units: list[int]) -> None:
    module = alive()
    with torch.no_grad():
        make_useless_(module, units)  # type: ignore[operator]
    _, supernet = adapted(module, torch.randn(1, 3, 16, 16))
    rank_(supernet, how, batches=batches())
    assert sorted(orders(supernet)["blocks.0.0"][-len(units) :]) == units


@pytest.mark.parametrize("how", ["taylor", "measured"])
@pytest.mark.parametrize("useless", [0, 1])
def test_a_head_that_nobody_reads_is_last(how: str, useless: int) -> None:
    module, inputs = network("vit")
    with torch.no_grad():
        module.attention.proj.weight[:, 4 * useless : 4 * useless + 4] = 0.0  # type: ignore[union-attr, index, operator]
    _, supernet = adapted(module.eval(), inputs[0])
    rank_(supernet, how, batches=[(inputs[0], torch.tensor([0, 3]))])
    assert orders(supernet)["attention.qkv"] == [1 - useless, useless]


def test_of_units_of_equal_worth_the_first_stay() -> None:
    module = alive()
    with torch.no_grad():
        _ignore_(module, [2, 9, 4])
    _, supernet = adapted(module, torch.randn(1, 3, 16, 16))
    rank_(supernet, "measured", batches=batches())
    assert orders(supernet)["blocks.0.0"][-3:] == [2, 4, 9]


def test_without_its_worthless_units_a_network_is_the_same() -> None:
    module = alive()
    with torch.no_grad():
        _silence_(module, [0, 1, 5, 8])
    space, supernet = adapted(module, torch.randn(1, 3, 16, 16))
    rank_(supernet, "measured", batches=batches())
    smaller = supernet.extract(space.named_blocks(of(space, blocks__0__0__width=0.75)))
    x = batches()[0][0]
    torch.testing.assert_close(smaller(x), module(x))


@pytest.mark.parametrize("how", ["magnitude", "measured"])
def test_the_scale_of_a_layer_does_not_matter(how: str) -> None:
    torch.manual_seed(0)
    one, other = Two().eval(), Two(divided=0.1).eval()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        other.a.weight *= 10
        other.a.bias *= 10
        other.stem.weight *= 10
        other.stem.bias *= 10
        for layer in (other.a, other.b):
            layer.weight /= 10
    given_ = batches(classes=3, side=8)
    x = given_[0][0]
    torch.testing.assert_close(one(x), other(x))
    found = [worths(how, adapted(m, x)[1], given_)["stem"] for m in (one, other)]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_measured_is_what_the_layers_that_read_a_unit_lose() -> None:
    torch.manual_seed(0)
    module, data = Two().eval(), batches(classes=3, side=8)
    found = worths("measured", adapted(module, data[0][0])[1], data)["stem"]
    x = F.relu(module.stem(torch.cat([x for x, _ in data])))
    lost = torch.zeros(2, 8)
    for unit in range(8):
        without = x.clone()
        without[:, unit] = 0.0
        for i, layer in enumerate((module.a, module.b)):
            lost[i, unit] = (layer(x) - layer(without)).square().mean()
    np.testing.assert_allclose(found, (lost / lost.mean(1, keepdim=True)).sum(0).detach(), rtol=1e-4)


def test_taylor_is_the_squared_first_order_change_of_the_loss() -> None:
    torch.manual_seed(0)
    module, data = Two().eval(), batches(3, classes=3, side=8)
    found = worths("taylor", adapted(module, data[0][0])[1], data)["stem"]
    expected = torch.zeros(8)
    for x, labels in data:
        gates = [torch.ones(8, requires_grad=True) for _ in range(3)]
        y = F.relu(F.conv2d(x, module.stem.weight * gates[0][:, None, None, None], module.stem.bias))
        a, b = (layer(y * g[:, None, None]) for layer, g in zip((module.a, module.b), gates[1:], strict=True))
        loss = F.cross_entropy(module.head((a + b).mean((2, 3))), labels)
        expected += sum(g.square() for g in torch.autograd.grad(loss, gates)) / 3
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_magnitude_counts_rows_as_the_normalisation_behind_scales_them() -> None:
    module = alive()
    data = batches()
    _, supernet = adapted(module, data[0][0])
    expand, norm = module.blocks[0][0], module.blocks[0][1]  # type: ignore[index]
    with torch.no_grad():  # computes the same
        scale = torch.rand(16) + 0.5
        expand.weight *= scale[:, None, None, None]
        norm.running_mean *= scale
        norm.running_var.add_(norm.eps).mul_(scale**2).sub_(norm.eps)
    _, scaled = adapted(module, data[0][0])
    np.testing.assert_allclose(*(worths("magnitude", s, [])["blocks.0.0"] for s in (supernet, scaled)), rtol=1e-4)


@pytest.mark.parametrize("how", ORDERS)
@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_every_network_is_ranked_and_each_time_alike(name: str, how: str) -> None:
    module, inputs = network(name)
    found = []
    for _ in range(2):
        _, supernet = adapted(module.eval(), inputs[0])
        rank_(supernet, how, batches=[(inputs[0], inputs[0])], loss=lambda outputs, _: outputs.square().mean())
        found.append(orders(supernet))
    assert found[0] == found[1]
    sizes = {d.name: d.size for d in supernet.space.network.dependencies.dims}
    assert {n: sorted(order) for n, order in found[0].items()} == {n: list(range(size)) for n, size in sizes.items()}


def test_statistics_of_trained_weights_come_from_the_batches() -> None:
    data, found = batches(), []
    for stale in (1.0, 50.0):
        module = alive()
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if "running" in name:
                    buffer.mul_(torch.linspace(1, stale, len(buffer)))
        _, supernet = adapted(module, data[0][0])
        supernet.is_given = False
        rank_(supernet, "measured", batches=[x for x, _ in data])
        found.append(orders(supernet))
    assert found[0] == found[1]
    with pytest.raises(ValueError, match="needs at least one batch"):
        rank_(supernet, "magnitude")


def test_what_an_order_lacks_is_said() -> None:
    x = batches()[0][0]
    _, supernet = adapted(alive(), x)
    with pytest.raises(ValueError, match="'best' is no order of importance; known: magnitude, taylor, measured"):
        rank_(supernet, "best")
    for how in ("taylor", "measured"):
        with pytest.raises(ValueError, match=f"'{how}' needs batches"):
            rank_(supernet, how)
    with pytest.raises(ValueError, match="'taylor' needs labels"):
        rank_(supernet, "taylor", batches=[x])

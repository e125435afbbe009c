"""A given network as a supernet: the largest sub-network is the given one, the others are its parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.data.arrays import ArrayDataset
from hwnas.errors import SpaceError
from hwnas.spaces.adapted import AdaptedSpace
from hwnas.spaces.adapted.wishes import Wishes, adapt
from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.supernet.batches import BatchStream
from hwnas.supernet.distillation import Teacher
from hwnas.supernet.recalibration import keep_statistics_, recalibrate
from hwnas.supernet.settings import TrainSettings
from hwnas.supernet.strategies import SandwichRule
from hwnas.supernet.tracing import trace
from hwnas.supernet.training import Trainer
from hwnas.tasks.classification import Classification
from hwnas.types import IntArray

from .networks import NETWORKS, network


class Mobile(nn.Module):
    """A stem, residual blocks with a kernel of 5, a head."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
                nn.Conv2d(16, 16, 5, 1, 2, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
                nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8),
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


def given(blocks: int = 2) -> nn.Module:
    """A network with random numbers everywhere, norms included, whose activations are alive."""
    torch.manual_seed(0)
    module = Mobile(blocks)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape) * 0.2)
        for path, buffer in module.named_buffers():
            if path.endswith("mean"):
                buffer.copy_(torch.randn(buffer.shape) * 0.1)
            elif path.endswith("var"):
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.bias.add_(1.0)
        x = module.stem(torch.randn(4, 3, 16, 16))
        assert (module.eval().blocks[0][:6](x) > 0).flatten(2).any(2).any(0).all(), "a channel is dead"
    return module.eval()


def adapted(module: nn.Module, inputs: Tensor, **wishes: object) -> tuple[AdaptedSpace, AdaptedSupernet]:
    graph = trace(module, inputs)
    space = adapt("given", [graph], Wishes(**wishes))  # type: ignore[arg-type]
    numbers = {k: v.detach() for k, v in module.state_dict(keep_vars=True).items()}
    return space, AdaptedSupernet(space, numbers)


@pytest.fixture
def mobile() -> tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet]:
    module, x = given(), torch.randn(4, 3, 16, 16)
    return module, x, *adapted(module, x)


def of(space: AdaptedSpace, **chosen: object) -> IntArray:
    """The largest network but for these choices, dots written as two underscores."""
    return space.encode(space.decode(space.largest()) | {k.replace("__", "."): v for k, v in chosen.items()})  # type: ignore[dict-item]


ONE_TO_ONE = [name for name in NETWORKS if name not in ("two-in-two-out",)]


@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_the_largest_sub_network_is_the_given_one_with_equal_weights(name: str) -> None:
    module, inputs = network(name)
    module.eval()
    space, supernet = adapted(module, inputs[0])
    found = supernet.extract(space.named_blocks(space.largest()))
    with torch.no_grad():
        torch.testing.assert_close(found(inputs[0]), module(inputs[0]), rtol=1e-5, atol=1e-5)
    mine = {name.split(".", 2)[2]: p for name, p in found.named_parameters()}
    theirs = dict(module.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(p, theirs[n]) for n, p in mine.items())
    assert found.statistics_hold


@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_an_extracted_network_computes_what_the_active_one_does(name: str) -> None:
    module, inputs = network(name)
    space, supernet = adapted(module, inputs[0], residual=(0.5, 1.0), multiple_of=1)
    supernet.train()
    rng = np.random.default_rng(0)
    for dim, d in enumerate(space.network.dependencies.dims):
        supernet.set_order_(dim, rng.permutation(d.size))
    for encoding in space.sample(4, rng):
        blocks = space.named_blocks(encoding)
        alone = supernet.extract(blocks).train()
        torch.manual_seed(0)  # dropout drops the same numbers
        active = supernet(inputs[0], blocks)
        torch.manual_seed(0)
        torch.testing.assert_close(active, alone(inputs[0]), rtol=1e-5, atol=1e-5)


def test_the_most_important_units_stay_in_the_given_order(
    mobile: tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet],
) -> None:
    module, _, space, supernet = mobile
    dim = space.network.dependencies.numbers["blocks.0.0"]
    supernet.set_order_(dim, np.array([9, 2, 14, 5, *(i for i in range(16) if i not in (9, 2, 14, 5))]))
    small = supernet.extract(space.named_blocks(of(space, blocks__0__0__width=0.25)))
    whole = dict(module.named_parameters())
    kept = [2, 5, 9, 14]
    found = {name.split(".", 2)[2]: p for name, p in small.named_parameters()}
    assert torch.equal(found["blocks.0.0.weight"], whole["blocks.0.0.weight"][kept])
    assert torch.equal(found["blocks.0.3.weight"], whole["blocks.0.3.weight"][kept])
    assert torch.equal(found["blocks.0.6.weight"], whole["blocks.0.6.weight"][:, kept])
    assert torch.equal(found["blocks.1.0.weight"], whole["blocks.1.0.weight"])
    with pytest.raises(ValueError, match="must name each of them once"):
        supernet.set_order_(dim, np.zeros(16, dtype=np.int64))


def test_a_smaller_kernel_is_the_centre_at_first(
    mobile: tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet],
) -> None:
    module, _, space, supernet = mobile
    small = supernet.extract(space.named_blocks(of(space, blocks__1__3__kernel_size=3)))
    found = dict(small.named_parameters())
    name = next(n for n in found if n.endswith("blocks.1.3.weight"))
    assert torch.equal(found[name], dict(module.named_parameters())["blocks.1.3.weight"][:, :, 1:-1, 1:-1])


def test_kernels_along_a_series_are_smaller_too() -> None:
    module = nn.Sequential(
        nn.Conv1d(3, 8, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(8, 8, 7, padding=6, dilation=2, groups=8),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()
    x = torch.randn(2, 3, 30)
    space, supernet = adapted(module, x)
    assert [(k.name, k.sizes) for k in space.spec.kernels] == [("2", (3, 5, 7))]
    matrix = supernet.kernels.matrices["2/3"]
    matrix.data.copy_(torch.randn(3, 3))
    small = supernet.extract(space.named_blocks(of(space, **{"2__kernel_size": 3})))
    (found,) = (p for p in small.parameters() if p.shape == (8, 1, 3))
    torch.testing.assert_close(found, module[2].weight[:, :, 2:5] @ matrix.T)
    layer = nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=8)
    layer.weight, layer.bias = nn.Parameter(found), module[2].bias
    torch.testing.assert_close(small(x), nn.Sequential(*module[:2], layer, *module[3:])(x))


def test_convolutions_that_share_a_weight_shrink_it_each_by_itself() -> None:
    """Of the block that calls it twice the kernel stays."""
    module, inputs = network("one-kernel")
    space, supernet = adapted(module.eval(), inputs[0])
    assert [k.name for k in space.spec.kernels] == ["blocks.1.around", "blocks.2.around"]
    supernet.kernels.matrices["blocks/2/around/3"].data.mul_(2)
    found = supernet.extract(
        space.named_blocks(of(space, blocks__1__around__kernel_size=3, blocks__2__around__kernel_size=3))
    )
    weights = {name.split(".")[1]: p for name, p in found.named_parameters() if name.endswith("around.weight")}
    whole = module.blocks[0]["around"].weight  # type: ignore[index, union-attr]
    torch.testing.assert_close(weights["1"], whole)
    torch.testing.assert_close(weights["2"], whole[:, :, 1:4, 1:4])
    torch.testing.assert_close(weights["3"], 2 * whole[:, :, 1:4, 1:4])


def test_gradients_reach_what_a_smaller_network_uses_and_nothing_else(
    mobile: tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet],
) -> None:
    _, x, space, supernet = mobile
    supernet.train()
    supernet(x, space.named_blocks(of(space, blocks__depth=1, blocks__0__0__width=0.5))).square().sum().backward()
    grads = {name: p.grad for name, p in supernet.named_parameters()}
    expand = grads["weights.blocks/0/0/weight"]
    assert expand is not None
    assert (expand.abs().sum((1, 2, 3)) > 0).sum() == 8
    assert grads["weights.blocks/1/0/weight"] is None


def test_statistics_hold_for_the_given_network_alone(
    mobile: tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet],
) -> None:
    _, x, space, supernet = mobile
    whole = supernet.extract(space.named_blocks(space.largest()))
    before = {k: v.clone() for k, v in whole.state_dict().items()}
    recalibrate(whole, [x])
    assert all(torch.equal(v, before[k]) for k, v in whole.state_dict().items())
    assert not supernet.extract(space.named_blocks(of(space, blocks__depth=1))).statistics_hold
    assert not supernet.extract(space.named_blocks(of(space, blocks__1__3__kernel_size=3))).statistics_hold
    supernet.is_given = False  # trained
    assert not supernet.extract(space.named_blocks(space.largest())).statistics_hold


def test_other_networks_of_the_same_weights_are_those_of_another_space(
    mobile: tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet],
) -> None:
    module, x, space, supernet = mobile
    depth = replace(space.spec.depths[0], blocks=space.spec.depths[0].blocks[::-1])
    other = AdaptedSpace("other", space.network, replace(space.spec, depths=(depth,)))
    view = supernet.with_space(other)
    assert [p.data_ptr() for p in view.parameters()] == [p.data_ptr() for p in supernet.parameters()]
    small = view.extract(other.named_blocks(of(other, blocks__depth=1)))
    assert torch.equal(small.blocks[1].get_parameter("blocks.1.0.weight"), module.get_parameter("blocks.1.0.weight"))
    first = supernet.extract(space.named_blocks(of(space, blocks__depth=1)))
    assert torch.equal(first.blocks[1].get_parameter("blocks.0.0.weight"), module.get_parameter("blocks.0.0.weight"))
    with pytest.raises(SpaceError, match="is of another network"):
        supernet.with_space(adapted(module, x)[0])


def test_numbers_that_do_not_fit_are_refused() -> None:
    module, x = given(), torch.randn(1, 3, 16, 16)
    space, _ = adapted(module, x)
    numbers = dict(module.state_dict())
    del numbers["head.bias"]
    with pytest.raises(SpaceError, match=r"weight 'head\.bias' is missing"):
        AdaptedSupernet(space, numbers)
    numbers["head.bias"] = torch.zeros(7)
    with pytest.raises(SpaceError, match=r"has the shape \(7,\); the network has \(4,\)"):
        AdaptedSupernet(space, numbers)


def test_images_are_resized_to_the_networks_resolution() -> None:
    module, x = given(), torch.randn(2, 3, 24, 24)
    graphs = [trace(module, x[..., :n, :n].contiguous()) for n in (16, 24)]
    space = adapt("two", graphs, Wishes())
    supernet = AdaptedSupernet(space, dict(module.state_dict())).train()
    small = space.named_blocks(of(space, resolution=16))
    assert small[0][1].in_shape == (3, 16, 16)
    assert supernet(x, small).shape == (2, 4)


def test_all_networks_learn_from_the_given_one(
    mobile: tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet],
) -> None:
    """A smaller network's answers come nearer to the given network's, which stays as it is, whatever the labels say."""
    _, _, space, supernet = mobile
    teacher = supernet.extract(space.named_blocks(space.largest()))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    data = ArrayDataset(inputs=images, targets=np.zeros(64, dtype=np.int64))
    stream = BatchStream(data, batch_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    trainer = Trainer(
        supernet,
        stream,
        strategy=SandwichRule(space, n_random=0),
        named_blocks=space.named_blocks,
        settings=TrainSettings(steps=30, learning_rate=0.02, label_smoothing=0.0),
    )
    trainer.learn_from(Teacher(teacher, slots=[s.name for s in space.slots]))
    x = next(iter(stream.unaugmented(64)))[0]
    small = space.named_blocks(space.smallest())

    def apart() -> float:
        with torch.no_grad():
            return Classification().divergence(recalibrate(supernet.extract(small), [x])(x), teacher(x))

    begun = apart()
    trainer.run()
    assert apart() < 0.7 * begun
    assert not supernet.is_given
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


# ---------------------------------------------------------------- frozen statistics


@pytest.mark.parametrize("name", ONE_TO_ONE)
def test_with_frozen_statistics_every_network_has_its_part_of_the_given_ones(name: str) -> None:
    module, inputs = network(name)
    for buffer_name, buffer in module.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape) * 0.1)
        elif buffer_name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    space, supernet = adapted(module, inputs[0], residual=(0.5, 1.0), multiple_of=1)
    supernet.freeze_statistics_()
    rng = np.random.default_rng(0)
    for dim, d in enumerate(space.network.dependencies.dims):
        supernet.set_order_(dim, rng.permutation(d.size))
    before = {k: v.clone() for k, v in supernet.numbers().items()}
    for encoding in space.sample(3, rng):
        blocks = space.named_blocks(encoding)
        alone = supernet.extract(blocks)
        assert alone.statistics_hold
        state = {k: v.clone() for k, v in alone.state_dict().items()}
        recalibrate(alone, [inputs[0] * 3.0])
        assert all(torch.equal(v, state[k]) for k, v in alone.state_dict().items())
        for mode in (True, False, True):
            torch.manual_seed(0)  # dropout drops the same numbers
            active = supernet.train(mode)(inputs[0], blocks)
            torch.manual_seed(0)
            keep_statistics_(alone.train(mode))
            torch.testing.assert_close(active, alone(inputs[0]), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in supernet.numbers().items())


def test_frozen_statistics_do_not_depend_on_the_batch(
    mobile: tuple[nn.Module, Tensor, AdaptedSpace, AdaptedSupernet],
) -> None:
    _, x, space, supernet = mobile
    blocks = space.named_blocks(space.smallest())
    by_batch = supernet.train()(x, blocks)[:1]
    assert not torch.allclose(by_batch, supernet(x[:1], blocks))
    supernet.freeze_statistics_()
    torch.testing.assert_close(supernet(x, blocks)[:1], supernet(x[:1], blocks))


def test_training_with_frozen_statistics_moves_weights_and_no_statistics() -> None:
    module, x = given(), torch.randn(16, 3, 16, 16)
    space, supernet = adapted(module, x[:1])
    supernet.freeze_statistics_()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    samples = ArrayDataset(inputs=pixels, targets=np.arange(16) % 4)
    stream = BatchStream(samples, batch_size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    before = {k: v.clone() for k, v in supernet.numbers().items()}
    Trainer(
        supernet,
        stream,
        strategy=SandwichRule(space, n_random=1),
        named_blocks=space.named_blocks,
        settings=TrainSettings(steps=2, learning_rate=0.01),
    ).run()
    moved = {k for k, v in supernet.numbers().items() if not torch.equal(v, before[k])}
    assert "stem.0.weight" in moved
    assert not [k for k in moved if k.endswith(("running_mean", "running_var"))]
    assert supernet.extract(space.named_blocks(space.smallest())).statistics_hold

"""A supernet that begins with another one's weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hwnas.errors import CheckpointError
from hwnas.spaces.mobilenet import MobileNetSpace
from hwnas.spaces.presets import mobilenet_mini, mobilenet_tiny, vit_tiny
from hwnas.spaces.stages import StageSpec
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.growing import grow_


def narrow(**changes: object) -> MobileNetSpace:
    """Of four classes: two stages of one or two blocks, kernels of 3 and 5."""
    return _space({"depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (2, 3)}, **{"n_classes": 4, **changes})


def wide(**changes: object) -> MobileNetSpace:
    """Of six classes: three blocks, kernels of 3 to 7, wider inside and, by a factor, outside."""
    stage = {"depths": (1, 2, 3), "kernel_sizes": (3, 5, 7), "expand_ratios": (2, 3, 4)}
    return _space(stage, **{"n_classes": 6, "width_mults": (1.0, 1.5), **changes})


def _space(stage: dict[str, tuple[float, ...]], **changes: object) -> MobileNetSpace:
    stages = [StageSpec(channels=16, stride=2, **stage), StageSpec(channels=24, stride=1, **stage)]  # type: ignore[arg-type]
    spec = dataclasses.replace(
        mobilenet_tiny().spec, stages=tuple(stages), head_channels=32, resolutions=(16,), **changes
    )
    return MobileNetSpace("made", spec)


def trained(space: MobileNetSpace) -> Supernet:
    """No weight is what a supernet begins with, ends of branches and transforms included."""
    torch.manual_seed(1)
    supernet = Supernet(space)
    with torch.no_grad():
        for p in supernet.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return supernet


def grown(space: MobileNetSpace, old: Supernet, classes: list[int | None]) -> Supernet:
    torch.manual_seed(2)
    supernet = Supernet(space)
    grow_(supernet, dict(old.named_parameters()), largest=space.named_blocks(space.largest()), classes=classes)
    return supernet


def run(supernet: Supernet, blocks: object, x: torch.Tensor) -> torch.Tensor:
    """As in training: normalised by the batch."""
    with torch.no_grad():
        return supernet.train()(x, blocks)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_every_old_network_computes_what_it_did_and_new_classes_are_new(x) -> None:
    small, large = narrow(), wide()
    old = trained(small)
    new = grown(large, old, [2, 0, None, 3, 1, None])
    import numpy as np

    for encoding in [small.smallest(), small.largest(), *small.sample(5, np.random.default_rng(0))]:
        same = {k: v for k, v in small.decode(encoding).items() if k in {c.name for c in large.choices}}
        blocks = large.named_blocks(large.encode({"width_mult": 1.0, **same}))
        before, after = run(old, small.named_blocks(encoding), x), run(new, blocks, x)
        assert torch.allclose(after[:, [0, 1, 3, 4]], before[:, [2, 0, 3, 1]], atol=1e-5)
        assert after[:, [2, 5]].abs().max() < 1.0  # of a layer that begins


def test_the_largest_begins_as_the_old_largest_though_it_is_wider_and_deeper(x) -> None:
    small, large = narrow(), wide(n_classes=4)
    old = trained(small)
    new = grown(large, old, [0, 1, 2, 3])
    before = run(old, small.named_blocks(small.largest()), x)
    assert torch.allclose(run(new, large.named_blocks(large.largest()), x), before, atol=1e-5)


def test_what_is_new_learns(x) -> None:
    small, large = narrow(), wide(n_classes=4)
    new = grown(large, trained(small), [0, 1, 2, 3])
    new.train()(x, large.named_blocks(large.largest())).square().mean().backward()
    weight = new.slots["stages/0/blocks/0"].weights["project/conv/weight"]
    assert weight.grad is not None
    assert (weight.grad[:, 48:].abs() > 0).any()  # inputs that the old one had not


def test_a_smaller_kernel_is_taken_as_the_old_supernet_had_it(x) -> None:
    large = wide(n_classes=4, width_mults=(1.0,))
    small = _space({"depths": (1, 2, 3), "kernel_sizes": (3,), "expand_ratios": (2, 3, 4)}, n_classes=4)
    old = trained(large)
    new = grown(small, old, [0, 1, 2, 3])
    chosen = {k: 3 if k.endswith("kernel_size") else v for k, v in large.decode(large.largest()).items()}
    assert chosen != large.decode(large.largest())
    blocks = large.named_blocks(large.encode(chosen))
    assert torch.allclose(run(new, small.named_blocks(small.largest()), x), run(old, blocks, x), atol=1e-5)


def test_positions_are_resized_to_more_patches() -> None:
    space = vit_tiny()
    old, new = Supernet(space), Supernet(vit_tiny())
    name = "slots.patch_embedding.weights.positions/weight"
    parameters = {k: v.detach().clone() for k, v in old.named_parameters()}
    ramp = torch.linspace(0, 1, 4).repeat(96, 4, 1)  # as of images of half the side: brighter to the right
    grow_(new, {**parameters, name: ramp}, largest=space.named_blocks(space.largest()), classes=list(range(10)))
    found = dict(new.named_parameters())[name].detach()
    assert found.shape == (96, 8, 8)
    assert torch.allclose(found, found[:1, :1].expand_as(found))
    assert (found[0, 0].diff() >= 0).all()
    assert found[0, 0, 0] == 0
    assert found[0, 0, -1] == 1


def test_a_supernet_of_another_family_is_refused() -> None:
    space = mobilenet_mini()
    with pytest.raises(CheckpointError, match="less than half of that one's"):
        grow_(
            Supernet(space),
            dict(Supernet(vit_tiny()).named_parameters()),
            largest=space.named_blocks(space.largest()),
            classes=list(range(10)),
        )


def test_experts_begin_with_what_one_set_of_weights_learned(x) -> None:
    """Each is the old weights and what it differed in from the first one."""
    small, large = narrow(), wide(n_classes=4)
    old = trained(small)
    torch.manual_seed(2)
    new = Supernet(large, experts=2)
    name = "slots.stem.{}weights.conv/conv/weight"
    before = {k: p.detach().clone() for k, p in new.named_parameters()}
    largest = large.named_blocks(large.largest())
    found = grow_(new, dict(old.named_parameters()), largest=largest, classes=[0, 1, 2, 3])
    after = dict(new.named_parameters())
    assert name.format("copies.0.") not in (*found.kept, *found.anew)
    known = dict(old.named_parameters())[name.format("")]
    assert torch.equal(after[name.format("")][: len(known)], known)
    difference = before[name.format("copies.0.")] - before[name.format("")]
    assert difference.any()
    assert torch.allclose(after[name.format("copies.0.")] - after[name.format("")], difference, atol=1e-6)


def test_what_has_several_sets_of_weights_is_not_begun_with() -> None:
    space = narrow()
    old = dict(Supernet(space, experts=2).named_parameters())
    with pytest.raises(CheckpointError, match="has several sets of weights"):
        grow_(Supernet(space), old, largest=space.named_blocks(space.largest()), classes=[0, 1, 2, 3])

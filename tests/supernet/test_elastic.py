from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwnas import named_spaces, registry
from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, OpGraph, Ref, Weight
from hwnas.spaces.categorical import CategoricalSpace
from hwnas.spaces.kinds import BlockKind
from hwnas.supernet.elastic import ElasticBlock, Supernet
from hwnas.testing.spaces import tiny_space
from hwnas.types import Block, Option

from .conftest import make_space

SPACE = make_space()
SHAPE = (4, 6, 6)


def own_blocks(
    kind: str, build: Callable[[GraphBuilder, Ref, int], Ref], monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> list[Block]:
    """Variants of one's own kind of block on (4, 6, 6), one for each size."""

    def graph(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
        g = GraphBuilder()
        return g.build(build(g, g.input(block.in_shape), int(attributes["size"])))

    made = BlockKind(name=kind, build=graph, required=("size",))
    monkeypatch.setattr(registry, "_REGISTERED", {"block_kinds": {kind: made}})
    return [
        Block(kind=kind, in_shape=SHAPE, out_shape=SHAPE, precision="fp32", attributes=(("size", n),)) for n in sizes
    ]


def test_slopes_and_norms_begin_as_torch_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def norm_act(g: GraphBuilder, x: Ref, size: int) -> Ref:
        norm = {"weight": Weight(name="norm.weight", shape=(6, 6))}
        x = g.op("layer_norm", x, name="norm", weights=norm, normalized_shape=(6, 6))
        return g.op("prelu", x, name="act", weights={"weight": Weight(name="act.weight", shape=(size,))})

    (block,) = own_blocks("sloped", norm_act, monkeypatch, (4,))
    weights = ElasticBlock([block]).weights
    assert weights["act/weight"].tolist() == nn.PReLU(4).weight.tolist()
    assert weights["norm/weight"].tolist() == nn.LayerNorm((6, 6)).weight.tolist()


def test_kernels_that_vary_and_are_not_square_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def convolution(g: GraphBuilder, x: Ref, size: int) -> Ref:
        weight = Weight(name="conv.weight", shape=(4, 4, 1, size))
        return g.op("conv2d", x, name="conv", weights={"weight": weight}, padding=(0, size // 2))

    blocks = own_blocks("oblong", convolution, monkeypatch, (3, 5))
    with pytest.raises(SpaceError, match=r"the kernels of 'conv.weight' vary and are not square"):
        ElasticBlock(blocks)
    ElasticBlock(blocks[:1])


def test_kernels_of_series_and_of_images_do_not_vary_in_one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(g: GraphBuilder, x: Ref, size: int) -> Ref:
        y = g.op("reshape", g.conv2d(x, 4, kernel_size=size, name="image"), name="flat", shape=(4, 36))
        return g.op("reshape", g.conv1d(y, 4, kernel_size=size, name="series"), name="back", shape=SHAPE)

    blocks = own_blocks("both", both, monkeypatch, (3, 5))
    with pytest.raises(SpaceError, match=r"image.weight, series.weight some are of series and some of images"):
        ElasticBlock(blocks)
    ElasticBlock(blocks[:1])


KNOWN_LOSSES = [
    2.314025,
    2.301285,
    2.294562,
    2.301842,
    2.282168,
    2.280617,
    2.288196,
    2.277814,
    2.248893,
    2.256157,
    2.253747,
    2.255731,
    2.23008,
    2.231086,
    2.221627,
    2.233756,
]


def _mbconv(hidden: int, kernel: int, *, cin: int = 16, cout: int = 16) -> Block:
    attributes = (
        ("activation", "relu6"),
        ("hidden_channels", hidden),
        ("kernel_size", kernel),
        ("se_channels", 0),
        ("stride", 1),
    )
    return Block(kind="mbconv", in_shape=(cin, 8, 8), out_shape=(cout, 8, 8), precision="fp32", attributes=attributes)


@functools.cache
def trained_supernet() -> Supernet:
    """Random weights everywhere, so that no norm, bias or transform is the identity it starts as."""
    torch.manual_seed(0)
    net = Supernet(SPACE)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return net


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_extracted_network_equals_the_active_supernet(seed: int) -> None:
    net = trained_supernet()
    encoding = SPACE.sample(1, np.random.default_rng(seed), over="encodings")[0]
    blocks = SPACE.named_blocks(encoding)
    x = torch.randn(6, 2, *blocks[0][1].in_shape[1:], generator=torch.Generator().manual_seed(seed))
    # the supernet normalises by the batch, so the extracted network must be in training mode too
    with torch.no_grad():
        torch.testing.assert_close(net.extract(blocks).train()(x), net.train()(x, blocks), rtol=0, atol=1e-5)


def test_extracted_weights_do_not_share_memory_with_the_supernet(space, supernet) -> None:
    blocks = space.named_blocks(space.largest())
    network = supernet.extract(blocks)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        for p in supernet.parameters():
            p.zero_()
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_every_parameter_of_the_supernet_is_trained_by_some_network(space, supernet, rng) -> None:
    x = torch.randn(4, 2, 12, 12)
    for e in [space.largest(), space.smallest(), *space.sample(64, rng, over="encodings")]:
        supernet(x, space.named_blocks(e)).square().sum().backward()
    untouched = [n for n, p in supernet.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == []


def test_a_small_kernel_is_the_transformed_centre_of_the_large_one() -> None:
    torch.manual_seed(1)
    elastic = ElasticBlock([_mbconv(32, 3), _mbconv(32, 5), _mbconv(32, 7)])
    large = elastic.weights["depthwise/conv/weight"]
    with torch.no_grad():
        for t in elastic.transforms.values():
            t.add_(torch.randn_like(t))
    five = (large[:, :, 1:6, 1:6].reshape(32, 25) @ elastic.transforms["5"].T).reshape(32, 1, 5, 5)
    three = (five[:, :, 1:4, 1:4].reshape(32, 9) @ elastic.transforms["3"].T).reshape(32, 1, 3, 3)
    found = elastic.subnetwork_weights(_mbconv(32, 3))["depthwise.conv.weight"]
    torch.testing.assert_close(found, three)


def test_kernels_of_any_convolution_shrink_where_they_vary() -> None:
    wide, narrow = (
        Block(
            kind="conv",
            in_shape=(3, 8, 8),
            out_shape=(channels, 8, 8),
            precision="fp32",
            attributes=(("activation", "relu"), ("kernel_size", kernel), ("stride", 1)),
        )
        for channels, kernel in ((8, 5), (4, 3))
    )
    elastic = ElasticBlock([wide, narrow])
    with torch.no_grad():
        elastic.transforms["3"].mul_(2.0)
    found = elastic.subnetwork_weights(narrow)["conv.conv.weight"]
    torch.testing.assert_close(found, 2 * elastic.weights["conv/conv/weight"][:4, :, 1:4, 1:4])


def test_fresh_kernel_transforms_are_the_identity() -> None:
    elastic = ElasticBlock([_mbconv(32, 3), _mbconv(32, 7)])
    found = elastic.subnetwork_weights(_mbconv(32, 3))["depthwise.conv.weight"]
    assert torch.equal(found, elastic.weights["depthwise/conv/weight"][:, :, 2:5, 2:5])


def test_slices_are_leading_channels() -> None:
    elastic = ElasticBlock([_mbconv(64, 3, cout=24), _mbconv(32, 3, cin=8, cout=8)])
    weights = elastic.subnetwork_weights(_mbconv(32, 3, cin=8, cout=8))
    assert torch.equal(weights["project.conv.weight"], elastic.weights["project/conv/weight"][:8, :32])
    assert torch.equal(weights["expand.conv.weight"], elastic.weights["expand/conv/weight"][:32, :8])


def test_forward_does_not_change_the_supernet(space, supernet) -> None:
    before = {k: v.clone() for k, v in supernet.state_dict().items()}
    supernet.train()(torch.randn(4, 2, 12, 12), space.named_blocks(space.largest()))
    after = supernet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_images_of_any_resolution_are_resized_to_the_networks(space, supernet) -> None:
    blocks = space.named_blocks(space.smallest())
    assert supernet(torch.randn(2, 2, 31, 17), blocks).shape == (2, 5)


def test_blocks_of_another_space_are_refused(supernet) -> None:
    with pytest.raises(SpaceError, match="no slot 'nowhere'"):
        supernet.extract([("nowhere", _mbconv(32, 3))])


def test_a_space_without_slots_has_no_supernet() -> None:
    with pytest.raises(SpaceError, match="no slots"):
        Supernet(CategoricalSpace({"edge": ("a", "b")}))


def test_extracted_network_has_plain_parameters_only(space, supernet) -> None:
    network = supernet.extract(space.named_blocks(space.smallest()))
    assert all(isinstance(p, nn.Parameter) and p.is_contiguous() for p in network.parameters())


def test_training_takes_the_steps_it_always_took() -> None:
    """Losses of four steps, computed when each kind of block was still a module written by hand."""
    space = tiny_space()
    torch.manual_seed(3)
    net = Supernet(space)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("bn/weight"):
                p.fill_(1.0)  # all began so then, those at the end of a residual branch too
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        for e in [space.largest(), space.smallest(), *space.sample(2, rng, over="encodings")]:
            logits = net(torch.randn(8, 1, 8, 8, generator=generator), space.named_blocks(e))
            loss = nn.functional.cross_entropy(logits, torch.arange(8))
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
    assert losses == pytest.approx(KNOWN_LOSSES, abs=1e-4)


def test_residual_branches_begin_with_nothing_and_shortcuts_do_not() -> None:
    supernet = Supernet(named_spaces.make_space("resnet20", in_channels=3, n_classes=4, style={}))
    branches, shortcuts = [], []
    for name, p in supernet.named_parameters():
        if "bn" in name and name.endswith("weight"):
            (branches if not p.any() else shortcuts).append(name)
    # where a stage begins the shortcut is projected, and would leave nothing beside a branch of nothing
    assert len(branches) == 7
    assert not any(f"stages/{stage}/blocks/0" in name for stage in (1, 2) for name in branches)
    assert len(shortcuts) > len(branches)


def test_a_supernet_of_any_depth_begins_as_a_shallow_one(space) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space).train()
    x = torch.randn(4, 2, 12, 12)
    deep = space.decode(space.largest())
    shallow = {**deep, "stages.1.depth": 1}
    found = [supernet(x, space.named_blocks(space.encode(a))) for a in (deep, shallow)]
    assert torch.allclose(found[0], found[1], atol=1e-6)

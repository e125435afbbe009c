from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwnas.errors import SpaceError
from hwnas.spaces.categorical import CategoricalSpace
from hwnas.supernet.elastic import ElasticBlock, Supernet
from hwnas.types import Block

from .conftest import make_space

SPACE = make_space()


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
    found = elastic.plain_weights(_mbconv(32, 3))["depthwise.conv.weight"]
    torch.testing.assert_close(found, three)


def test_fresh_kernel_transforms_are_the_identity() -> None:
    elastic = ElasticBlock([_mbconv(32, 3), _mbconv(32, 7)])
    found = elastic.plain_weights(_mbconv(32, 3))["depthwise.conv.weight"]
    assert torch.equal(found, elastic.weights["depthwise/conv/weight"][:, :, 2:5, 2:5])


def test_slices_are_leading_channels() -> None:
    elastic = ElasticBlock([_mbconv(64, 3, cout=24), _mbconv(32, 3, cin=8, cout=8)])
    weights = elastic.plain_weights(_mbconv(32, 3, cin=8, cout=8))
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

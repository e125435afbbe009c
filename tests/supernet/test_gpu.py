from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.named_spaces import make_space
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.gpu import plans_off, product, shifted_convolution, without_plans_


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (5, 2, 2), (1, 2, 0), ((3, 1), 1, (1, 0))]
)
@pytest.mark.parametrize("side", [8, 9])
def test_shifts_beside_each_other_are_a_convolution(kernel, stride, padding, side) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(3, 6, kernel, stride, padding), torch.randn(2, 3, side, side)
    assert torch.allclose(shifted_convolution(conv, x), conv(x), atol=1e-6)


def test_a_pointwise_convolution_is_a_product() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 6, 1), torch.randn(2, 4, 5, 7)
    assert torch.allclose(product(x, conv.weight.flatten(1), conv.bias), conv(x), atol=1e-6)


def test_on_a_processor_nothing_changes() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    x = torch.randn(2, 3, 8, 8)
    before = network(x)
    without_plans_(network)
    assert torch.equal(network(x), before)
    assert type(network[1]) is nn.Conv2d  # a depthwise one stays: torch has a kernel of its own for it


def test_plans_are_back_after_an_error() -> None:
    was, during = torch.backends.cudnn.enabled, []

    def fails() -> None:
        with plans_off(torch.device("cuda")):
            during.append(torch.backends.cudnn.enabled)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert during == [False]
    assert torch.backends.cudnn.enabled == was


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_computes_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    x = torch.randn(2, 3, 8, 8)
    before = network(x)
    without_plans_(network.cuda())
    with plans_off(torch.device("cuda")):
        assert torch.allclose(network(x.cuda()).cpu(), before, atol=1e-3)


@pytest.mark.parametrize(
    ("preset", "length", "simple"),
    [
        ("mobilenet-small", None, True),
        ("mobilenet-v3-large", None, True),
        ("segment-tiny", None, True),
        ("resnet20", None, False),
        ("conv1d-sensor", 64, False),
    ],
)
def test_only_networks_of_simple_convolutions_do_without_plans(preset, length, simple) -> None:
    space = make_space(preset, in_channels=3, n_classes=4, style={}, length=length)
    assert Supernet(space).without_plans == simple

"""What an entry of the zoo keeps of a supernet's numbers."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from hwnas.pipeline._packed_weights import packed_weights
from hwnas.spaces.adapted.wishes import Wishes, adapt
from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.tracing import trace
from hwnas.supernet.untrained_numbers import take_fixed_, take_orders_
from hwnas.testing.spaces import tiny_space
from tests.supernet.networks import network


class Scaled(nn.Module):
    """Weights of many sizes: a gate that is one number a channel, and layers that half precision has no numbers for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.tiny, self.huge = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.gate, self.head = nn.Parameter(torch.rand(8, 1, 1) * 1e-6), nn.Linear(8, 4)
        with torch.no_grad():
            self.tiny.weight *= 1e-6
            self.huge.weight *= 1e7

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.head((self.huge(self.tiny(y)) + self.gate).mean((2, 3)))


def supernet_of(module: nn.Module, *inputs: Tensor) -> AdaptedSupernet:
    graph = trace(module, *inputs)
    numbers = {k: v.detach() for k, v in module.state_dict(keep_vars=True).items()}
    return AdaptedSupernet(adapt("given", [graph], Wishes()), numbers).eval()


def packed(supernet: AdaptedSupernet | Supernet) -> dict[str, Tensor]:
    return safetensors.torch.load(packed_weights(supernet))


def test_matrices_take_half_the_bytes_and_numbers_of_channels_stay() -> None:
    found = packed(supernet_of(Scaled().eval(), torch.randn(2, 3, 9, 9)))
    assert found["weights.first/weight"].dtype == torch.half
    assert found["weights.head/weight"].dtype == torch.half
    for name in ("weights.first/bias", "weights.gate"):
        assert found[name].dtype == torch.float32, name


@pytest.mark.parametrize("layer", ["tiny", "huge"])
def test_what_half_precision_has_no_numbers_for_stays(layer: str) -> None:
    module = Scaled().eval()
    found = packed(supernet_of(module, torch.randn(2, 3, 9, 9)))
    assert torch.equal(found[f"weights.{layer}/weight"], module.get_parameter(f"{layer}.weight"))


def test_a_supernet_of_a_space_of_blocks_has_parameters_alone() -> None:
    supernet = Supernet(tiny_space())
    assert packed(supernet).keys() == dict(supernet.named_parameters()).keys()


@pytest.mark.parametrize("name", ["residual", "squeeze-excite", "vit", "windows", "waves", "series"])
def test_a_given_network_comes_back_within_half_precision(name: str) -> None:
    """Its tables of indices, masks and statistics to the bit."""
    module, inputs = network(name)
    given = supernet_of(module.eval(), *inputs)
    for i, dim in enumerate(given.space.network.dependencies.dims):
        given.set_order_(i, torch.randperm(dim.size, generator=torch.Generator().manual_seed(i)).numpy())
    tensors = {k: t.float() if t.dtype == torch.half else t for k, t in packed(given).items()}
    again = AdaptedSupernet(given.space).eval()
    again.load_state_dict({k: t for k, t in tensors.items() if k in dict(again.named_parameters())}, strict=False)
    take_fixed_(again, tensors)
    take_orders_(again, tensors)
    assert all(torch.equal(again.fixed_numbers()[k], t) for k, t in given.fixed_numbers().items())
    again.is_given = True
    for encoding in (given.space.largest(), given.space.smallest()):
        blocks = given.space.named_blocks(encoding)
        with torch.inference_mode():
            wanted, got = given.extract(blocks)(*inputs), again.extract(blocks)(*inputs)
        assert (got - wanted).abs().max() <= 1e-2 * wanted.abs().max()

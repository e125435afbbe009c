"""A torch program computes what the network does, trains, and needs nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from hwnas.errors import ExportError
from hwnas.supernet.program import torch_program
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network


@pytest.fixture(scope="module")
def network() -> SubNetwork:
    return sample_network(sample_blocks("ffff", act="hswish", se_channels=4, features=16))


@pytest.fixture(scope="module")
def content(network: SubNetwork) -> bytes:
    return torch_program(network, in_shape=network.in_shape)


def loaded(content: bytes) -> fx.GraphModule:
    module = torch.export.load(BytesIO(content)).module()
    assert isinstance(module, fx.GraphModule)
    return module


def test_it_computes_what_the_network_does_for_any_number_of_samples(network: SubNetwork, content: bytes) -> None:
    program = loaded(content)
    for n in (1, 2, 7):
        x = sample_images(n)
        torch.testing.assert_close(program(x), network(x), rtol=0, atol=1e-5)


def test_it_loads_and_trains_where_hwnas_cannot_be_imported(
    network: SubNetwork, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "model.pt2").write_bytes(content)
    torch.save((sample_images(3), network(sample_images(3)).detach()), tmp_path / "io.pt")
    program = """
import sys, torch
sys.modules["hwnas"] = None
x, y = torch.load("io.pt")
network = torch.export.load("model.pt2").module()
assert torch.allclose(network(x), y, atol=1e-5)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
before = network(x).square().sum()
before.backward()
assert all(p.grad is not None for p in network.parameters())
optimizer.step()
assert network(x).square().sum() < before
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)


def test_its_state_has_the_names_of_the_networks(network: SubNetwork, content: bytes) -> None:
    state = loaded(content).state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_one_network_has_one_file(network: SubNetwork, content: bytes) -> None:
    with torch.no_grad():  # which is the caller's own affair
        assert torch_program(network, in_shape=network.in_shape) == content


def test_it_does_not_tell_where_it_was_made(content: bytes) -> None:
    for path in (Path(__file__).parents[2], Path(torch.__file__).parent):
        assert str(path).encode() not in content


def test_a_network_that_torch_cannot_export_is_refused_with_the_reason() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"Branches is no torch program: torch\.export says .*data-dependent"):
        torch_program(Branches(), in_shape=(4,))

"""A pure network has nothing of ours in it and computes the same."""

import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from hwnas.errors import ExportError
from hwnas.supernet.pure import to_pure
from hwnas.supernet.quantization import fold_batchnorm
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network

ACTIVATIONS = ("relu", "relu6", "hswish", "silu")


def _network(act="relu6", pattern="ffff") -> SubNetwork:
    return sample_network(sample_blocks(pattern, act=act, se_channels=4, features=16))


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_pure_network_computes_the_same(act, fold):
    network = fold_batchnorm(_network(act)) if fold else _network(act)
    x = sample_images(3)
    assert torch.equal(to_pure(network)(x), network(x))


def test_pure_network_holds_no_class_of_ours():
    pure = to_pure(_network())
    classes = {c for m in pure.modules() for c in type(m).__mro__}
    assert not [c for c in classes if c.__module__.startswith("hwnas")]
    assert not [n for n in pure.graph.nodes if n.meta]


def test_pure_network_has_the_same_state():
    network = _network()
    pure = to_pure(network)
    assert list(pure.state_dict()) == list(network.state_dict())
    network.load_state_dict(pure.state_dict())


def test_boundaries_vanish():
    pure = to_pure(_network(pattern="fiif"))
    assert torch.equal(pure(sample_images(2)), _network(pattern="fiif")(sample_images(2)))


def test_pure_network_trains():
    pure = to_pure(_network().train())
    pure(sample_images(4)).sum().backward()
    assert all(p.grad is not None for p in pure.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_pure_network_keeps_the_mode(training):
    pure = to_pure(_network().train(training))
    assert all(m.training == training for m in pure.modules())


def test_pure_network_loads_where_hwnas_cannot_be_imported(tmp_path):
    network = _network()
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(to_pure(network)))
    torch.save((sample_images(2), network(sample_images(2)).detach()), tmp_path / "io.pt")
    program = """
import pickle, sys, torch
sys.modules["hwnas"] = None
x, y = torch.load("io.pt")
net = pickle.load(open("net.pkl", "rb"))
assert torch.allclose(net(x), y, atol=1e-6)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)


def test_forward_that_depends_on_values_is_refused():
    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"Branches cannot be traced.*depend on the values"):
        to_pure(Branches())


def test_parameters_without_use_are_named():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ExportError, match=r"does not use unused\.bias, unused\.weight"):
        to_pure(Lazy())

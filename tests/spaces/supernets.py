"""What every family's supernet must hold, for the tests of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from hwnas.spaces.staged import StagedSpace

if TYPE_CHECKING:
    from hwnas.supernet.elastic import Supernet


def randomised(space: StagedSpace) -> Supernet:
    """A supernet whose parameters are all away from where they begin."""
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import Supernet

    torch.manual_seed(0)
    net = Supernet(space)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return net


def check_extracted_networks_equal_the_active_supernet(space: StagedSpace) -> None:
    torch = pytest.importorskip("torch")
    net = randomised(space)
    with torch.no_grad():
        for encoding in (space.largest(), *space.sample(12, np.random.default_rng(0), over="encodings")):
            blocks = space.named_blocks(encoding)
            x = torch.randn(4, *blocks[0][1].in_shape)
            # the supernet normalises by the batch, so the extracted network must be in training mode too
            torch.testing.assert_close(net.extract(blocks).train()(x), net.train()(x, blocks), rtol=0, atol=1e-5)


def check_every_shared_weight_learns(space: StagedSpace) -> None:
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import Supernet

    torch.manual_seed(0)
    net = Supernet(space).train()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("bn/weight"):
                p.fill_(0.5)  # residual branches begin with 0, behind which nothing learns in the first step
    deep = {f"stages.{s}.depth": 2 for s in range(2)}
    small_kernels = space.encode({c.name: c.options[0] for c in space.choices} | deep)
    for encoding in (small_kernels, space.largest()):
        blocks = space.named_blocks(encoding)
        net(torch.randn(8, *blocks[0][1].in_shape), blocks).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []

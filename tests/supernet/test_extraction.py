from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwnas.supernet.extraction import extract
from hwnas.supernet.recalibration import recalibrate
from tests.runs import FinishedRun

from .test_elastic import SPACE, trained_supernet


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_an_extracted_network_computes_what_the_active_supernet_does(seed: int) -> None:
    net = trained_supernet()
    blocks = SPACE.named_blocks(SPACE.sample(1, np.random.default_rng(seed), over="encodings")[0])
    x = torch.randn(32, 2, *blocks[0][1].in_shape[1:])
    network = extract(net, blocks, [x])
    with torch.no_grad():
        # normalised by this very batch, as the supernet does: in training mode
        torch.testing.assert_close(network.train()(x), net.train()(x, blocks), rtol=0, atol=1e-5)


def test_an_extracted_network_has_nothing_of_ours_in_it(space, supernet) -> None:
    network = extract(supernet, space.named_blocks(space.largest()), [torch.randn(8, 2, 12, 12)])
    assert {type(m).__module__.split(".")[0] for m in network.modules() if m is not network} == {"torch"}


def test_an_extracted_network_has_the_recalibrated_statistics(space, supernet) -> None:
    x, blocks = torch.randn(16, 2, 8, 8), space.named_blocks(space.smallest())
    found = extract(supernet, blocks, [x])
    expected = recalibrate(supernet.extract(blocks), [x])
    assert not found.training
    torch.testing.assert_close(found(x), expected(x), rtol=0, atol=1e-6)
    assert any(isinstance(m, nn.BatchNorm2d) and m.running_mean.abs().sum() > 0 for m in found.modules())


def test_the_page_about_deployments_extracts_a_network_of_a_run(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "deployments.md").read_text()
    (code,) = re.findall(r"```python\n(import torch\n\nfrom hwnas.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace('"runs/mine"', repr(str(finished.folder))).replace('"size_bytes": 300e3', ""), names)
    loaded = torch.export.load(tmp_path / "network.pt2").module()
    torch.testing.assert_close(loaded(names["example"]), names["network"](names["example"]), rtol=0, atol=1e-5)

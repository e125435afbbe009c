from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.spaces import MobileNetSpace, MobileNetSpec, StageSpec
from hwnas.supernet.elastic import Supernet


def make_space() -> MobileNetSpace:
    """Every elastic dimension at once, small enough to run in milliseconds."""
    return MobileNetSpace(
        "everything",
        MobileNetSpec(
            in_channels=2,
            n_classes=5,
            resolutions=(8, 12),
            width_mults=(0.5, 1.0),
            stem_channels=16,
            stages=(
                StageSpec(
                    channels=16, stride=1, depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(1, 2), se=(False, True)
                ),
                StageSpec(
                    channels=32,
                    stride=2,
                    depths=(1, 2, 3),
                    kernel_sizes=(3, 5, 7),
                    expand_ratios=(2, 3),
                    activations=("relu6", "hswish"),
                ),
            ),
            head_channels=48,
            head_features=32,
        ),
    )


@pytest.fixture(scope="session")
def space() -> MobileNetSpace:
    return make_space()


@pytest.fixture
def supernet(space: MobileNetSpace) -> Supernet:
    """All weights random, so that no norm, bias or transform is the identity it starts as."""
    torch.manual_seed(0)
    net = Supernet(space)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return net


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def randomise_norms(module: nn.Module) -> None:
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2.0)

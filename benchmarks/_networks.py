"""Networks to count: timm's where it is installed, and two small ones written here.

It must never know what is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from _timm import find_timm

if TYPE_CHECKING:
    from torch import nn

Make = Callable[[], tuple["nn.Module", tuple[int, ...]]]  # -> a network with random weights, (C, H, W)

TIMM = (
    *("resnet18", "resnet50", "res2net50_26w_4s", "regnety_002", "repvgg_a0", "vgg11", "densenet121", "inception_v3"),
    *("hrnet_w18_small", "mnasnet_small", "mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv4_conv_small"),
    *("efficientnet_lite0", "efficientnet_b0", "ghostnet_100", "mobileone_s0", "starnet_s1", "convnext_atto"),
    *("poolformer_s12", "edgenext_xx_small", "mobilevit_xs", "efficientvit_b0", "levit_128s", "vit_tiny_patch16_224"),
    *("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
)


def own() -> dict[str, Make]:
    """A network of branches and one of attention, small."""
    return {"branches": _branches, "attention": _attention}


def timms(folder: Path | None) -> dict[str, Make]:
    """The networks of timm; none where it is not installed.

    Args:
        folder: that timm is in, see `_timm.find_timm`.
    """
    timm = find_timm(folder)
    if timm is None:
        return {}

    def maker(name: str) -> Make:
        def make() -> tuple[nn.Module, tuple[int, ...]]:
            module = timm.create_model(name)
            return module, tuple(module.default_cfg["input_size"])

        return make

    return {name: maker(name) for name in TIMM}


def _branches() -> tuple[nn.Module, tuple[int, ...]]:
    import torch
    from torch import nn

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
            self.left, self.right = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 8, 5, padding=2, groups=8)
            self.head = nn.Linear(24, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            x = torch.cat([self.left(x).relu(), self.right(x) + x], 1)
            return self.head(x.mean((2, 3)))

    return Branches(), (3, 32, 32)


def _attention() -> tuple[nn.Module, tuple[int, ...]]:
    from torch import nn

    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
    return nn.Sequential(nn.Conv2d(3, 32, 8, 8), nn.Flatten(2), nn.Linear(16, 32), layer), (3, 32, 32)

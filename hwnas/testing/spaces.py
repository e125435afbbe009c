"""A space small enough for fast tests. Knows nothing but its numbers."""

from __future__ import annotations

from hwnas.spaces.mobilenet import MobileNetSpace, MobileNetSpec
from hwnas.spaces.stages import StageSpec


def tiny_space(in_channels: int = 1, n_classes: int = 10) -> MobileNetSpace:
    """A MobileNetSpace of 8x8 images with every kind of elasticity that a block has, in both precisions."""
    return MobileNetSpace(
        "test-tiny",
        MobileNetSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(8,),
            stem_channels=8,
            stages=[
                StageSpec(channels=channels, stride=stride, depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(2, 3))
                for channels, stride in ((8, 1), (16, 2))
            ],
            head_channels=16,
        ),
    )

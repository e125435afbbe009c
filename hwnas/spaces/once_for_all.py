"""The very networks of Once-for-All's published supernets, OFAMobileNetV3 (Cai et al., 2020, section 4.1).

`mobilenet-v3-large` is their space with a sigmoid as the gate of squeeze-and-excitation; theirs is the hard one, and so
it is here. Knows numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hwnas.spaces.mobilenet import MobileNetSpace, MobileNetSpec
from hwnas.spaces.presets import mobilenet_v3_large

_NAME = "ofa-mobilenet-v3"
# channels of the stem, the fixed first stage, the five elastic ones, and the head's two layers
WIDTHS = {
    _NAME: (16, 16, 24, 40, 80, 112, 160, 960, 1280),
    f"{_NAME}-w1.2": (24, 24, 32, 48, 96, 136, 192, 1152, 1536),
}


def once_for_all_space(widths: Sequence[int], *, in_channels: int, n_classes: int) -> MobileNetSpace:
    """The space of a supernet of Once-for-All by its channels, at 128 to 224 pixels in steps of 4.

    Args:
        widths: nine, as `WIDTHS` has them; of others the space has the name of the first.
        in_channels: of the input.
        n_classes: outputs.

    Raises:
        SpaceError: channels of which no space can be made.
    """
    spec = mobilenet_v3_large(in_channels, n_classes).spec
    assert isinstance(spec, MobileNetSpec)
    stem, *channels, hidden, features = widths
    own = replace(
        spec,
        stem_channels=stem,
        stages=[replace(s, channels=c) for s, c in zip(spec.stages, channels, strict=True)],
        head_channels=hidden,
        head_features=features,
        se_gate="hard_sigmoid",
    )
    named = [name for name, known in WIDTHS.items() if known == tuple(widths)]
    return MobileNetSpace(named[0] if named else _NAME, own)


def ofa_mobilenet_v3(in_channels: int = 3, n_classes: int = 1000) -> MobileNetSpace:
    """The networks of `ofa_mbv3_d234_e346_k357_w1.0`, with a precision a block.

    Args:
        in_channels: of the input.
        n_classes: outputs.
    """
    return once_for_all_space(WIDTHS[_NAME], in_channels=in_channels, n_classes=n_classes)


def ofa_mobilenet_v3_wide(in_channels: int = 3, n_classes: int = 1000) -> MobileNetSpace:
    """The networks of `ofa_mbv3_d234_e346_k357_w1.2`, with a precision a block.

    Args:
        in_channels: of the input.
        n_classes: outputs.
    """
    return once_for_all_space(WIDTHS[f"{_NAME}-w1.2"], in_channels=in_channels, n_classes=n_classes)

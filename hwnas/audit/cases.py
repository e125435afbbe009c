"""What an audit measures: inverted residuals of a few shapes, each changed in one choice at a time.

Knows blocks and their attributes; not how they are timed or judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hwnas.spaces.mobilenet_kinds import inverted_residual
from hwnas.spaces.stages import ACTIVATIONS
from hwnas.types import Block, Option

# (channels, side in pixels): about the stages of a MobileNet at 224 pixels, then of one at 16 to 32 pixels. Channels
# are multiples of 32, and so hidden channels at every expand ratio: what other widths cost is a question of its own.
SITES = ((32, 56), (64, 28), (96, 14), (160, 7), (32, 8), (64, 4))
BASE_ACTIVATION, BASE_KERNEL_SIZE, BASE_EXPAND_RATIO = "relu6", 3, 4
KERNEL_SIZES, EXPAND_RATIOS = (5, 7), (3, 6)
SE_RATIO = 0.25

WIDTH_SITES = (16, 7)  # pixels; where convolutions over channels take most of the time
# multiple -> (width that is a multiple of it and not of its double, the widths around it that are)
WIDTHS = {4: ((36, 32, 40),), 8: ((40, 32, 48), (72, 64, 80)), 16: ((48, 32, 64), (80, 64, 96))}
_WIDTH_EXPAND_RATIO = 3  # odd: the hidden channels are a multiple of the same power of two, and not of its double

BASE = "base"  # the choice of the block that the others are held against


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One block to be measured.

    Attributes:
        site: where it stands, height x width x channels: `56x56x32`; of widths `16x16`.
        choice: what is changed against the base of the site: `activation`, `se`, `kernel_size`, `expand_ratio`;
            `width` for channels; `base` for the base itself.
        option: taken for that choice.
        block: with all its attributes.
    """

    site: str
    choice: str
    option: Option
    block: Block


def case_groups(precisions: Sequence[str]) -> Iterator[tuple[Case, ...]]:
    """The blocks, those that are compared with one another together: they are timed in the same rounds."""
    for channels, side in SITES:
        yield tuple(case for precision in precisions for case in _site(channels, side, precision))
    for side in WIDTH_SITES:
        yield tuple(case for precision in precisions for case in _widths(side, precision))


def _site(channels: int, side: int, precision: str) -> Iterator[Case]:
    def case(choice: str, option: Option, **changes: Option) -> Case:
        block = _block(channels, side, precision, **changes)
        return Case(site=f"{side}x{side}x{channels}", choice=choice, option=option, block=block)

    yield case(BASE, BASE)
    for activation in ACTIVATIONS:
        if activation != BASE_ACTIVATION:
            yield case("activation", activation, activation=activation)
    yield case("se", True, se_channels=int(channels * BASE_EXPAND_RATIO * SE_RATIO))
    for kernel_size in KERNEL_SIZES:
        yield case("kernel_size", kernel_size, kernel_size=kernel_size)
    for ratio in EXPAND_RATIOS:
        yield case("expand_ratio", ratio, hidden_channels=channels * ratio)


def _widths(side: int, precision: str) -> Iterator[Case]:
    for width in sorted({width for trios in WIDTHS.values() for trio in trios for width in trio}):
        block = _block(width, side, precision, hidden_channels=width * _WIDTH_EXPAND_RATIO)
        yield Case(site=f"{side}x{side}", choice="width", option=width, block=block)


def _block(channels: int, side: int, precision: str, **changes: Option) -> Block:
    attributes: dict[str, Option] = {
        "activation": BASE_ACTIVATION,
        "hidden_channels": channels * BASE_EXPAND_RATIO,
        "kernel_size": BASE_KERNEL_SIZE,
        **changes,
    }
    return inverted_residual((channels, side, side), precision=precision, attributes=attributes)

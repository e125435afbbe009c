"""What an audit measures: blocks of a few shapes, each changed in one choice at a time, as their kind offers it.

Knows blocks and the variations of their kinds; no kind by name, and not how they are timed or judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hwnas import registry
from hwnas.errors import HwnasError, SpaceError
from hwnas.spaces import Space
from hwnas.spaces.kinds import BlockKind, kind_of
from hwnas.types import Block, Option

# (channels, side in pixels, or in positions): about the stages of a network at 224 pixels, then of one at 16 to 32
# pixels; series are POSITIONS_OF_SIDE times as long. Channels are multiples of 32, and so are their multiples inside a
# block: what other widths cost is a question of its own.
SITES = ((32, 56), (64, 28), (96, 14), (160, 7), (32, 8), (64, 4))

# Attention compares every position with every other: of larger images it would take all the time.
MOST_POSITIONS = 28 * 28

POSITIONS_OF_SIDE = 4  # of series, which then are of 224 to 16 positions, as seconds of sound and windows of sensors

WIDTH_SITES = (16, 7)  # pixels; where convolutions over channels take most of the time
# multiple -> (width that is a multiple of it and not of its double, the widths around it that are)
WIDTHS = {4: ((36, 32, 40),), 8: ((40, 32, 48), (72, 64, 80)), 16: ((48, 32, 64), (80, 64, 96))}

BASE = "base"  # the choice of the block that the others are held against
WIDTH = "width"  # the choice of blocks whose channels are varied


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One block to be measured.

    Attributes:
        site: where it stands, height x width x channels: `56x56x32`, length x channels: `224x32`; of widths `16x16`.
        choice: what is changed against the base of the site, by its kind's variations: `activation`, `kernel_size`;
            `width` for channels; `base` for the base itself.
        option: taken for that choice.
        block: with all its attributes.
    """

    site: str
    choice: str
    option: Option
    block: Block

    @property
    def kind(self) -> str:
        """Of the block."""
        return self.block.kind


def kinds_with_variations(space: Space | None = None) -> tuple[BlockKind, ...]:
    """The kinds of block that an audit can vary.

    Args:
        space: those of its blocks; None: all that are registered.

    Raises:
        SpaceError: there are none; says how a kind offers variations.
    """
    if space is None:
        kinds = _registered()
    else:
        # one block of a kind is enough to find it by
        kinds = [kind_of(b) for b in {b.kind: b for b in space.distinct_blocks()}.values()]
    found = tuple(kind for kind in kinds if kind.variations)
    if not found:
        named = f"space {space.name!r} has the kinds {', '.join(k.name for k in kinds) or 'none'}" if space else "none"
        raise SpaceError(
            f"no kind of block offers variations that could be measured ({named}); give its BlockKind `variations`"
        )
    return found


def _registered() -> list[BlockKind]:
    found = []
    for name in registry.names("block_kinds"):
        try:
            found.append(registry.load("block_kinds", name))
        except HwnasError:  # of a package that is not whole: none of its blocks can be made
            continue
    return found


def case_groups(kinds: Iterable[BlockKind], precisions: Sequence[str]) -> Iterator[tuple[Case, ...]]:
    """The blocks, those that are compared with one another together: they are timed in the same rounds."""
    for kind in kinds:
        for channels, side in SITES:
            if kind.takes != "positions" or side * side <= MOST_POSITIONS:
                yield tuple(case for precision in precisions for case in _site(kind, channels, side, precision))
        for side in WIDTH_SITES:
            yield tuple(case for precision in precisions for case in _widths(kind, side, precision))


def _shape(kind: BlockKind, channels: int, side: int) -> tuple[int, ...]:
    match kind.takes:
        case "positions":
            return (side * side, channels)
        case "series":
            return (channels, POSITIONS_OF_SIDE * side)
    return (channels, side, side)


def _site_name(kind: BlockKind, side: int) -> str:
    return str(POSITIONS_OF_SIDE * side) if kind.takes == "series" else f"{side}x{side}"


def _site(kind: BlockKind, channels: int, side: int, precision: str) -> Iterator[Case]:
    def case(choice: str, option: Option, **changes: Option) -> Case:
        block = kind.example(_shape(kind, channels, side), precision=precision, options=changes)
        return Case(site=f"{_site_name(kind, side)}x{channels}", choice=choice, option=option, block=block)

    yield case(BASE, BASE)
    for variation in kind.variations:
        for option in variation.options[1:]:
            yield case(variation.choice, option, **{variation.choice: option})


def _widths(kind: BlockKind, side: int, precision: str) -> Iterator[Case]:
    options = {v.choice: v.at_widths for v in kind.variations if v.at_widths is not None}
    for width in sorted({width for trios in WIDTHS.values() for trio in trios for width in trio}):
        block = kind.example(_shape(kind, width, side), precision=precision, options=options)
        yield Case(site=_site_name(kind, side), choice=WIDTH, option=width, block=block)

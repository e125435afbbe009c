"""From a supernet to one network that needs nothing of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hwnas.supernet.pure import to_pure
from hwnas.supernet.recalibration import recalibrate

if TYPE_CHECKING:
    from torch import Tensor, fx

    from hwnas.supernet.elastic import NamedBlocks, Supernet


def extract(supernet: Supernet, blocks: NamedBlocks, calibration: Iterable[Tensor]) -> fx.GraphModule:
    """One sub-network made of torch's own modules alone, in evaluation mode, with BatchNorm statistics of its own.

    It can be saved, loaded and trained where hwnas is not installed.

    Args:
        supernet: trained; not changed.
        blocks: named blocks of the network, from `space.named_blocks(encoding)`.
        calibration: (N, C, H, W) preprocessed training images for the statistics; resized to the network's input.

    Raises:
        SpaceError: the blocks do not belong to this supernet.
        ValueError: there is no batch.
    """
    return to_pure(recalibrate(supernet.extract(blocks), calibration))

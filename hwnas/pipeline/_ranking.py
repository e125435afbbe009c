"""Which channels, heads and blocks of a given network its smaller ones keep, found out from the run's images."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from hwnas.spaces.adapted import AdaptedSpace
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.subnetwork import SubNetwork

_IMAGES = 512  # by which units are ranked
_BATCH = 64  # all that layers read of so many images is in memory at once
_FOR_BLOCKS = 4  # batches by which blocks are ranked: each block costs a network or two


def rank_by_weights_(supernet: AdaptedSupernet) -> None:
    """Set the order of units without an image, in place."""
    from hwnas.supernet.importance import rank_

    rank_(supernet, "magnitude")


def ranked(work: Workspace, supernet: AdaptedSupernet) -> AdaptedSupernet:
    """The supernet with units and blocks in the order in which the given network would miss them.

    Args:
        work: of the run; gives training images, whose labels are not looked at.
        supernet: with the given weights; its order of units is set in place.
    """
    import torch

    from hwnas.supernet.block_order import disagreement, rank_blocks
    from hwnas.supernet.importance import rank_
    from hwnas.supernet.recalibration import recalibrate

    stream = work.stream("train", batch_size=_BATCH)
    batches: list[Tensor] = [x for x, _ in stream.unaugmented(_IMAGES)]
    rank_(supernet, "measured", batches=batches)
    space = supernet.space
    few = list(islice(batches, _FOR_BLOCKS))
    with torch.no_grad():
        given = supernet.extract(space.named_blocks(space.largest()))
        right = torch.cat([given(supernet.fit(x)) for x in few])

    @torch.no_grad()
    def misses(network: SubNetwork) -> float:
        recalibrate(network, few)
        return disagreement(right, torch.cat([network(supernet.fit(x)) for x in few]))

    spec = rank_blocks(supernet, misses)
    return supernet if spec == space.spec else supernet.with_space(AdaptedSpace(space.name, space.network, spec))

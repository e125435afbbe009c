"""Which channels, heads and blocks of a given network its smaller ones keep, found out from the run's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.cost import analytic
from hwnas.spaces.adapted import AdaptedSpace
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.subnetwork import SubNetwork

_LARGEST_MACS = 5e10  # spent on the network's images, each time: some seconds of a core
_FEWEST, _MOST = 64, 512  # images by which units are ranked
_BATCH = 64  # all that layers read of so many images is in memory at once
_LARGEST_MACS_BLOCKS = 1e11  # each block that is left out costs a network or two
_FEWEST_BLOCKS, _MOST_BLOCKS = 16, 256  # images by which blocks are ranked


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

    from hwnas.supernet.block_order import rank_blocks
    from hwnas.supernet.importance import rank_
    from hwnas.supernet.recalibration import recalibrate

    space = supernet.space
    macs = max(1, sum(analytic.macs(b) for _, b in space.named_blocks(space.largest())))
    stream = work.stream("train", batch_size=_BATCH)
    n = _between(_LARGEST_MACS / macs, _FEWEST, _MOST)
    rank_(supernet, "measured", batches=[x for x, _ in stream.unaugmented(n, shuffled=True)])
    # at most: one block after another leaves, and before each all that are left are tried (`rank_blocks`)
    evaluations = sum(len(d.blocks) * (len(d.blocks) + 1) // 2 for d in space.spec.depths)
    n = _between(_LARGEST_MACS_BLOCKS / (2 * macs * max(1, evaluations)), _FEWEST_BLOCKS, _MOST_BLOCKS)
    few = [x for x, _ in stream.unaugmented(n, shuffled=True)]
    with torch.no_grad():
        given = supernet.extract(space.named_blocks(space.largest()))
        right = torch.cat([given(supernet.fit(x)) for x in few])

    @torch.no_grad()
    def misses(network: SubNetwork) -> float:
        recalibrate(network, few)
        return work.task.divergence(torch.cat([network(supernet.fit(x)) for x in few]), right)

    spec = rank_blocks(supernet, misses)
    return supernet if spec == space.spec else supernet.with_space(AdaptedSpace(space.name, space.network, spec))


def _between(images: float, least: int, most: int) -> int:
    return int(min(most, max(least, images)))

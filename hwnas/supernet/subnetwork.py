"""A sub-network on its own: the modules of its blocks, in order.

Exporters write these, tables are measured on these, so that what is measured is what ships.
This module knows blocks by their graphs; never a kind of block, weights' origin, devices or search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from hwnas.graph import OpGraph
from hwnas.spaces.kinds import block_graph
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.types import Block


class BlockModule(OpGraphModule):
    """What a block computes, with torch's default initialisation.

    Args:
        block: of any registered kind.
        graph: what it has become; as it is if not given.
        filters: see `OpGraphModule`.

    Raises:
        SpaceError: the block's kind is not registered, or its attributes make no sense.
    """

    def __init__(
        self,
        block: Block,
        *,
        graph: OpGraph | None = None,
        filters: Mapping[str, tuple[str, nn.Module]] | None = None,
    ) -> None:
        super().__init__(block_graph(block) if graph is None else graph, filters=filters)
        self.slot_block = block


class BlockSequence(nn.Module):
    """Modules of blocks, each with its `slot_block`, run in order. `(N, C, H, W) -> (N, classes)`.

    Attributes:
        statistics_hold: whether its BatchNorm statistics are its own already, as of a network that was given trained.
        has_frozen_statistics: whether they stay what they are whatever happens to its weights.
        ranges: of each block, path of a quantizer of its integer form -> lowest and highest value, as they were
            learned; None: nothing was, and they have to be calibrated.
    """

    statistics_hold = False
    has_frozen_statistics = False
    ranges: tuple[Mapping[str, tuple[float, float]], ...] | None = None

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input sample: (C, H, W)."""
        first: Block = self.blocks[0].slot_block  # type: ignore[assignment]
        return first.in_shape


class SubNetwork(BlockSequence):
    """Blocks in order, as their graphs say. `(N, C, H, W) -> (N, classes)`."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        super().__init__(map(BlockModule, blocks))

    @classmethod
    def of(cls, modules: Iterable[BlockModule]) -> SubNetwork:
        """A network of modules that are there already."""
        network = cls(())
        network.blocks.extend(modules)
        return network

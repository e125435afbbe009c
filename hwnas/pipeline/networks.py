"""The same network in the spaces of several devices: which of them have it, and how it is encoded there.

A device's space offers the precisions it computes in, and no choice of precision where it has one only, so one network
has other encodings for other devices. Knows spaces; never devices, costs or accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hwnas.accuracy.known import network_key
from hwnas.errors import SpaceError
from hwnas.precisions import simulated_as
from hwnas.types import Block, IntArray, Option

if TYPE_CHECKING:
    from hwnas.spaces import Space

NamedBlocks = tuple[tuple[str, Block], ...]


def in_full(trained: Space, architecture: Mapping[str, Option], blocks: NamedBlocks) -> dict[str, Option]:
    """The architecture with the choices that this device's space lacks: precisions it leaves no choice of.

    Precisions have the names of what torch computed, so that other devices find the network.
    """
    choices = {c.name for c in trained.choices}
    precisions = {name: simulated_as(b.precision) for slot, b in blocks if (name := f"{slot}.precision") in choices}
    return {**architecture, **precisions}


def encoded(space: Space, architecture: Mapping[str, Option]) -> IntArray | None:
    """(D,) a network whose precisions have the names of what torch computes; None if it is not in the space."""
    choices = {c.name for c in space.choices}
    # back from torch's names to this device's
    here = {simulated_as(p): p for p in space.precisions}
    try:
        return space.encode(
            {k: here.get(str(v), v) if k.endswith(".precision") else v for k, v in architecture.items() if k in choices}
        )
    except SpaceError:
        return None


def in_space(space: Space, architecture: Mapping[str, Option], *, key: str) -> IntArray | None:
    """(D,) the encoding of a network in a space, None if the space has it not.

    Args:
        space: of a device.
        architecture: of the network, see `in_full`.
        key: see `hwnas.accuracy.known.network_key`.
    """
    encoding = encoded(space, architecture)
    # by its key: a space that lacks a choice would decode it to another network
    return encoding if encoding is not None and network_key(space.named_blocks(encoding)) == key else None

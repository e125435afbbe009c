"""The fixed network whose time tells how fast a machine is at the moment, and what surrounds a block timed alone.

Knows blocks; neither weights nor files.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.precisions import DEQUANTIZE, QUANTIZE, gives_integers, is_quantized, simulated_as, takes_integers
from hwnas.types import Block


def conversion(kind: str, shape: tuple[int, ...], *, precision: str) -> Block:
    """A `quantize` or `dequantize` block for tensors of that shape, to or from this quantized precision."""
    return Block(kind=kind, in_shape=shape, out_shape=shape, precision=precision)


def between_neighbours(part: Sequence[Block]) -> list[Block]:
    """Part of a network with the conversions that make integers of what enters it, and values of those that leave it.

    What an exporter cuts off again, so that the part alone takes and gives what it does in a network.
    """
    blocks, (first, last) = list(part), (part[0], part[-1])
    if takes_integers(first):  # a `quantize` block does not, and is what makes integers itself
        blocks.insert(0, conversion(QUANTIZE, first.in_shape, precision=first.precision))
    # nobody adds an end to a `quantize` block: what it makes are its values' integers already
    if gives_integers(last) and takes_integers(last):
        blocks.append(conversion(DEQUANTIZE, last.out_shape, precision=last.precision))
    return blocks


# (channels, size in pixels) of the anchor after its stem, one inverted residual each
_STAGES = ((24, 32), (24, 32), (32, 16), (32, 16), (32, 16), (64, 8), (64, 8), (64, 8))


def anchor_blocks(precision: str) -> list[Block]:
    """The blocks of the drift anchor: never change it, or every table's anchor's time loses its meaning.

    Raises:
        UnknownNameError: the precision is not known.
    """
    precision = simulated_as(precision)
    act = ("activation", "relu6")
    blocks = [
        Block(
            kind="conv",
            in_shape=(3, 64, 64),
            out_shape=(24, 32, 32),
            precision=precision,
            attributes=(act, ("kernel_size", 3), ("stride", 2)),
        )
    ]
    for channels, size in _STAGES:
        before = blocks[-1].out_shape
        shape = (("hidden_channels", 4 * before[0]), ("kernel_size", 3), ("se_channels", 0))
        stride = ("stride", before[1] // size)
        blocks.append(
            Block(
                kind="mbconv",
                in_shape=before,
                out_shape=(channels, size, size),
                precision=precision,
                attributes=(act, *shape, stride),
            )
        )
    head = (act, ("features", 0), ("hidden_channels", 192))
    blocks.append(
        Block(kind="head", in_shape=blocks[-1].out_shape, out_shape=(10,), precision=precision, attributes=head)
    )
    if is_quantized(precision):
        ends = (
            conversion(QUANTIZE, blocks[0].in_shape, precision=precision),
            conversion(DEQUANTIZE, (10,), precision=precision),
        )
        return [ends[0], *blocks, ends[1]]
    return blocks

"""Architectures as text for people. Knows blocks by what they compute, and options; not spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwnas.spaces.kinds import block_summary
from hwnas.types import Block, Option


def choices_text(chosen: Mapping[str, Option]) -> str:
    """One line a choice: name and option, indented."""
    width = max(map(len, chosen), default=0)
    return "\n".join(f"  {name:<{width}}  {option}" for name, option in chosen.items())


def blocks_text(named_blocks: Sequence[tuple[str, Block]]) -> str:
    """One line a block: slot, operator, shapes, precision; indented, in columns."""
    rows = [
        (name, _operator(b), f"{_shape(b.in_shape)} -> {_shape(b.out_shape)}", b.precision) for name, b in named_blocks
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _operator(block: Block) -> str:
    """`mbconv 5x5 /2 hidden 96 se 24 relu6`, from its operators; from its attributes where nobody knows those."""
    of = block_summary(block)
    if of is None:
        return " ".join([block.kind, *(f"{name} {value}" for name, value in block.attributes)])
    words = [block.kind]
    if of.kernel_size:
        words.append(_shape((of.kernel_size,) * of.axes))
    if of.stride != 1:
        words.append(f"/{of.stride}")
    for word, channels in (("hidden", of.between), ("se", of.gates)):
        words += [" ".join([word, *map(str, channels)])] if channels else []
    return " ".join([*words, *of.activations])

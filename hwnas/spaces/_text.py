"""Architectures as text for people. Knows blocks and options, not spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    attributes = dict(block.attributes)
    words = [block.kind]
    if "kernel_size" in attributes:
        words.append("{0}x{0}".format(attributes["kernel_size"]))
    if attributes.get("stride", 1) != 1:
        words.append(f"/{attributes['stride']}")
    # 0 of these is a layer that is not there
    for name, word in (("hidden_channels", "hidden"), ("features", "features"), ("se_channels", "se")):
        if attributes.get(name):
            words.append(f"{word} {attributes[name]}")
    if "activation" in attributes:
        words.append(str(attributes["activation"]))
    return " ".join(words)

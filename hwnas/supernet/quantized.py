"""Quantization-aware training of all sub-networks at once: in which precision each network of a step computes.

The same weights have to do in floats, in integers, and where both stand beside each other. So from a step on the
largest network computes in floats and in integers by turns, and what learns from it half of the times in integers all
through, else in floats, or block by block as it was drawn (Wang et al., 2023, "SpaceEvo"; Bai et al., 2021,
"BatchQuant").

Knows supernets and their ranges; never devices, files or search.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hwnas.precisions import EXACT, INTEGERS, is_conversion
from hwnas.supernet.elastic import NamedBlocks
from hwnas.supernet.kinds import AnySupernet
from hwnas.supernet.quantization.rounding import LearnedRange

_ALL_INTEGERS, _ALL_FLOATS = 0.5, 0.25  # shares of the networks that learn from the largest


def in_precision(blocks: NamedBlocks, precision: str) -> NamedBlocks:
    """A network with all blocks in one precision, and without conversions between them."""
    return [(name, replace(b, precision=precision)) for name, b in blocks if not is_conversion(b.kind)]


def in_precisions(networks: Sequence[NamedBlocks], step: int, rng: np.random.Generator) -> list[NamedBlocks]:
    """The networks of a step, the first of which teaches the others, each in the precision that it is trained in.

    Args:
        networks: with the precisions they were drawn with.
        step: from 0.
        rng: of this step.
    """
    found = [in_precision(networks[0], INTEGERS if step % 2 else EXACT)]
    for blocks, drawn in zip(networks[1:], rng.random(len(networks) - 1).tolist(), strict=True):
        if drawn < _ALL_INTEGERS:
            found.append(in_precision(blocks, INTEGERS))
        else:
            found.append(in_precision(blocks, EXACT) if drawn < _ALL_INTEGERS + _ALL_FLOATS else blocks)
    return found


@torch.no_grad()
def begin_ranges_(supernet: AnySupernet, networks: Iterable[NamedBlocks], images: Tensor) -> None:
    """Let all ranges begin with what networks show of them, looked at until there is none left to see.

    A value that no network has begins as wide as the widest of all, to both sides.

    Args:
        supernet: in training mode.
        networks: as many as it takes.
        images: (N, ...) normalised.
    """
    ranges = list(learned_ranges(supernet))
    for learned in ranges:
        learned.watch_()
    supernet.rounds = True
    for blocks in networks:
        supernet(images, in_precision(blocks, INTEGERS))
        if all(learned.seen for learned in ranges):
            break
    for learned in ranges:
        learned.begin_()
    wide = max(max(-low, high) for low, high in (learned.ends for learned in ranges))
    for learned in ranges:
        if learned.scale.item() == 0.0:
            learned.set_ends_(-wide, wide)


def learned_ranges(supernet: AnySupernet) -> Iterable[LearnedRange]:
    """All ranges of a supernet; none where networks are trained in floats alone."""
    return (module for module in supernet.modules() if isinstance(module, LearnedRange))


def range_names(supernet: AnySupernet) -> frozenset[str]:
    """Names of the parameters that are ranges."""
    found = [name for name, module in supernet.named_modules() if isinstance(module, LearnedRange)]
    return frozenset(f"{name}.{part}" for name in found for part in ("scale", "zero_point"))

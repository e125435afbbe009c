"""A supernet begins with the weights of another one: of fewer classes, of a narrower or shallower space.

Sub-networks use leading slices of shared weights, so that what both spaces have stays where it is, and networks of the
old space compute in the new one what they computed before. What is new to a layer's inputs begins with 0, so that the
largest network begins as the old largest one too where kernels, channels and residual blocks are added, in the manner
of Net2Net (Chen et al., 2016, section 2) and of the transformations of EAS (Cai et al., 2018, section 3.2): wider
layers hand on more, which nobody listens to yet; blocks that are added pass on what they are given, where residual
branches begin with 0 (`InitialWeights`).
It does not where blocks get parts they had not (an expansion, squeeze-and-excitation), and of wider transformers, whose
layer normalisation averages over what is new as well: there it holds of the old networks alone. Maps of positions are
resized. Copies of weights (`hwnas.supernet.copies`) keep what they differ in from the first ones, which the older
weights become; an older supernet with copies is not begun with.

Knows elastic weights and graphs; never data, devices, tables or search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from hwnas.errors import CheckpointError
from hwnas.spaces.kinds import block_graph
from hwnas.supernet.copies import copied_parameters
from hwnas.supernet.elastic import NamedBlocks, Supernet
from hwnas.supernet.kernels import shrink_kernel

if TYPE_CHECKING:
    from hwnas.types import Block

_SLOT, _WEIGHTS, _TRANSFORMS = "slots.", ".weights.", ".transforms."


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """What a supernet took over.

    Attributes:
        kept: names of parameters that were another supernet's, whole or in part.
        anew: names of those that begin as in a new training; ranges are not among them, which begin later.
    """

    kept: tuple[str, ...]
    anew: tuple[str, ...]


@torch.no_grad()
def grow_(
    supernet: Supernet, old: Mapping[str, Tensor], *, largest: NamedBlocks, classes: Sequence[int | None]
) -> Grown:
    """Give a supernet that was not trained yet the weights of one that was.

    Args:
        supernet: changed in place.
        old: name of a parameter -> its values in the other supernet.
        largest: named blocks of the supernet's largest network, whose last layer tells the classes.
        classes: of each output, which one of the other supernet's it was; None: a new one.

    Returns:
        What was taken over.

    Raises:
        CheckpointError: the two have less than half of the other one's tensors in common, or the other one cannot be
            begun with.
    """
    check_beginning(old)
    parameters = dict(supernet.named_parameters())
    copies = {name: parameters[first] for name, first in copied_parameters(parameters).items()}
    differences = {name: parameters[name] - first for name, first in copies.items()}
    outputs, maps = _output_weights(largest), _maps(largest)
    kept, anew = [], []
    for name, p in parameters.items():
        if not _is_taken(name) or name in copies:
            continue
        found, rows = old.get(name), classes if name in outputs else None
        if found is not None and name in maps and found.dim() == p.dim() == 3:  # (features, height, width)
            found = functional.interpolate(found[None], size=p.shape[1:], mode="bilinear", align_corners=False)[0]
        if found is None or not _take(p, found, rows=rows, matrices=_matrices(name, old)):
            anew.append(name)
        else:
            kept.append(name)
    if 2 * len(kept) < sum(_is_taken(name) for name in old):
        raise CheckpointError(
            f"space {supernet.space_name!r} has only {len(kept)} tensors in common with the supernet that it was to "
            "begin with, less than half of that one's; begin with one of the same family of spaces"
        )
    for name, first in copies.items():
        parameters[name].copy_(first + differences[name])
    return Grown(kept=tuple(kept), anew=tuple(anew))


def check_beginning(old: Mapping[str, Tensor]) -> None:
    """Hold that another supernet can begin with these weights.

    Args:
        old: name of a parameter -> its values.

    Raises:
        CheckpointError: there are several sets of them, of which none is that of all networks.
    """
    if copied_parameters(old):
        raise CheckpointError(
            "a training cannot begin with a supernet that has several sets of weights (train.experts, "
            "train.split_fraction): none of them is that of all its networks; give train.start_from one that was "
            "trained without"
        )


def _is_taken(name: str) -> bool:
    """Ranges are not: they begin with what the first rounded steps see."""
    return _WEIGHTS in name or _TRANSFORMS in name


def _take(p: Tensor, old: Tensor, *, rows: Sequence[int | None] | None, matrices: Mapping[int, Tensor]) -> bool:
    """Write what a parameter has in common with an older one into it; false where that is nothing."""
    if p.dim() != old.dim():
        return False
    if p.dim() > 2 and p.shape[2:] != old.shape[2:]:
        sides = {*p.shape[2:]}, {*old.shape[2:]}
        if any(len(s) > 1 or min(s) % 2 == 0 for s in sides):  # patches are no kernels around a position
            return False
        old = _kernel(old, p, matrices)
    if p.dim() > 1:
        inputs = min(p.shape[1], old.shape[1])
        old = old[:, :inputs]
        if inputs < p.shape[1]:  # before rows are written: those of new outputs listen to all inputs
            n_old = len(old) if rows is None else len(p)
            p[:n_old, inputs:] = 0
    else:
        inputs = 0
    part = p[:, :inputs] if p.dim() > 1 else p
    if rows is None:
        n = min(len(p), len(old))
        part[:n] = old[:n]
        return True
    for row, known in enumerate(rows):
        if known is not None:
            part[row] = old[known]
    return any(known is not None for known in rows)


def _kernel(old: Tensor, p: Tensor, matrices: Mapping[int, Tensor]) -> Tensor:
    """An older weight at the kernel size of a new one: in the middle of zeros, or as its own smaller kernels are."""
    mine, theirs = p.shape[-1], old.shape[-1]
    if mine < theirs:
        if mine in matrices:
            return shrink_kernel(old, mine, matrices=matrices)
        margin = (theirs - mine) // 2
        return old[(slice(None), slice(None), *(slice(margin, margin + mine),) * (old.dim() - 2))]
    margin = (mine - theirs) // 2
    return functional.pad(old, (margin, mine - theirs - margin) * (old.dim() - 2))


def _matrices(name: str, old: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Kernel size -> the matrix that leads to it, of the slot of a parameter."""
    slot, found, _ = name.partition(_WEIGHTS)
    prefix = f"{slot}{_TRANSFORMS}"
    return {int(k.removeprefix(prefix)): v for k, v in old.items() if k.startswith(prefix)} if found else {}


def _output_weights(largest: NamedBlocks) -> frozenset[str]:
    """Names of the parameters whose rows are the network's outputs."""
    slot, block = largest[-1]
    return frozenset(f"{_SLOT}{slot.replace('.', '/')}{_WEIGHTS}{name.replace('.', '/')}" for name in _last(block))


def _maps(largest: NamedBlocks) -> frozenset[str]:
    """Names of tensors that are learned for each place of an image, as positions are."""
    return frozenset(
        f"{_SLOT}{slot.replace('.', '/')}{_WEIGHTS}{w.name.replace('.', '/')}"
        for slot, block in largest
        for op in block_graph(block).ops
        if op.kind == "weight"
        for _, w in op.weights
    )


def _last(block: Block) -> tuple[str, ...]:
    """Of a block's last operator that has weights."""
    graph = block_graph(block)
    for op in reversed(graph.ops):
        if op.weights:
            return tuple(w.name for _, w in op.weights)
    return ()

"""Whether tensors by name are a network's: under which prefix, what is missing, what is too much, what is misshapen.

It knows names, shapes and types of numbers; neither files nor what a network computes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwnas.foreign import shown

_COMPILED = "_orig_mod."  # what torch.compile puts into names
_AVERAGE = "n_averaged"  # torch's averages of weights count in it
_COUNTER = "num_batches_tracked"  # of BatchNorm; older files have none
_MOST_PREFIXES = 4
_SHOWN = 3
_COMPARED = 300  # names; more take a second
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Tensors beside a network.

    Attributes:
        tensors: name in the network -> tensor.
        n_wanted: tensors of the network.
        notes: what was done to names, in words.
        missing: names in the network that have no tensor.
        unexpected: names of tensors that the network has not.
        misshapen: name -> what is wrong with its tensor, in words.
        rows: of the misshapen that differ in their first axis alone: module -> (tensor's, network's).
    """

    tensors: Mapping[str, Tensor]
    n_wanted: int
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: Mapping[str, str]
    rows: Mapping[str, tuple[int, int]]

    @property
    def n_wrong(self) -> int:
        """How many names do not fit."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    @property
    def is_whole(self) -> bool:
        """Whether all fit."""
        return not self.n_wrong


def best_fit(module: nn.Module, tensors: Mapping[str, Tensor]) -> Fit:
    """Tensors under those of their possible names that fit a network best.

    A prefix that all names share may be left out (`module.` of DataParallel, `model.` of trainers), or be added if all
    names of the network share it.

    Args:
        module: the network.
        tensors: by name, as they were saved.
    """
    wanted = {name: t for name, t in module.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    # kept in no state dict, but some versions of a network keep them
    spare = {name for name, _ in module.named_buffers()} - set(wanted)
    notes: tuple[str, ...] = ()
    if any(_COMPILED in name for name in tensors):
        tensors, notes = {name.replace(_COMPILED, ""): t for name, t in tensors.items()}, (f"{_COMPILED!r} left out",)
    if all(name.startswith("module.") for name in tensors if name != _AVERAGE):
        tensors = {name: t for name, t in tensors.items() if name != _AVERAGE}
    best = None
    for note, names in _spellings(tuple(tensors), tuple(wanted)):
        renamed = dict(zip(names, tensors.values(), strict=True))
        fit = _compared(renamed, wanted, spare=spare, notes=(*notes, note) if note else notes)
        if best is None or fit.n_wrong < best.n_wrong:
            best = fit
        if best.is_whole:
            break
    assert best is not None
    return best


def describe_misfit(fit: Fit) -> str:
    """Why tensors are not a network's: counts, the first names, and what they may have been meant for."""
    parts = []
    if fit.missing:
        parts.append(f"{len(fit.missing)} of its {fit.n_wanted} tensors are missing ({_some(fit.missing)})")
    if fit.unexpected:
        parts.append(f"{len(fit.unexpected)} in the file are not in the network ({_some(fit.unexpected)})")
    if fit.misshapen:
        parts.append(
            f"{len(fit.misshapen)} are others there ({_some([f'{k}: {v}' for k, v in fit.misshapen.items()], '; ')})"
        )
    others = fit.unexpected[:_COMPARED]
    pairs = [(m, near[0]) for m in fit.missing[:_SHOWN] if (near := difflib.get_close_matches(m, others, n=1))]
    if pairs:
        parts.append(f"perhaps {', '.join(f'{shown(theirs)} is {shown(ours)}' for ours, theirs in pairs)}")
    text = ", ".join(parts)
    if len(fit.rows) == 1 and len(fit.misshapen) == fit.n_wrong <= 2:
        ((layer, (theirs, ours)),) = fit.rows.items()
        return (
            f"{text}. The layer {shown(layer)!r} gives {theirs} outputs in the file and {ours} in the network: let the "
            f"function make the network with {theirs}; or let it load the weights itself and replace the layer then"
        )
    return f"{text}. Check that the function makes the network that was saved"


def _spellings(names: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Names as they stand, without the prefixes that all share, and with those that all of the network share."""
    yield "", names
    left, prefix = list(names), ""
    for head in _heads(names):
        prefix += head
        left = [name.removeprefix(head) for name in left]
        yield f"the prefix {prefix!r} left out", left
    prefix = ""
    for head in _heads(wanted):
        prefix += head
        yield f"the prefix {prefix!r} added", [prefix + name for name in names]


def _heads(names: Sequence[str]) -> Iterator[str]:
    """The parts, with their dots, with which all names begin, one after the other."""
    left = list(names)
    for _ in range(_MOST_PREFIXES):
        heads = {name[: name.find(".") + 1] for name in left}
        head = heads.pop() if len(heads) == 1 else ""
        if not head:
            return
        yield head
        left = [name.removeprefix(head) for name in left]


def _compared(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, spare: set[str], notes: tuple[str, ...]
) -> Fit:
    tied: dict[int, list[str]] = {}
    for name, tensor in wanted.items():
        tied.setdefault(id(tensor), []).append(name)
    tensors: dict[str, Tensor] = {}
    misshapen: dict[str, str] = {}
    rows: dict[str, tuple[int, int]] = {}
    missing = []
    for name, tensor in wanted.items():
        # files of safetensors keep one name of those that are tied
        twins = [twin for twin in tied[id(tensor)] if twin in given]
        found = given.get(name, given[twins[0]] if twins else None)
        if found is None:
            if not name.endswith(_COUNTER):
                missing.append(name)
            continue
        tensors[name] = found
        if reason := _difference(found, tensor):
            misshapen[name] = reason
            if found.shape[1:] == tensor.shape[1:] and found.shape != tensor.shape and tensor.dim():
                rows[name.rpartition(".")[0]] = (found.shape[0], tensor.shape[0])
        elif twins and not torch.equal(found, given[twins[0]]):
            misshapen[name] = f"it is tied to {shown(twins[0])} in the network, and has other numbers in the file"
    unexpected = [name for name in given if name not in wanted and name not in spare]
    left_out = [name for name in given if name in spare]
    return Fit(
        tensors=tensors,
        n_wanted=len(wanted),
        notes=(*notes, f"{_some(left_out)} left out: the network makes them itself") if left_out else notes,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        misshapen=misshapen,
        rows=rows,
    )


def _difference(found: Tensor, wanted: Tensor) -> str:
    """What tells a saved tensor from the network's, in words; empty: it can take its place."""
    if found.is_quantized or found.is_meta or found.layout != torch.strided:
        return f"no plain tensor in the file ({_dtype(found)}, {str(found.layout).removeprefix('torch.')})"
    if wanted.is_floating_point() and found.dtype not in _FLOATS:
        return f"{_dtype(found)} in the file, {_dtype(wanted)} in the network"
    if found.shape != wanted.shape:
        return f"{_shape(found)} in the file, {_shape(wanted)} in the network"
    return ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(names: Sequence[str], separator: str = ", ") -> str:
    more = len(names) - _SHOWN
    return separator.join(shown(name) for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

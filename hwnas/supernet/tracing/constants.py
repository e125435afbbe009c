"""What a module computes from its code alone: tables of positions, masks, ramps. It becomes a constant of the graph.

The tensors of an exported program have no numbers. Those that depend on no input and no weight are computed here, for
two samples, so that what differs between samples is told from what is the same for all. This module knows torch's
operators by their schemas, not by what they do.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from hwnas.graph import Ref, Weight
from hwnas.supernet.tracing.layouts import NoRule, Shape, TensorLayout, Traced, sample_shape
from hwnas.supernet.tracing.recorder import Recorder, dtype_name

_SAMPLES = 2  # in a constant that has a batch axis
_MOST = 1 << 24  # numbers in one; what is larger is no table that somebody wrote
# chance, and what has no numbers yet
_WITHOUT_NUMBERS = ("rand", "bernoulli", "normal", "multinomial", "dropout", "feature_dropout", "empty", "new_empty")
_LIKE = frozenset({"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"})  # of a shape alone


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A tensor with its numbers, computed for two samples.

    Attributes:
        tensor: the numbers.
        shape: as torch traced it.
    """

    tensor: Tensor
    shape: Shape


def held_constant(tensor: Tensor) -> Constant:
    """A tensor that the module's code makes, or keeps where it counts as none of its own."""
    return Constant(tensor.detach().clone(), tuple(tensor.shape))


def computed(node: fx.Node, known: Mapping[fx.Node, Any], *, samples: int) -> Any:
    """What an operator of torch gives, if it reads constants alone: a `Constant`, or a list of them; else None.

    Args:
        node: its call.
        known: what the nodes before it stand for.
        samples: in the traced batch.
    """
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target._opname.lstrip("_").startswith(_WITHOUT_NUMBERS):
        return None
    values = node.meta["val"] if isinstance(node.meta["val"], tuple | list) else [node.meta["val"]]
    if not all(isinstance(v, Tensor) and v.numel() <= _MOST * samples for v in values):
        return None

    def read(n: fx.Node) -> object:
        found = known[n]
        if target._opname in _LIKE and isinstance(found, Traced | Weight):
            value = n.meta["val"]
            return torch.empty(_sizes(value.shape, samples), dtype=value.dtype)
        return found.tensor if isinstance(found, Constant) else found

    args, kwargs = fx.node.map_arg((node.args, node.kwargs), read)  # type: ignore[arg-type]
    leaves = pytree.tree_leaves((args, kwargs))
    if any(not isinstance(v, Tensor) and not _is_literal(v) for v in leaves):
        return None
    try:
        given = [_of_two(v, samples) for v in args]
        named = {k: _of_two(v, samples) for k, v in kwargs.items()}
        with torch.no_grad():
            made = target(*given, **named)
    except (NoRule, RuntimeError, TypeError, ValueError, IndexError):
        return None
    results = list(made) if isinstance(made, tuple | list) else [made]
    if any(_sizes(v.shape, samples) != tuple(r.shape) for v, r in zip(values, results, strict=True)):
        return None
    constants = [Constant(r, tuple(v.shape)) for v, r in zip(values, results, strict=True)]
    return constants if isinstance(node.meta["val"], tuple | list) else constants[0]


def _is_literal(value: object) -> bool:
    literal = (int, float, str, bool, torch.dtype, torch.device, torch.layout, torch.memory_format)
    return value is None or isinstance(value, literal)


def _sizes(shape: Sequence[int], samples: int) -> Shape:
    return tuple(n // samples * _SAMPLES if n and n % samples == 0 else n for n in shape)


def _of_two(value: Any, samples: int) -> Any:
    """An argument as it is for two samples.

    Raises:
        NoRule: it counts samples, and is no size.
    """
    if isinstance(value, list | tuple) and all(isinstance(n, int) for n in value):
        return list(_sizes(value, samples))
    if isinstance(value, int) and not isinstance(value, bool) and value and value % samples == 0:
        raise NoRule
    return value


def as_value(recorder: Recorder, constant: Constant) -> Traced:
    """A constant as a value of the graph; one that has samples is the same for each.

    Raises:
        NoRule: it differs between samples, or its numbers are of a type without a name in numpy.
    """
    tensor, samples = constant.tensor, recorder.samples
    axes = [i for i, n in enumerate(constant.shape) if n and n % samples == 0]
    if not axes:
        return Traced(_emitted(recorder, tensor), None, constant.shape)
    axis = axes[0]
    first, second = tensor.chunk(_SAMPLES, axis)
    if len(axes) > 1 or not torch.equal(first, second):
        raise NoRule
    layout = TensorLayout(axis, 1, constant.shape[axis] // samples)
    target = sample_shape(constant.shape, layout)
    ref = _emitted(recorder, first.reshape(target))
    # past the rules: by them what reads constants alone would not be one for each sample
    made = recorder.append("expand", ref, weights={}, attributes={"shape": target}, values=[(target, ref.dtype, True)])
    return Traced(made[0], layout, constant.shape)


def _emitted(recorder: Recorder, tensor: Tensor) -> Ref:
    try:
        numbers = tensor.contiguous().cpu().numpy()
    except TypeError as e:  # bfloat16
        raise NoRule from e
    text = base64.b64encode(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()).decode()
    (ref,) = recorder.emit("constant", shape=tuple(tensor.shape), dtype=dtype_name(tensor.dtype), numbers=text)
    return ref

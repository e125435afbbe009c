"""Rules for ONNX operators that move numbers about: shapes, orders of axes, parts, joins, sizes of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hwnas.supernet.importing.rules import Call, Result, Unsupported, rule


@rule("Reshape")
def reshape(c: Call) -> Result:
    """To a shape that is written for one sample, or computed for as many as there are."""
    target = c.numbers(1, "shape")
    assert target is not None
    kept = [] if c.attribute("allowzero", 0) else [i for i, n in enumerate(target) if n == 0]
    target = [c.x.shape[i] if i in kept else n for i, n in enumerate(target)]
    if c.first is not None and c.samples != 1 and all(c.x.shape[i] == c.first[i] for i in kept):
        target = _for_samples(target, list(c.x.shape), c.first, samples=c.samples)
    return c.x.reshape(target)


def _for_samples(target: list[int], shape: Sequence[int], first: Sequence[int], *, samples: int) -> list[int]:
    """A shape for several samples, of one that is written for a single one.

    Args:
        target: as the file has it, without zeros.
        shape: of the tensor.
        first: of the same tensor for one sample.
        samples: in the batch.
    """
    axis = next((i for i, (n, one) in enumerate(zip(shape, first, strict=True)) if n == one * samples), None)
    fits = math.prod(target) == math.prod(shape) or (-1 in target and target[0] == -1)
    if axis is None or (fits and -1 not in target):
        return target
    in_front = math.prod(first[:axis])
    whole = [n if n != -1 else math.prod(first) // -math.prod(target) for n in target]
    for i, n in enumerate(whole):
        before, rest = divmod(in_front, math.prod(whole[:i]))
        if not rest and n % before == 0:  # the samples lie in this axis, as they lay in the other
            return [*target[:i], -1 if target[i] == -1 else n * samples, *(m for m in whole[i + 1 :])]
    return target


@rule("Flatten")
def flatten(c: Call) -> Result:
    """The axes before one, and those from it on; samples stay among the first."""
    axis = c.attribute("axis", 1)
    axis = axis + c.x.ndim if axis < 0 else axis
    if axis == 0:
        raise Unsupported("it puts samples and all else in one axis (axis is 0)")
    return c.x.reshape(math.prod(c.x.shape[:axis]), math.prod(c.x.shape[axis:]))


@rule("Transpose")
def transpose(c: Call) -> Result:
    """Axes in another order."""
    return c.x.permute(c.attribute("perm", list(range(c.x.ndim))[::-1]))


@rule("Squeeze")
def squeeze(c: Call) -> Result:
    """Axes of size 1 left out."""
    axes = c.numbers(1, "axes")
    if axes is None:
        raise Unsupported("it names no axes, so that a batch of 1 would be left out too")
    made = c.x
    for axis in sorted((a % c.x.ndim for a in axes), reverse=True):
        made = made.squeeze(axis)
    return made


@rule("Unsqueeze")
def unsqueeze(c: Call) -> Result:
    """Axes of size 1 put in."""
    axes = c.numbers(1, "axes") or []
    made = c.x
    for axis in sorted(a % (c.x.ndim + len(axes)) for a in axes):
        made = made.unsqueeze(axis)
    return made


@rule("Expand")
def expand(c: Call) -> Result:
    """Axes of size 1 repeated; a 1 in the shape leaves an axis as it is."""
    target = c.numbers(1, "shape") or []
    shape = [*[1] * (len(target) - c.x.ndim), *c.x.shape]
    target = [*[1] * (len(shape) - len(target)), *target]
    return c.x.expand([max(n, m) for n, m in zip(shape, target, strict=True)])


@rule("Tile")
def tile(c: Call) -> Result:
    """The whole of each axis repeated."""
    return c.x.repeat(c.numbers(1, "repeats") or [])


@rule("Concat", tensors=True)
def concat(c: Call) -> Result:
    """Along an axis; what is the same for all samples is repeated for each."""
    parts = [c.tensor(i) for i in range(len(c.operands))]
    axis = c.attribute("axis", 0) % parts[0].ndim
    sizes = [max(p.shape[i] for p in parts) for i in range(parts[0].ndim)]
    fitted = [_repeated(p, [p.shape[i] if i == axis else n for i, n in enumerate(sizes)]) for p in parts]
    return torch.cat(fitted, axis)


def _repeated(part: Tensor, shape: list[int]) -> Tensor:
    return part if list(part.shape) == shape else part.expand(shape)


@rule("Split")
def split(c: Call) -> Result:
    """Parts of an axis, of given sizes or equal ones."""
    axis = c.attribute("axis", 0)
    sizes = c.numbers(1, "split")
    if sizes is None:
        count = c.attribute("num_outputs", c.outputs)  # opset 18 has the attribute
        size = -(-c.x.shape[axis] // count)
        sizes = [size] * (count - 1) + [c.x.shape[axis] - size * (count - 1)]
    return list(torch.split(c.x, sizes, axis))


@rule("Slice")
def slice_(c: Call) -> Result:
    """Ranges of axes, forwards."""
    starts, ends = c.numbers(1, "starts") or [], c.numbers(2, "ends") or []
    axes = c.numbers(3, "axes") or list(range(len(starts)))
    steps = c.numbers(4) or [1] * len(starts)
    made = c.x
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise Unsupported("it goes backwards")
        index = [slice(None)] * made.ndim
        index[axis] = slice(start, min(end, made.shape[axis]), step)
        made = made[tuple(index)]
    return made


@rule("Gather", roles=("weight",))
def gather(c: Call) -> Result:
    """Positions of an axis: one, several, or rows of a table."""
    axis, rows = c.attribute("axis", 0), c.operands[1]
    if isinstance(rows, Tensor):
        if axis % c.x.ndim or c.x.ndim != 2:
            raise Unsupported("its positions depend on the network's input, and it reads no table")
        return F.embedding(rows, c.x)
    assert rows is not None
    positions = np.where(rows < 0, rows + c.x.shape[axis], rows)
    if positions.ndim == 0:
        return c.x.select(axis, int(positions))
    if positions.ndim > 1:
        raise Unsupported(f"its positions have {positions.ndim} axes")
    first = int(positions[0]) if positions.size else 0
    if np.array_equal(positions, np.arange(first, first + positions.size)):
        return c.x.narrow(axis, first, positions.size)
    index: list[slice | Tensor] = [slice(None)] * c.x.ndim
    index[axis] = torch.from_numpy(np.ascontiguousarray(positions))
    return c.x[tuple(index)]


@rule("Pad")
def pad(c: Call) -> Result:
    """With a number, or with what lies at the edge."""
    amounts = c.numbers(1, "pads") or []
    axes = c.numbers(3) or list(range(c.x.ndim))
    pairs = [[0, 0] for _ in range(c.x.ndim)]
    for i, axis in enumerate(axes):
        pairs[axis] = [amounts[i], amounts[i + len(axes)]]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[
        c.attribute("mode", "constant")
    ]
    value = c.known(2, "value")
    while len(pairs) > 1 and not any(pairs[0]):
        pairs.pop(0)
    flat = [n for pair in reversed(pairs) for n in pair]  # torch begins with the last axis
    number = 0.0 if value is None or not value.size else float(value.reshape(-1)[0])
    return F.pad(c.x, flat, mode, number if mode == "constant" else None)


@rule("Resize", "Upsample")
def resize(c: Call) -> Result:
    """An image enlarged or made smaller, as torch does it."""
    x = c.x
    count = x.ndim - 2
    sizes = c.numbers(3) if c.kind == "Resize" else None
    if sizes:
        target = sizes[-count:]
    else:
        scales = c.known(1 if c.kind == "Upsample" or c.opset < 11 else 2, "scales")
        if scales is None:
            raise Unsupported("it says neither sizes nor scales")
        target = [math.floor(n * s) for n, s in zip(x.shape[-count:], scales.reshape(-1)[-count:], strict=True)]
    old = c.kind == "Upsample" or c.opset < 11
    mode, how = c.attribute("mode", "nearest"), c.attribute("coordinate_transformation_mode", "half_pixel")
    if "axes" in c.attributes or mode not in {"nearest", "linear", "cubic"} or count not in {1, 2}:
        raise Unsupported(f"its mode is {mode}, of {count} axes")
    if mode == "nearest":
        whole = all(t % n == 0 for t, n in zip(target, x.shape[-count:], strict=True))
        usual = old or how == "asymmetric" or whole
        rounded = c.attribute("nearest_mode", "round_prefer_floor")
        if not usual or (not old and how == "asymmetric" and rounded != "floor" and not whole):
            raise Unsupported(f"it takes the nearest position by {how}, {rounded}")
        return F.interpolate(x, target)
    if old or how not in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        raise Unsupported(f"it places positions by {'asymmetric' if old else how}")
    if mode == "cubic" and c.attribute("cubic_coeff_a", -0.75) != -0.75:
        raise Unsupported("its cubic_coeff_a is not -0.75")
    name = {"linear": "linear" if count == 1 else "bilinear", "cubic": "bicubic"}[mode]
    return F.interpolate(x, target, mode=name, align_corners=how == "align_corners")


@rule("DepthToSpace")
def depth_to_space(c: Call) -> Result:
    """Channels to positions, in torch's order or the other."""
    size = c.attribute("blocksize", 1)
    if c.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(c.x, size)
    n, channels, height, width = c.x.shape
    parts = c.x.reshape(n, size, size, channels // size**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // size**2, height * size, width * size)

"""Rewrites of an exported ONNX graph so that runtimes find quantized operators in it.

The exporter writes fake-quantization as QuantizeLinear -> DequantizeLinear pairs around float
operators ("QDQ"), with weights still in float. These passes store weights and biases as integers,
put each pair where a runtime looks for it, and cut a block's float ends off. Every pass keeps what
the graph computes. This module knows ONNX graphs, not torch, devices or runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from hwnas.errors import ExportError
from hwnas.onnx_names import QUANTIZE, is_dequantize, is_quantize
from hwnas.types import Array, TensorSpec

ROW_AXES = "series_axes"  # the initializer that says where the row of an image of a series is: axis 2
_FIRST = "first_axis"
_SHAPE_ONLY = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_MOVES = _SHAPE_ONLY | {"Identity", "Split"}  # no value becomes another one


def tidy(graph: GraphProto) -> None:
    """All passes that keep the graph's interface, in order."""
    fold_constants(graph)
    merge_repeated_quantization(graph)
    sink_dequantize(graph)
    drop_unused(graph)


# ---------------------------------------------------------------- constants


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)


def _quantize(node: NodeProto, x: Array, scale: Array, zero_point: Array) -> Array:
    if scale.ndim:  # one scale for each index of one axis
        shape = [1] * x.ndim
        shape[_attribute(node, "axis", 1)] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    limits = np.iinfo(zero_point.dtype)
    # torch multiplies by the inverse: the same here, or a tie may fall to the other side
    quantized = np.rint(x * (np.float32(1) / scale)) + zero_point
    clipped: Array = np.clip(quantized, limits.min, limits.max).astype(zero_point.dtype)
    return clipped


def _filled(node: NodeProto, shape: Array) -> Array:
    given = next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, np.float32))
    return np.full(shape, given[0], dtype=given.dtype)


def _sliced(node: NodeProto, x: Array, starts: Array, ends: Array, axes: Array, steps: Array) -> Array:
    parts = [slice(None)] * x.ndim
    for start, end, axis, step in zip(*(a.tolist() for a in (starts, ends, axes, steps)), strict=True):
        # an end far below 0 means "through the first", which numpy says by None
        parts[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(parts)]


def _transposed(node: NodeProto, x: Array) -> Array:
    return x.transpose(next((list(a.ints) for a in node.attribute if a.name == "perm"), None))


# the second half is what torch writes to turn amounts of padding around
_FOLDABLE: dict[str, Callable[..., Array]] = {
    "Identity": lambda node, x: x,
    "Cast": lambda node, x: x.astype(helper.tensor_dtype_to_np_dtype(_attribute(node, "to", 0))),
    "Round": lambda node, x: np.rint(x),
    "Mul": lambda node, a, b: a * b,
    "Div": lambda node, a, b: a / b,
    "Min": lambda node, a, b: np.minimum(a, b),
    QUANTIZE: _quantize,
    "ConstantOfShape": _filled,
    "Concat": lambda node, *x: np.concatenate(x, axis=_attribute(node, "axis", 0)),
    "Reshape": lambda node, x, shape: x.reshape(shape),
    "Slice": _sliced,
    "Transpose": _transposed,
}


def fold_constants(graph: GraphProto) -> None:
    """Computes what depends on constants alone, up to DequantizeLinear: that one stays for the runtime."""
    values: dict[str, TensorProto] = {t.name: t for t in graph.initializer}
    kept: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = next(a.t for a in node.attribute if a.name == "value")
        elif node.op_type in _FOLDABLE and node.input and all(name in values for name in node.input):
            arrays = [numpy_helper.to_array(values[name]) for name in node.input]
            result = np.asarray(_FOLDABLE[node.op_type](node, *arrays))
            values[node.output[0]] = numpy_helper.from_array(np.ascontiguousarray(result).reshape(result.shape))
        else:
            kept.append(node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    for name, tensor in values.items():
        tensor.name = name
        graph.initializer.append(tensor)


# ---------------------------------------------------------------- quantization pairs


def _consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def _producers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def _qparams(graph: GraphProto, node: NodeProto) -> tuple[bytes, ...]:
    """Scale and zero point of a (de)quantize node, comparable."""
    values = {t.name: t for t in graph.initializer}
    return tuple(numpy_helper.to_array(values[name]).tobytes() for name in node.input[1:])


def merge_repeated_quantization(graph: GraphProto) -> None:
    """Removes a QuantizeLinear of what a DequantizeLinear with the same parameters has just given."""
    made_by = _producers(graph)
    for node in [n for n in graph.node if is_quantize(n)]:
        before = made_by.get(node.input[0])
        if before is not None and is_dequantize(before) and _qparams(graph, before) == _qparams(graph, node):
            rename(graph, node.output[0], before.input[0])
            graph.node.remove(node)


def sink_dequantize(graph: GraphProto) -> None:
    """Moves DequantizeLinear below operators that only change a shape, next to the one that computes."""
    outputs = {o.name for o in graph.output}
    moved = True
    while moved:  # each step moves one pair down: ends after at most nodes x nodes steps
        moved = False
        users = _consumers(graph)
        for node in graph.node:
            after = users.get(node.output[0], []) if is_dequantize(node) else []
            if len(after) == 1 and after[0].op_type in _SHAPE_ONLY and node.output[0] not in outputs:
                shape = after[0]
                first, second = node.input[0], shape.output[0]
                quantized = f"{second}_levels"  # (a name in files that ship with latency tables)
                upper, lower = NodeProto(), NodeProto()
                upper.CopyFrom(shape)
                lower.CopyFrom(node)
                upper.input[0], upper.output[0] = first, quantized
                lower.input[0], lower.output[0] = quantized, second
                node.CopyFrom(upper)
                shape.CopyFrom(lower)
                moved = True
                break


def drop_unused(graph: GraphProto) -> None:
    """Removes nodes and initializers nothing reads, and the intermediate shapes the exporter noted."""
    needed = {o.name for o in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    initializers = [t for t in graph.initializer if t.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(initializers)


def rename(graph: GraphProto, old: str, new: str) -> None:
    """Makes everything that reads or makes `old` read or make `new`."""
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
    for value in graph.output:
        if value.name == old:
            value.name = new


# ---------------------------------------------------------------- a block's float ends


def quantize_input(graph: GraphProto, *, channels_last: bool = True) -> TensorSpec:
    """Cuts the leading QuantizeLinear off: the input becomes uint8 or int8, images (N, H, W, C), series (N, L, C).

    Between two int8 blocks of a network, runtimes keep tensors channels-last. A Transpose leads back
    to (N, C, H, W); it meets the opposite one that the runtime puts around its convolution, and both
    vanish. Without it a block alone would pay for two transpositions that no network has.

    Args:
        graph: changed in place.
        channels_last: False leaves images (N, C, H, W), for a runtime that chooses layouts itself, ends included.

    Returns:
        What the input is now.

    Raises:
        ExportError: the graph does not begin with a QuantizeLinear.
    """
    entry = graph.input[0]
    readers = _consumers(graph).get(entry.name, [])
    if len(readers) != 1 or not is_quantize(readers[0]):
        raise ExportError(f"input {entry.name!r} is not quantized at once, but read by {_kinds(readers)}")
    inside = readers[0].output[0]
    dtype = _integer_type(graph, readers[0])
    row = _row_step(_consumers(graph).get(inside, []), "Unsqueeze")
    channels_last = channels_last and (_is_image(entry) or row is not None)
    if not channels_last:
        inside = entry.name
        rename(graph, readers[0].output[0], inside)
    else:
        before = entry.name
        if row is not None:  # (N, L, C) -> (N, 1, L, C)
            before, inside = f"{entry.name}_row", row.output[0]
            graph.node.remove(row)
        graph.node.insert(0, helper.make_node("Transpose", [before], [inside], name="enter", perm=[0, 3, 1, 2]))
        if row is not None:
            graph.node.insert(0, helper.make_node("Unsqueeze", [entry.name, _FIRST], [before], name="enter_row"))
            graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _FIRST))
        _permute(entry, (0, 2, 1) if row is not None else (0, 2, 3, 1))
    graph.node.remove(readers[0])
    entry.type.tensor_type.elem_type = dtype
    return _specification(graph, readers[0], dtype, channels_last=channels_last)


def quantize_output(graph: GraphProto, which: int = 0, *, channels_last: bool = True) -> TensorSpec:
    """Cuts the trailing DequantizeLinear off: an output becomes uint8 or int8, images (N, H, W, C) or series.

    Args:
        graph: changed in place.
        which: of its outputs.
        channels_last: as in `quantize_input`.

    Returns:
        What the output is now.

    Raises:
        ExportError: the output is not made by a DequantizeLinear.
    """
    result = graph.output[which]
    _dequantize_last(graph, result.name)
    last = _producers(graph).get(result.name)
    if last is None or not is_dequantize(last):
        raise ExportError(
            f"output {result.name!r} is not dequantized last, but made by {_kinds([last] if last else [])}"
        )
    if any(result.name in node.input for node in graph.node):  # others go on with its floats
        kept, floats = last, _free(graph, f"{result.name}_values")
        last = NodeProto()
        last.CopyFrom(kept)
        for node in graph.node:
            node.input[:] = [floats if name == result.name else name for name in node.input]
        kept.output[0] = floats
    else:
        graph.node.remove(last)
    dtype = _integer_type(graph, last)
    maker = _producers(graph).get(last.input[0])
    row = _row_step([maker] if maker is not None else [], "Squeeze")
    channels_last = channels_last and (_is_image(result) or row is not None)
    if not channels_last:
        rename(graph, last.input[0], result.name)
    else:
        inside, after = last.input[0], result.name
        if row is not None:  # (N, 1, L, C) -> (N, L, C)
            inside, after = row.input[0], f"{result.name}_row"
            graph.node.remove(row)
        graph.node.append(
            helper.make_node("Transpose", [inside], [after], name=_step("leave", which), perm=[0, 2, 3, 1])
        )
        if row is not None:
            graph.node.append(
                helper.make_node("Squeeze", [after, _FIRST], [result.name], name=_step("leave_row", which))
            )
            if all(t.name != _FIRST for t in graph.initializer):
                graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _FIRST))
        _permute(result, (0, 2, 1) if row is not None else (0, 2, 3, 1))
    result.type.tensor_type.elem_type = dtype
    return _specification(graph, last, dtype, channels_last=channels_last)


def _dequantize_last(graph: GraphProto, name: str) -> None:
    """Makes a DequantizeLinear the last step of an output, where steps after it only move values: of the integers.

    Others may go on with the floats, so those steps stay for them.
    """
    made_by = _producers(graph)
    steps: list[tuple[NodeProto, str]] = []
    node, made = made_by.get(name), name
    while node is not None and node.op_type in _MOVES:
        steps.append((node, made))
        made = node.input[0]
        node = made_by.get(made)
    if not steps or node is None or not is_dequantize(node):
        return
    inside, last = node.input[0], NodeProto()
    last.CopyFrom(node)
    moved: list[NodeProto] = []
    for step, made in reversed(steps):
        copy = NodeProto()
        copy.CopyFrom(step)
        copy.name = f"{step.name}_of_{name}"
        copy.input[0] = inside
        copy.output[:] = [_free(graph, f"{output}_levels_of_{name}") for output in step.output]
        inside = copy.output[list(step.output).index(made)]
        moved.append(copy)
    floats = _free(graph, f"{name}_moved")
    for other in graph.node:
        other.input[:] = [floats if x == name else x for x in other.input]
        other.output[:] = [floats if x == name else x for x in other.output]
    last.input[0], last.output[0], last.name = inside, name, f"{last.name}_of_{name}"
    graph.node.extend([*moved, last])
    drop_unused(graph)


def _free(graph: GraphProto, name: str) -> str:
    """A name like this one that no tensor has."""
    taken = {x for node in graph.node for x in (*node.input, *node.output)}
    taken |= {x.name for x in (*graph.input, *graph.output, *graph.initializer)}
    while name in taken:
        name += "_"
    return name


def _step(name: str, which: int) -> str:
    return f"{name}_{which}" if which else name


def _specification(graph: GraphProto, node: NodeProto, dtype: int, *, channels_last: bool) -> TensorSpec:
    """What a tensor is that a (de)quantize node led from or to floats."""
    values = {t.name: numpy_helper.to_array(t).item() for t in graph.initializer if t.name in node.input[1:]}
    return TensorSpec(
        layout="NHWC" if channels_last else "NCHW",
        dtype=helper.tensor_dtype_to_np_dtype(dtype).name,
        scale=values[node.input[1]],
        zero_point=values[node.input[2]],
    )


def _integer_type(graph: GraphProto, node: NodeProto) -> int:
    """The ONNX type of a (de)quantize node's quantized values."""
    return next((t.data_type for t in graph.initializer if t.name == node.input[2]), TensorProto.UINT8)


def _row_step(nodes: list[NodeProto], kind: str) -> NodeProto | None:
    """The only one of some nodes, if it makes an image of one row of a series, or the reverse (_onnx_series.py)."""
    return nodes[0] if len(nodes) == 1 and nodes[0].op_type == kind and nodes[0].input[1] == ROW_AXES else None


def _is_image(value: ValueInfoProto) -> bool:
    return len(value.type.tensor_type.shape.dim) == 4


def _permute(value: ValueInfoProto, order: tuple[int, ...]) -> None:
    dims = value.type.tensor_type.shape.dim
    sizes = [dim.dim_value for dim in dims]
    for place, i in enumerate(order):
        if i != place:  # a batch of any size has a name and no value
            dims[place].dim_value = sizes[i]


def _kinds(nodes: Iterable[NodeProto]) -> str:
    return ", ".join(sorted({n.op_type for n in nodes})) or "nothing"


def check(model: onnx.ModelProto) -> None:
    """Raises ExportError if the model is not valid ONNX."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise ExportError(f"the exported graph is not valid ONNX: {e}") from e

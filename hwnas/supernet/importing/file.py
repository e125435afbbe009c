"""From an ONNX file to its nodes and constants; what cannot become a network is refused with the reason.

It knows the format; never torch, nor what operators compute.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hwnas._places import user_path
from hwnas.errors import ModelError
from hwnas.foreign import ForeignFileError, as_written, inner_path, printable, read_foreign, shown
from hwnas.given_inputs import INPUT_DTYPES, InputShape
from hwnas.supernet.importing.nodes import Node, OnnxGraph

_LARGEST = 2 << 30  # bytes: protobuf's own bound
_OURS = ("", "ai.onnx")
_OLDEST = 7  # before it, axes were broadcast by an attribute
_QUANTIZED = re.compile(r"Quantize|^Q[A-Z]|Integer$|^QLinear")
_SAID = 300  # characters of an error of ONNX's


def onnx_files(path: str | Path) -> tuple[Path, ...]:
    """The file, and those beside it that hold its larger tensors.

    Raises:
        ModelError: it cannot be read, or names a file outside of its folder.
    """
    path = user_path(path)
    return (path, *_external(_read(path), path))


def read_onnx(path: str | Path) -> OnnxGraph:
    """The network of a file.

    Args:
        path: of an `.onnx` file; tensors may lie in files beside it.

    Raises:
        ModelError: it is missing, damaged, quantized or in half precision; holds control flow or operators of others
            than ONNX; has no input that can be sampled, or a batch of more than one.
    """
    import onnx
    from onnx import external_data_helper, inliner

    path = user_path(path)
    where = f"the ONNX file {shown(path)}"
    model = _read(path)
    _external(model, path)
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
        model = inliner.inline_local_functions(model)
        opset = max((o.version for o in model.opset_import if o.domain in _OURS), default=0)
        _refuse(model, where, opset=opset)
        model = _without_unknown(model)
        for output in model.graph.output:
            output.type.tensor_type.shape.SetInParent()  # the checker wants some shape, and nobody else reads it
        onnx.checker.check_model(model, full_check=False)
        return _graph(model, where, opset=opset)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, OSError, ValueError, RuntimeError) as e:
        if isinstance(e, ModelError):  # one of ours is a ValueError too
            raise
        raise ModelError(f"{where} is no valid ONNX model: {printable(str(e), limit=_SAID)}") from e


def _read(path: Path) -> Any:
    """The file without tensors that lie elsewhere."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    where = f"the ONNX file {shown(path)}"
    try:
        model = onnx.load_model_from_string(read_foreign(path, limit_bytes=_LARGEST))
    except ForeignFileError as e:
        raise ModelError(f"{where} is not taken: {e}") from e
    except OSError as e:
        raise ModelError(f"{where} cannot be read: {e.strerror}") from e
    except DecodeError as e:
        raise ModelError(f"{where} is no ONNX model, or cut short ({e})") from e
    if not model.graph.node:
        raise ModelError(f"{where} is no ONNX model, or holds no operators")
    return model


def _external(model: Any, path: Path) -> tuple[Path, ...]:
    """Files beside it that hold its tensors."""
    from onnx import external_data_helper

    names: dict[str, None] = {}
    for tensor in external_data_helper._get_all_tensors(model):
        if external_data_helper.uses_external_data(tensor):
            names |= {entry.value: None for entry in tensor.external_data if entry.key == "location"}
    try:
        return tuple(inner_path(path.parent, name) for name in names)
    except ForeignFileError as e:
        raise ModelError(f"the ONNX file {shown(path)} keeps tensors in {as_written(next(iter(names)))}: {e}") from e


def _refuse(model: Any, where: str, *, opset: int) -> None:
    """Hold that a file is a float network of ONNX's own operators.

    Raises:
        ModelError: says what it is, and what to give.
    """
    if opset < _OLDEST:
        raise ModelError(
            f"{where} is of opset {opset}; {_OLDEST} and later are read. Export it anew, or convert it with "
            "onnx.version_converter.convert_version"
        )
    nodes = model.graph.node
    quantized = [n for n in nodes if _QUANTIZED.search(n.op_type)]
    if quantized:
        raise ModelError(
            f"{where} is quantized ({_counted(quantized)}); give the float network: quantization comes at the end "
            "here, for the device"
        )
    foreign = [n for n in nodes if n.domain not in _OURS]
    if foreign:
        raise ModelError(
            f"{where} holds operators of {as_written(foreign[0].domain)} ({_counted(foreign)}); export it with ONNX's "
            "own operators, and without the optimisations of a runtime"
        )
    branching = [n for n in nodes if any(a.HasField("g") or a.graphs for a in n.attribute)]
    if branching:
        raise ModelError(
            f"{where} holds control flow ({_counted(branching)}); a network does the same for every input. Export it "
            "for inputs of one shape, and simplify it (onnxsim, onnxslim)"
        )


def _counted(nodes: list[Any]) -> str:
    """Operators with how often they are there, and the first node of each."""
    kinds = Counter(n.op_type for n in nodes)
    first = {n.op_type: n.name or n.output[0] for n in reversed(nodes)}
    return ", ".join(f"{n} {printable(kind)}, first {as_written(first[kind])}" for kind, n in kinds.most_common(4))


def _without_unknown(model: Any) -> Any:
    """Operators that ONNX itself defines by others, and that have no rule here, written out."""
    from onnx import inliner

    from hwnas.supernet.importing.rules import RULES

    unknown = {n.op_type for n in model.graph.node} - RULES.keys()
    if not unknown:
        return model
    ids = [(domain, kind) for kind in sorted(unknown) for domain in _OURS]
    return inliner.inline_selected_functions(model, ids, inline_schema_functions=True)


# ---------------------------------------------------------------- nodes, constants, inputs


def _graph(model: Any, where: str, *, opset: int) -> OnnxGraph:
    from onnx import numpy_helper

    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    half = sorted({str(a.dtype) for a in constants.values() if a.dtype.kind == "f" and a.dtype != np.float32})
    if half:
        raise ModelError(f"{where} holds weights in {', '.join(half)}; give the network in float32")
    given = [i for i in graph.input if i.name not in constants]
    found = [_node(n) for n in graph.node]
    shapes = tuple(_shape(i, where) for i in given)
    return OnnxGraph(
        nodes=found,
        constants=constants,
        inputs=tuple(i.name for i in given),
        shapes=shapes,
        outputs=tuple(o.name for o in graph.output),
        opset=opset,
    )


def _node(node: Any) -> Node:
    from onnx import helper, numpy_helper

    attributes: dict[str, Any] = {}
    for a in node.attribute:
        value = helper.get_attribute_value(a)
        if a.type == a.TENSOR:
            value = numpy_helper.to_array(value)
        elif isinstance(value, bytes):
            value = value.decode(errors="replace")
        attributes[a.name] = value
    return Node(
        kind=node.op_type,
        name=node.name,
        scope=_scope(node),
        inputs=list(node.input),
        outputs=list(node.output),
        attributes=attributes,
    )


def _scope(node: Any) -> str:
    """Path of the module as torch's newer exporter notes it: `['', 'layer1', 'layer1.0', 'conv2d']`, in JSON or not."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = json.loads(entry.value.replace("'", '"'))
                return str(scopes[-2])
            except (ValueError, IndexError, TypeError):
                return ""
    return ""


def _shape(value: Any, where: str) -> InputShape | None:
    """Of one sample; None where a size is open.

    Raises:
        ModelError: it is no tensor of numbers that can be sampled, or of a batch that is not 1.
    """
    from onnx import helper

    name, tensor = as_written(value.name), value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape") or not tensor.shape.dim:
        raise ModelError(f"the input {name} of {where} is no tensor of known rank; its first axis must be the batch's")
    dtype = str(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    if dtype not in INPUT_DTYPES:
        raise ModelError(
            f"the input {name} of {where} is of {dtype}; allowed: {', '.join(INPUT_DTYPES)}. Export the network as it "
            "was before its input was converted"
        )
    batch, *sizes = (d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    if batch not in {None, 1}:
        raise ModelError(
            f"the input {name} of {where} is of {batch} samples at once; export it for one sample, or for any number"
        )
    if not sizes or None in sizes:
        return None
    return InputShape(tuple(n for n in sizes if n is not None), dtype)

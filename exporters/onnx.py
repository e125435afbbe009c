"""Writes torch modules as ONNX files: float operators, or quantized ones as QDQ pairs.

The same module gives the same bytes, so a file's hash names it. This module knows torch and ONNX, not blocks,
devices, tables or search.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas import __version__
from hwnas.errors import ExportError
from hwnas.files import write_whole
from hwnas.types import NETWORK_ENDS, Artefact, Batch, Ends, TensorSpec

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

OPSET = 19  # the first whose QuantizeLinear every reader knows, onnx's own reference among them


class OnnxExporter:
    """Exporter for format `onnx`: networks have float ends and take any batch size, if nothing else is said."""

    format = "onnx"
    _any_batch = True  # the runtime runs files of any number of samples
    _channels_last = True  # images of integers, at a file's ends

    def export(
        self, model: nn.Module, example: Tensor, path: Path, *, precision: str, ends: Ends = NETWORK_ENDS
    ) -> Artefact:
        """Write a module as it is in eval mode; it is left in the mode it had.

        A network of several outputs (`hwnas.graph.joining`) gives each of them, under its own name.

        Args:
            model: float, or quantized by `hwnas.supernet.quantization.quantize`.
            example: one batch (N, ...) of float32; only its shape matters.
            path: where to write; replaced whole.
            precision: what to note in the artefact: a name of hwnas/precisions.py.
            ends: integers take and give images as (N, H, W, C) if no layout is said; floats have (N, C, H, W).

        Raises:
            ExportError: the module has something that ONNX cannot say; names it. Or its ends cannot look like that.
        """
        from hwnas.supernet.parting import parted_network

        from . import _qdq

        if ends.input_layout == "NHWC" and not ends.integer_input:
            raise ExportError(f"format {self.format!r} takes images of floats as NCHW alone, not NHWC; say no layout")
        any_batch = self._any_batch and not ends.fixed_batch
        several = parted_network(model)
        names = [ends.output_name] if several is None else [part.name for part in several.parts]
        proto = _trace(several or model, example, names=names, dynamic_batch=any_batch)
        given, results = TensorSpec(), [TensorSpec()] * len(names)
        if ends.integer_input:
            last = self._channels_last if ends.input_layout is None else ends.input_layout == "NHWC"
            given = _qdq.quantize_input(proto.graph, channels_last=last)
        if ends.integer_output:
            results = [
                _qdq.quantize_output(proto.graph, i, channels_last=self._channels_last) for i in range(len(names))
            ]
        _qdq.drop_unused(proto.graph)
        written = replace(self._write(proto, path, precision=precision), input=given)
        return replace(written, output=results[0]) if several is None else replace(written, outputs=tuple(results))

    def _write(self, proto: onnx.ModelProto, path: Path, *, precision: str) -> Artefact:
        """The file, and what it is called."""
        return _write(proto, path, format=self.format, precision=precision)


# ---------------------------------------------------------------- writing


def _trace(model: nn.Module, example: Tensor, *, names: Sequence[str], dynamic_batch: bool) -> onnx.ModelProto:
    import onnx
    import torch
    from torch.jit._trace import TracerWarning

    from . import _onnx_series, _qdq

    axes = {name: {0: "batch"} for name in ("input", *names)} if dynamic_batch else None
    buffer = io.BytesIO()
    with _predicting(model):
        try:
            with warnings.catch_warnings(), torch.no_grad():
                # torch announces this exporter's successor on every call; it takes ten times as long
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.filterwarnings("ignore", category=TracerWarning)
                warnings.filterwarnings("ignore", message="Constant folding")  # (of its own paddings: nothing is lost)
                torch.onnx.export(
                    model,
                    (example,),
                    buffer,  # type: ignore[arg-type]
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=["input"],
                    output_names=list(names),
                    dynamic_axes=axes,
                )
        except Exception as e:  # torch raises nearly anything here
            raise ExportError(f"{_culprit(model, example)} cannot be written as ONNX: {e}") from e
    proto = onnx.load_from_string(buffer.getvalue())
    _qdq.tidy(proto.graph)
    _onnx_series.series_as_images(proto)
    _tell_shapes_(proto.graph.output, model, example, dynamic_batch=dynamic_batch)
    return proto


@contextmanager
def _predicting(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part is left in the mode it had."""
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _tell_shapes_(
    results: Iterable[onnx.ValueInfoProto], model: nn.Module, example: Tensor, *, dynamic_batch: bool
) -> None:
    """Say the shapes of outputs that torch did not find out, as behind a quantized padding."""
    import torch

    told = [result.type.tensor_type.shape.dim for result in results]
    if all(dim.HasField("dim_value") for dims in told for dim in dims[1:]):
        return
    with _predicting(model), torch.no_grad():
        found = model(example)
    for dims, output in zip(told, found if isinstance(found, tuple) else (found,), strict=True):
        for dim, n in list(zip(dims, output.shape, strict=True))[dynamic_batch:]:
            dim.dim_value = n


def _write(proto: onnx.ModelProto, path: Path, *, format: str, precision: str) -> Artefact:
    from . import _qdq

    proto.producer_name, proto.producer_version = "hwnas", __version__
    proto.doc_string = ""
    for node in proto.graph.node:
        node.doc_string = ""
    _qdq.check(proto)
    data = proto.SerializeToString(deterministic=True)
    write_whole(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return Artefact(
        path=path,
        format=format,
        precision=precision,
        sha256=digest,
        size_bytes=len(data),
        batch=_batch(proto.graph.input[0]),
    )


def _batch(entry: onnx.ValueInfoProto) -> Batch:
    """How many samples a graph's input takes, by its own first dimension."""
    first = entry.type.tensor_type.shape.dim[0]
    return int(first.dim_value) if first.HasField("dim_value") else "any"


def _culprit(model: nn.Module, example: Tensor) -> str:
    """Names the first part of a model that cannot be exported on its own, for an error message."""
    import torch

    whole = type(model).__name__
    seen: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda m, args, name=name: seen.setdefault(name, (m, args)) and None)
        for name, module in model.named_modules()
        if name and not any(module.children())
    ]
    try:
        with torch.no_grad():
            model(example)
    except Exception as e:  # noqa: BLE001 - the model's own code may raise anything, and that is the answer
        return f"{whole} fails on an input of shape {tuple(example.shape)} ({e}), so it"
    finally:
        for hook in hooks:
            hook.remove()
    for name, (module, arguments) in seen.items():
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(module, arguments, io.BytesIO(), dynamo=False, opset_version=OPSET)  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001 - whatever it is, this is the part that cannot be written
            return f"module {name!r} ({type(module).__name__}) of {whole}"
    return whole

"""Writes torch modules as ONNX files: float operators, or quantized ones as QDQ pairs.

The same module gives the same bytes, so a file's hash names it. This module knows torch, ONNX and
blocks, not devices, tables or search.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas import __version__
from hwnas.errors import ExportError
from hwnas.files import write_whole
from hwnas.precisions import EXACT, gives_integers, takes_integers
from hwnas.spaces.drift_anchor import anchor_blocks, between_neighbours
from hwnas.types import Artefact, Batch, Block, TensorSpec

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

OPSET = 19  # the first whose QuantizeLinear every reader knows, onnx's own reference among them


class OnnxExporter:
    """Exporter for format `onnx`.

    Args:
        dynamic_batch: networks take any batch size; blocks always have batch 1.
    """

    format = "onnx"
    _symmetric = False  # how what is only timed is quantized
    _channels_last = True  # images at an int8 block's ends

    def __init__(self, *, dynamic_batch: bool = True) -> None:
        self.dynamic_batch = dynamic_batch

    def export(self, model: nn.Module, example: Tensor, path: Path, *, precision: str) -> Artefact:
        """Write a module as it stands, with input "input" and output "logits".

        Args:
            model: float, or quantized by `hwnas.supernet.quantization.quantize`; it is written in
                eval mode and left in the mode it had.
            example: one batch (N, ...) of float32; only its shape matters.
            path: where to write; replaced whole.
            precision: what to note in the artefact: a name of hwnas/precisions.py.

        Raises:
            ExportError: the module has something that ONNX cannot say; names it.
        """
        proto = _trace(model, example, names=("input", "logits"), dynamic_batch=self.dynamic_batch)
        return self._write(proto, path, precision=precision)

    def export_block(self, block: Block, path: Path, *, seed: int = 0) -> Artefact:
        """Write one block with random weights, batch 1, input "input" and output "output".

        An int8 block takes and gives uint8, images as (1, H, W, C), as it does between its neighbours
        in a running network. A `quantize` block leads from float (1, C, H, W) there, a `dequantize`
        block back: the change of layout belongs to the change of precision.

        Raises:
            SpaceError: there is no module for the block's kind.
            ExportError: the block cannot be written.
        """
        import torch

        from . import _networks, _qdq

        integers_in, integers_out = takes_integers(block), gives_integers(block)
        blocks = between_neighbours(block)
        model, _ = _networks.sample(blocks, precision=block.precision, seed=seed, symmetric=self._symmetric)
        proto = _trace(model, torch.zeros(1, *block.in_shape), names=("input", "output"), dynamic_batch=False)
        if integers_in:
            _qdq.quantize_input(proto.graph, channels_last=self._channels_last)
        if integers_out:
            _qdq.quantize_output(proto.graph, channels_last=self._channels_last)
        _qdq.drop_unused(proto.graph)
        artefact = self._write(proto, path, precision=block.precision)
        return replace(
            artefact,
            input=self._integers(block.in_shape) if integers_in else artefact.input,
            output=self._integers(block.out_shape) if integers_out else artefact.output,
        )

    def export_sample(self, blocks: Sequence[Block], path: Path, *, precision: str, seed: int = 0) -> Artefact:
        """Write a whole network with random weights, to be timed: its latency does not depend on them.

        Args:
            blocks: of the network, in order, boundaries included.
            path: where to write; replaced whole.
            precision: what to note in the artefact: the quantized one as soon as one block is.
            seed: of the weights.

        Raises:
            SpaceError: there is no module for a block's kind, or a boundary is missing.
            ExportError: the network cannot be written.
        """
        import torch

        from . import _networks

        model, in_shape = _networks.sample(blocks, precision=precision, seed=seed, symmetric=self._symmetric)
        example = torch.zeros(1, *in_shape)
        proto = _trace(model, example, names=("input", "logits"), dynamic_batch=self.dynamic_batch)
        return self._write(proto, path, precision=precision)

    def reference_artefact(self, path: Path, *, precision: str = EXACT) -> Artefact:
        """Write the fixed network whose time tells how fast the machine is at the moment.

        A small convolutional network (64 px, 8 inverted residuals), with fixed batch 1; the same bytes
        every time on the same versions of torch and onnx.

        Raises:
            UnknownNameError: the precision is not known.
        """
        import torch

        from . import _networks

        blocks = anchor_blocks(precision)
        model, in_shape = _networks.sample(blocks, precision=precision, seed=0, symmetric=self._symmetric)
        proto = _trace(model, torch.zeros(1, *in_shape), names=("input", "logits"), dynamic_batch=False)
        return self._write(proto, path, precision=precision)

    def _integers(self, shape: tuple[int, ...]) -> TensorSpec:
        """A block's quantized end; its scale does not matter, as its weights do not."""
        layout = "NHWC" if self._channels_last and len(shape) == 3 else "NCHW"
        return TensorSpec(layout=layout, dtype="int8" if self._symmetric else "uint8")

    def _write(self, proto: onnx.ModelProto, path: Path, *, precision: str) -> Artefact:
        """The file, and what it is called."""
        return _write(proto, path, format=self.format, precision=precision)


# ---------------------------------------------------------------- writing


def _trace(model: nn.Module, example: Tensor, *, names: tuple[str, str], dynamic_batch: bool) -> onnx.ModelProto:
    import onnx
    import torch
    from torch.jit._trace import TracerWarning

    from . import _qdq

    axes = {name: {0: "batch"} for name in names} if dynamic_batch else None
    buffer = io.BytesIO()
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
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
                input_names=[names[0]],
                output_names=[names[1]],
                dynamic_axes=axes,
            )
    except Exception as e:  # torch raises nearly anything here
        raise ExportError(f"{_culprit(model, example)} cannot be written as ONNX: {e}") from e
    finally:
        for module, mode in modes:
            module.training = mode
    proto = onnx.load_from_string(buffer.getvalue())
    _qdq.tidy(proto.graph)
    return proto


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

"""Writes torch modules as TFLite files (LiteRT): float operators, or int8 ones with the scales torch has.

The flatbuffer is written directly, which takes milliseconds where converters take seconds. The same module gives
the same bytes. This module knows torch, blocks and artefacts, not devices, tables or search.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import ConfigError, MissingPackageError
from hwnas.files import write_whole
from hwnas.precisions import EXACT, gives_integers, takes_integers
from hwnas.spaces.drift_anchor import anchor_blocks, between_neighbours
from hwnas.types import Artefact, Block, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

_LAYOUTS = ("NHWC", "NCHW")


class LiteRtExporter:
    """Exporter for format `tflite`. Files have a fixed batch of 1.

    A network whose first block is int8 takes int8, one whose last block is int8 gives int8: the artefact's `input`
    and `output` say with which scale and zero point. Between blocks of different precision stand QUANTIZE and
    DEQUANTIZE.

    Args:
        layout: in which networks take their images: NHWC as the format computes, or NCHW as torch has them, which
            costs a transposition. Blocks on their own are always NHWC.
    """

    format = "tflite"

    def __init__(self, *, layout: str = "NHWC") -> None:
        if layout not in _LAYOUTS:
            raise ConfigError(f"layout {layout!r} is unknown; known: {', '.join(_LAYOUTS)}")
        self.layout = layout

    def export(self, model: nn.Module, example: Tensor, path: Path, *, precision: str) -> Artefact:
        """Write a module as it stands, with input "input" and output "logits".

        Args:
            model: float, or quantized by `hwnas.supernet.quantization.quantize`; it is written as it is in eval
                mode, and is not changed.
            example: one batch (N, ...) of float32; only the shape of a sample matters.
            path: where to write; replaced whole.
            precision: what to note in the artefact: a name of hwnas/precisions.py.

        Raises:
            ExportError: the module has a part that is not among those this writer knows; names it.
        """
        written = _writer()(model, tuple(example.shape[1:]), names=("input", "logits"), layout=self.layout)
        return _write(*written, path, precision=precision)

    def export_block(self, block: Block, path: Path, *, seed: int = 0) -> Artefact:
        """Write one block with random weights, input "input" and output "output", images as (1, H, W, C).

        An int8 block takes and gives int8. A `quantize` block leads from float there, a `dequantize` block back;
        both are operators, also where a whole network would do without.

        Raises:
            SpaceError: there is no module for the block's kind.
            ExportError: the block cannot be written.
        """
        from . import _networks

        blocks = between_neighbours(block)
        model, _ = _networks.sample(blocks, precision=block.precision, seed=seed)
        written = _writer()(
            model,
            block.in_shape,
            names=("input", "output"),
            integer_input=takes_integers(block),
            integer_output=gives_integers(block),
        )
        return _write(*written, path, precision=block.precision)

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
        from . import _networks

        model, in_shape = _networks.sample(blocks, precision=precision, seed=seed)
        written = _writer()(model, in_shape, names=("input", "logits"), layout=self.layout)
        return _write(*written, path, precision=precision)

    def reference_artefact(self, path: Path, *, precision: str = EXACT) -> Artefact:
        """Write the fixed network whose time tells how fast the machine is at the moment.

        A small convolutional network (64 px, 8 inverted residuals); the same bytes every time, whatever this
        exporter's options.

        Raises:
            UnknownNameError: the precision is not known.
        """
        return LiteRtExporter().export_sample(anchor_blocks(precision), path, precision=precision)


def _writer() -> Callable[..., tuple[bytes, TensorSpec, TensorSpec]]:
    """`to_tflite`.

    Raises:
        MissingPackageError: one of the packages it needs is not installed.
    """
    try:
        from ._tflite_network import to_tflite
    except ModuleNotFoundError as e:
        raise MissingPackageError(e.name or "?", "litert", needed_for=f"exporter {LiteRtExporter.format!r}") from e
    return to_tflite


def _write(data: bytes, given: TensorSpec, result: TensorSpec, path: Path, *, precision: str) -> Artefact:
    write_whole(path, data)
    return Artefact(
        path=path,
        format=LiteRtExporter.format,
        precision=precision,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        input=given,
        output=result,
        batch=1,
    )

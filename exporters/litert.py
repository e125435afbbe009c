"""Writes torch modules as TFLite files (LiteRT): float operators, or int8 ones with the scales torch has.

The flatbuffer is written directly, which takes milliseconds where converters take seconds. The same module gives
the same bytes. This module knows torch and artefacts, not blocks, devices, tables or search.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import ExportError, MissingPackageError
from hwnas.files import write_whole
from hwnas.types import NETWORK_ENDS, Artefact, Ends, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


class LiteRtExporter:
    """Exporter for format `tflite`. Files have a fixed batch of 1.

    If nothing else is said, a network whose first operator is int8 takes int8, one whose last is int8 gives int8: the
    artefact's `input` and `output` say with which scale and zero point. Between operators of different precision stand
    QUANTIZE and DEQUANTIZE. Images are NHWC, as the format computes, and series channels-last; those that come in may
    be NCHW, which costs a transposition. Tokens and positions are int32.
    """

    format = "tflite"

    def export(
        self, model: nn.Module, example: Tensor, path: Path, *, precision: str, ends: Ends = NETWORK_ENDS
    ) -> Artefact:
        """Write a module as it is in eval mode; it is not changed.

        A network of several outputs (`hwnas.graph.joining`) gives each of them, in their order.

        Args:
            model: float, or quantized by `hwnas.supernet.quantization.quantize`.
            example: one batch (N, ...); only its shape matters.
            path: where to write; replaced whole.
            precision: what to note in the artefact: a name of hwnas/precisions.py.
            ends: of the file.

        Raises:
            ExportError: the module has a part that is not among those this writer knows; names it. Or its ends cannot
                look like that.
        """
        if ends.fixed_batch and len(example) != 1:
            raise ExportError(f"format {self.format!r} has one sample at a time, not {len(example)}")
        data, given, results, several = _writer()(model, tuple(example.shape[1:]), ends)
        write_whole(path, data)
        return Artefact(
            path=path,
            format=self.format,
            precision=precision,
            sha256=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
            input=given,
            output=TensorSpec() if several else results[0],
            batch=1,
            outputs=tuple(results) if several else (),
        )


def _writer() -> Callable[[nn.Module, Sequence[int], Ends], tuple[bytes, TensorSpec, list[TensorSpec], bool]]:
    """`to_tflite`.

    Raises:
        MissingPackageError: one of the packages it needs is not installed.
    """
    try:
        from ._tflite_network import to_tflite
    except ModuleNotFoundError as e:
        raise MissingPackageError(e.name or "?", "litert", needed_for=f"exporter {LiteRtExporter.format!r}") from e
    return to_tflite

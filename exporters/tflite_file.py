"""Reads a TFLite file: its operators with what they cost, and each of them as a file of its own.

It knows the file format, not torch, devices or what a network is for.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hwnas.errors import ArtefactError
from hwnas.foreign import ForeignFileError, printable, read_foreign, shown

from ._tflite_graph import IDENTIFIER, AlignedBuffer

_LARGEST = 2 << 30  # bytes, of a flatbuffer
_KINDS = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
_TYPES = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
_BITS = {"int4": 4, "int2": 2, "uint4": 4, "bool": 8, "float16": 16, "bfloat16": 16, "complex64": 64, "complex128": 128}
_CONTROL = frozenset({"IF", "WHILE", "CALL", "CALL_ONCE"})  # what they run stands in other subgraphs

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteOperator:
    """One operator of a file.

    Attributes:
        index: in the order in which they run.
        kind: as the schema names it: `CONV_2D`; of operators of others, the name they have.
        name: of its first output.
        dtype: of its first output: `float32`, `int8`.
        shape: of its first output, with the batch axis; images are (1, H, W, C).
        weight_dtype: of its weights; empty where it has none.
        macs: multiply-accumulates.
        weight_bytes: of its constants.
    """

    index: int
    kind: str
    name: str
    dtype: str
    shape: Shape
    weight_dtype: str
    macs: int
    weight_bytes: int

    @property
    def precision(self) -> str:
        """That it computes in: `int8` where its result is of integers, else `fp32`."""
        return "fp32" if self.dtype.startswith(("float", "bfloat")) or self.kind == "DEQUANTIZE" else "int8"


class TfliteFile:
    """A TFLite file, read.

    Args:
        data: its content.
        where: it came from; named in errors.

    Attributes:
        operators: in the order in which they run.
        inputs: (type, shape) each.
        outputs: likewise.
        peak_bytes: what activations take at most at once, computed.

    Raises:
        ArtefactError: it is no TFLite model, damaged, or keeps its weights outside of the flatbuffer.
    """

    def __init__(self, data: bytes, *, where: str) -> None:
        if data[4:8] != IDENTIFIER:
            raise ArtefactError(f"{where} is not a TFLite model: it lacks the identifier {IDENTIFIER.decode()!r}")
        try:
            self._model = schema.ModelT.InitFromPackedBuf(data, 0)
            self._graph = self._model.subgraphs[0]
            self._tensors = list(self._graph.tensors or [])
            if any(getattr(b, "offset", 0) for b in self._model.buffers):
                raise ArtefactError(f"{where} keeps weights behind the flatbuffer, which is not read")
            self.operators = tuple(self._described(i, op) for i, op in enumerate(self._graph.operators or []))
            self.inputs = tuple(self._type_and_shape(i) for i in self._graph.inputs)
            self.outputs = tuple(self._type_and_shape(i) for i in self._graph.outputs)
            self.peak_bytes = self._peak() if self.operators else 0
        except (struct.error, LookupError, ValueError, TypeError, AttributeError, UnicodeDecodeError) as e:
            if isinstance(e, ArtefactError):
                raise
            raise ArtefactError(f"{where} is not a TFLite model, or damaged: {printable(str(e), limit=200)}") from e
        if not self.operators:
            raise ArtefactError(f"{where} has no operators")

    def _peak(self) -> int:
        """What activations take at most at once, in the file's order, each tensor as long as it is read."""
        ops = self._graph.operators
        last = {int(t): i for i, op in enumerate(ops) for t in op.inputs if t >= 0}
        last |= {int(t): len(ops) for t in self._graph.outputs}
        first = {int(t): i for i, op in reversed(list(enumerate(ops))) for t in op.outputs}
        first |= {int(t): 0 for t in self._graph.inputs}
        lives = [(first[t], last.get(t, first[t]), self._bytes(t)) for t in first]
        return max(sum(n for begin, end, n in lives if begin <= i <= end) for i in range(len(ops)))

    def cut(self, index: int) -> bytes:
        """An operator as a file: it takes what it reads that is no constant, and gives what it makes.

        Raises:
            ArtefactError: it runs other parts of the file, or the size of a tensor is open.
        """
        described, op = self.operators[index], self._graph.operators[index]
        if described.kind in _CONTROL:
            raise ArtefactError(f"{described.kind} runs other parts of the file, and is none by itself")
        used = dict.fromkeys(int(t) for t in (*op.inputs, *op.outputs) if t >= 0)
        if any(n < 1 for t in used for n in self._shape(t)):
            raise ArtefactError(f"{described.kind} {described.name!r} has a tensor whose size is open, or 0")
        numbers = {t: i for i, t in enumerate(used)}
        buffers, tensors = [AlignedBuffer()], []
        for t in used:
            tensor = _copied(self._tensors[t])
            tensor.buffer = 0
            if content := self._content(t):
                tensor.buffer = len(buffers)
                buffers.append(AlignedBuffer(content))
            tensors.append(tensor)
        alone = _copied(op)
        alone.opcodeIndex = 0
        alone.inputs = np.array([numbers.get(int(t), -1) for t in op.inputs], np.int32)
        alone.outputs = np.array([numbers[int(t)] for t in op.outputs], np.int32)
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = tensors, [alone]
        given = (int(t) for t in op.inputs if t >= 0)
        free = dict.fromkeys(t for t in given if not self._content(t) and not self._tensors[t].isVariable)
        graph.inputs = np.array([numbers[t] for t in free], np.int32)
        graph.outputs = alone.outputs
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], buffers
        model.operatorCodes = [self._model.operatorCodes[op.opcodeIndex]]
        builder = flatbuffers.Builder(1024 + sum(len(b.content) + 32 for b in buffers))
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    # ------------------------------------------------------------ what operators are

    def _described(self, index: int, op: Any) -> TfliteOperator:
        code = self._model.operatorCodes[op.opcodeIndex]
        number = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))  # files from before 2.4 have the latter
        kind = _KINDS.get(number, str(number))
        if kind == "CUSTOM":
            kind = printable(_text(code.customCode), limit=60)
        weights = [int(t) for t in op.inputs if t >= 0 and self._content(int(t))]
        first = int(op.outputs[0])
        macs = _MACS.get(kind)
        shapes = [self._shape(int(t)) if t >= 0 else () for t in op.inputs]
        dtype, shape = self._type_and_shape(first)
        return TfliteOperator(
            index=index,
            kind=kind,
            name=printable(_text(self._tensors[first].name), limit=120),
            dtype=dtype,
            shape=shape,
            weight_dtype=self._type_and_shape(weights[0])[0] if weights else "",
            macs=macs(shapes, shape) if macs is not None else 0,
            weight_bytes=sum(len(self._content(t)) for t in weights),
        )

    def _type_and_shape(self, tensor: int) -> tuple[str, Shape]:
        return _TYPES.get(self._tensors[tensor].type, "unknown"), self._shape(tensor)

    def _shape(self, tensor: int) -> Shape:
        sizes = self._tensors[tensor].shape
        return () if sizes is None else tuple(int(n) for n in sizes)

    def _content(self, tensor: int) -> bytes:
        data = self._model.buffers[self._tensors[tensor].buffer].data
        return b"" if data is None else bytes(data)

    def _bytes(self, tensor: int) -> int:
        dtype, shape = self._type_and_shape(tensor)
        bits = _BITS.get(dtype) or int("".join(c for c in dtype if c.isdigit()) or 0)
        return math.prod(shape) * bits // 8


def read_tflite(path: Path) -> TfliteFile:
    """A TFLite file.

    Raises:
        ArtefactError: it cannot be read, or is none.
    """
    where = shown(path)
    try:
        return TfliteFile(read_foreign(path, limit_bytes=_LARGEST), where=where)
    except ForeignFileError as e:
        raise ArtefactError(f"{where} is not taken: {e}") from e
    except OSError as e:
        raise ArtefactError(f"{where} cannot be read: {e.strerror}") from e


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _copied(value: Any) -> Any:
    """The same with fields of its own."""
    made = type(value)()
    vars(made).update(vars(value))
    return made


# ---------------------------------------------------------------- multiply-accumulates, of the format's shapes


def _each_output(inputs: Sequence[Shape], output: Shape) -> int:
    """Weights are (out, ..., in): each number of the output sums over all but the first axis."""
    return math.prod(output) * math.prod(inputs[1][1:])


def _depthwise(inputs: Sequence[Shape], output: Shape) -> int:
    """Weights are (1, K, K, channels)."""
    return math.prod(output) * math.prod(inputs[1][1:3])


def _transposed(inputs: Sequence[Shape], output: Shape) -> int:
    """Inputs are the output's size, weights (out, K, K, in), and what is enlarged."""
    return math.prod(inputs[2]) * math.prod(inputs[1][:3])


def _matrices(inputs: Sequence[Shape], output: Shape) -> int:
    """A product of matrices, neither of them turned."""
    return math.prod(output) * inputs[0][-1]


_MACS: Mapping[str, Callable[[Sequence[Shape], Shape], int]] = {
    "CONV_2D": _each_output,
    "FULLY_CONNECTED": _each_output,
    "CONV_3D": lambda inputs, output: math.prod(output) * math.prod(inputs[1][:4]),  # (D, H, W, in, out)
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "BATCH_MATMUL": _matrices,
}

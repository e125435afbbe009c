"""A TFLite graph being built, and its bytes: tensors, operators, buffers, the flatbuffer around them.

The same calls give the same bytes. This module knows the file format, not torch, modules, devices or search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hwnas.types import Array

IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 16  # of buffers, as the schema's force_align says: kernels read weights in place
_PRODUCER = "hwnas"  # without a version: a file's bytes are its network's alone
_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationParameters:
    """Which numbers integers stand for: `scale * (integer - zero_point)`.

    Attributes:
        scales: float32, one, or one for each index of `axis`.
        zero_point: the integer that stands for 0.
        axis: of a tensor with several scales.
    """

    scales: tuple[float, ...]
    zero_point: int = 0
    axis: int = 0

    @property
    def scale(self) -> float:
        """The only scale."""
        (only,) = self.scales
        return only


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor of the graph; images are (1, H, W, C). `quantization` is None for floats."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantization: QuantizationParameters | None = None


class Graph:
    """One subgraph, filled operator by operator in the order they run."""

    def __init__(self) -> None:
        self._tensors: list[schema.TensorT] = []
        self._operators: list[schema.OperatorT] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._buffers: list[AlignedBuffer] = [AlignedBuffer()]  # the first must be empty
        self._constants: dict[tuple[object, ...], Value] = {}
        self._inputs: dict[str, Value] = {}
        self._moved: dict[int, tuple[Value, tuple[int, ...] | None]] = {}  # see `moved_from`

    def input(
        self,
        name: str,
        shape: Sequence[int],
        *,
        quantization: QuantizationParameters | None = None,
        whole_numbers: bool = False,
    ) -> Value:
        """A tensor the caller fills: int8 if it has a quantization, int32 of whole numbers, else float32."""
        dtype = np.dtype(np.int32) if whole_numbers else _dtype(quantization)
        value = self._tensor(name, tuple(shape), dtype, quantization, buffer=0)
        self._inputs[name] = value
        return value

    def constant(self, name: str, data: Array, *, quantization: QuantizationParameters | None = None) -> Value:
        """A tensor stored in the file; equal ones are stored once, under the first name."""
        data = np.ascontiguousarray(data)
        key = (data.tobytes(), data.shape, data.dtype, quantization)
        if key not in self._constants:
            self._buffers.append(AlignedBuffer(data.tobytes()))
            self._constants[key] = self._tensor(
                name, data.shape, data.dtype, quantization, buffer=len(self._buffers) - 1
            )
        return self._constants[key]

    def operator(
        self,
        kind: str,
        inputs: Iterable[Value],
        *,
        name: str,
        shape: Sequence[int],
        quantization: QuantizationParameters | None = None,
        version: int = 1,
        options: object | None = None,
    ) -> Value:
        """Append an operator with one output.

        Args:
            kind: as the schema names it: `CONV_2D`.
            inputs: in the operator's order.
            name: of the output.
            shape: of the output.
            quantization: of an int8 output; None for a float one.
            version: the lowest that has what is asked of it, so that old runtimes load the file.
            options: the schema's `...OptionsT` object.
        """
        output = self._tensor(name, tuple(shape), _dtype(quantization), quantization, buffer=0)
        code = int(getattr(schema.BuiltinOperator, kind))
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        operator.inputs = np.array([v.index for v in inputs], np.int32)
        operator.outputs = np.array([output.index], np.int32)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self._operators.append(operator)
        return output

    def note_move(self, x: Value, source: Value, order: tuple[int, ...] | None) -> None:
        """Remember that a tensor has another one's numbers: its axes in that order, or under another shape (None)."""
        self._moved[x.index] = (source, order)

    def moved_from(self, x: Value, *, by_order: bool) -> tuple[Value, tuple[int, ...]]:
        """What a tensor's numbers were moved from, and by which order of axes; itself if they were not.

        So that moves in a row are one, and those that undo each other none: what nobody reads any more is not written.

        Args:
            x: the tensor.
            by_order: whether moves of axes are asked for, or those to another shape.
        """
        source, order = self._moved.get(x.index, (x, None))
        if source is x or (order is not None) != by_order:
            return x, tuple(range(len(x.shape)))
        return source, order or ()

    def to_bytes(self, outputs: Mapping[str, Value]) -> bytes:
        """The file. Its signature `serving_default` has the inputs' and these outputs' names."""
        self._drop_unread_operators(outputs.values())
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs = np.array([v.index for v in self._inputs.values()], np.int32)
        subgraph.outputs = np.array([v.index for v in outputs.values()], np.int32)
        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs = [_named(name, value) for name, value in self._inputs.items()]
        signature.outputs = [_named(name, value) for name, value in outputs.items()]
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = _PRODUCER
        model.operatorCodes = [_operator_code(code, version) for code, version in self._codes]
        model.subgraphs, model.signatureDefs, model.buffers = [subgraph], [signature], self._buffers
        builder = flatbuffers.Builder(1024 + sum(len(b.content) + 2 * _ALIGNMENT for b in self._buffers))
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    def _drop_unread_operators(self, outputs: Iterable[Value]) -> None:
        """Leave out the operators that no output needs; what only they read stays in the list of tensors."""
        needed = {v.index for v in outputs}
        kept: list[schema.OperatorT] = []
        for operator in reversed(self._operators):
            if needed.intersection(operator.outputs.tolist()):
                needed.update(operator.inputs.tolist())
                kept.append(operator)
        self._operators = kept[::-1]

    def _tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        quantization: QuantizationParameters | None,
        *,
        buffer: int,
    ) -> Value:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, _TYPES[dtype], buffer
        tensor.shape = np.array(shape, np.int32)
        tensor.hasRank = True
        if quantization is not None:
            noted = schema.QuantizationParametersT()
            noted.scale = np.array(quantization.scales, np.float32)
            noted.zeroPoint = np.full(len(quantization.scales), quantization.zero_point, np.int64)
            noted.quantizedDimension = quantization.axis
            tensor.quantization = noted
        self._tensors.append(tensor)
        return Value(index=len(self._tensors) - 1, shape=shape, dtype=dtype, quantization=quantization)


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose content begins at a multiple of 16 bytes, which the generated `Pack` does not see to."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__()
        self.content = content

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802  the generated classes' name
        data = None
        if self.content:
            builder.StartVector(1, len(self.content), _ALIGNMENT)
            builder.head = start = builder.Head() - len(self.content)
            builder.Bytes[start : start + len(self.content)] = self.content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _dtype(quantization: QuantizationParameters | None) -> np.dtype[Any]:
    return np.dtype(np.float32) if quantization is None else np.dtype(np.int8)


def _named(name: str, value: Value) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, value.index
    return entry


def _operator_code(code: int, version: int) -> schema.OperatorCodeT:
    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.version = code, version
    entry.deprecatedBuiltinCode = min(code, 127)  # what readers from before 2.4 look at; 127 says "look at the other"
    return entry

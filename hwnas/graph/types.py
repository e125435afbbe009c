"""What a network computes, as data: values, operators, weights, and the graph they make.

This is the one truth about a network from which costs, quantization, file formats and drawings follow. Shapes are
those of one sample, without the batch axis. This module must never know torch, a runtime, spaces or blocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hwnas.errors import GraphError

SCHEMA = 1
Attribute = str | int | float | bool | tuple[int, ...] | tuple[float, ...]
Attributes = tuple[tuple[str, Attribute], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor that an operator makes or the network takes.

    Attributes:
        name: unique in its graph.
        shape: of one sample: (C, H, W), (features,), (tokens, features).
        dtype: numpy's name of its numbers as torch computes them; a precision may say otherwise.
        batched: whether each sample has its own; False for what follows from weights alone, as position embeddings.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batched: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A tensor that belongs to the network.

    Attributes:
        name: where a module keeps it: `expand.conv.weight`. Operators that share a weight have the same name here.
        shape: of the whole tensor.
        dtype: numpy's name.
        trained: whether it is a parameter; False for statistics and other buffers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    trained: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator.

    Attributes:
        name: unique in its graph: the path of the module it stands for, where there is one.
        kind: a name of `hwnas.graph.operators`, the field's (`conv2d`, `add`, ...). Another name is allowed: what meets
            no rule is told by it.
        inputs: names of values, in the operator's order.
        outputs: names of values.
        weights: (role, weight) in the order of the operator's roles: `weight`, `bias`, `running_mean`, ...
        attributes: sorted (name, value); those at their defaults are left out (`hwnas.graph.operators`).
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[tuple[str, Weight], ...] = ()
    attributes: Attributes = ()

    def weight(self, role: str) -> Weight | None:
        """The weight in that role; None if the operator has none."""
        return next((w for r, w in self.weights if r == role), None)


@dataclass(frozen=True, kw_only=True)  # no slots: `cached_property` keeps what it found in the object's dictionary
class OpGraph:
    """A network, or a part of one.

    Attributes:
        values: all of them, the graph's inputs among them.
        ops: in an order in which they can run.
        inputs: names of the values the network takes, in its order.
        outputs: names of the values it gives, in its order.

    Raises:
        GraphError: a name stands twice, a value is read before it is made or made twice, or an output is never made.
    """

    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.by_name) != len(self.values):
            raise GraphError(f"two values are called {_repeated(v.name for v in self.values)!r}; names must differ")
        repeated = _repeated(op.name for op in self.ops)
        if repeated:
            raise GraphError(f"two operators are called {repeated!r}; names must differ")
        made = set(self.inputs)
        for op in self.ops:
            missing = [name for name in op.inputs if name not in made]
            if missing:
                raise GraphError(f"operator {op.name!r} ({op.kind}) reads {missing[0]!r} before anything makes it")
            again = [name for name in op.outputs if name in made]
            if again:
                raise GraphError(f"operator {op.name!r} ({op.kind}) makes {again[0]!r}, which is there already")
            made.update(op.outputs)
        for name in self.outputs:
            if name not in made:
                raise GraphError(f"the output {name!r} is made by no operator")
        unknown = made - self.by_name.keys()
        if unknown:
            raise GraphError(f"nothing is said about the value {min(unknown)!r}; give its shape")

    @cached_property
    def by_name(self) -> Mapping[str, Value]:
        """Name -> value."""
        return {v.name: v for v in self.values}

    @cached_property
    def producers(self) -> Mapping[str, Op]:
        """Value -> the operator that makes it; the graph's inputs are not among them."""
        return {name: op for op in self.ops for name in op.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Op, ...]]:
        """Value -> the operators that read it, in order, an operator that reads it twice once."""
        found: dict[str, list[Op]] = {v.name: [] for v in self.values}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                found[name].append(op)
        return {name: tuple(ops) for name, ops in found.items()}

    def input_values(self, op: Op) -> tuple[Value, ...]:
        """What an operator reads."""
        return tuple(self.by_name[name] for name in op.inputs)

    def output_values(self, op: Op) -> tuple[Value, ...]:
        """What an operator makes."""
        return tuple(self.by_name[name] for name in op.outputs)

    def weights(self) -> tuple[Weight, ...]:
        """All weights, in the order of the operators, one that is shared once."""
        return tuple({w.name: w for op in self.ops for _, w in op.weights}.values())

    def digest(self) -> str:
        """SHA-256 of what is computed; names, and the order of independent operators, do not matter.

        Operators that no output needs do not count.
        """
        text = json.dumps(self._canonical(), separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _canonical(self) -> list[Any]:
        """Values, weights and operators by number, in the order in which the outputs ask for them."""
        numbers: dict[str, int] = {}
        weights: dict[str, int] = {}
        lines: list[Any] = []
        for name in self.inputs:  # all, also those that nothing reads: they are part of how the network is called
            value = self.by_name[name]
            numbers[name] = len(numbers)
            lines.append([value.shape, value.dtype, value.batched])
        for op in self.asked_for():
            # numbered by name: a weight that two operators share is told from two weights of one shape
            held = [(role, weights.setdefault(w.name, len(weights)), w.shape, w.dtype) for role, w in op.weights]
            lines.append([op.kind, [numbers[n] for n in op.inputs], held, op.attributes, len(op.outputs)])
            for value in self.output_values(op):
                numbers[value.name] = len(numbers)
                lines.append([value.shape, value.dtype, value.batched])
        return [SCHEMA, lines, [numbers[n] for n in self.outputs]]

    def asked_for(self) -> Iterator[Op]:
        """The operators that outputs need, each after those it reads from; the same order for equal digests."""
        done: set[str] = set()
        # Depth first, without recursion: (operator, whether what it reads has been yielded). Reversed, because a stack
        # gives back its last entry first.
        stack = [(self.producers[n], False) for n in reversed(self.outputs) if n in self.producers]
        while stack:
            op, ready = stack.pop()
            if op.name in done:  # several operators read its results, and each asked for it
                continue
            if ready:
                done.add(op.name)
                yield op
                continue
            stack.append((op, True))
            stack += [(self.producers[n], False) for n in reversed(op.inputs) if n in self.producers]

    def to_json(self) -> dict[str, Any]:
        """The graph as JSON values."""
        return {
            "schema": SCHEMA,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "values": [
                {"name": v.name, "shape": list(v.shape), "dtype": v.dtype, "batched": v.batched} for v in self.values
            ],
            "ops": [_op_to_json(op) for op in self.ops],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> OpGraph:
        """The inverse of `to_json`.

        Raises:
            GraphError: another schema, or not a graph.
        """
        if document.get("schema") != SCHEMA:
            raise GraphError(
                f"an operator graph of schema {document.get('schema')!r} cannot be read; this version reads {SCHEMA}"
            )
        try:
            return cls(
                values=tuple(
                    Value(name=v["name"], shape=tuple(v["shape"]), dtype=v["dtype"], batched=v["batched"])
                    for v in document["values"]
                ),
                ops=tuple(_op_from_json(op) for op in document["ops"]),
                inputs=tuple(document["inputs"]),
                outputs=tuple(document["outputs"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise GraphError(f"not an operator graph: {e!r}") from e


def sorted_attributes(attributes: Mapping[str, Attribute]) -> Attributes:
    """The form in which an operator holds its attributes."""
    return tuple(sorted(attributes.items()))


def _repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _op_to_json(op: Op) -> dict[str, Any]:
    return {
        "name": op.name,
        "kind": op.kind,
        "inputs": list(op.inputs),
        "outputs": list(op.outputs),
        "weights": [
            {"role": role, "name": w.name, "shape": list(w.shape), "dtype": w.dtype, "trained": w.trained}
            for role, w in op.weights
        ],
        "attributes": {k: list(v) if isinstance(v, tuple) else v for k, v in op.attributes},
    }


def _op_from_json(document: Mapping[str, Any]) -> Op:
    weights: Sequence[tuple[str, Weight]] = [
        (w["role"], Weight(name=w["name"], shape=tuple(w["shape"]), dtype=w["dtype"], trained=w["trained"]))
        for w in document["weights"]
    ]
    attributes = {k: tuple(v) if isinstance(v, list) else v for k, v in document["attributes"].items()}
    return Op(
        name=document["name"],
        kind=document["kind"],
        inputs=tuple(document["inputs"]),
        outputs=tuple(document["outputs"]),
        weights=tuple(weights),
        attributes=sorted_attributes(attributes),
    )

"""Operator graphs written by hand: one call an operator, shapes follow.

    g = GraphBuilder()
    x = g.input((3, 32, 32))
    y = g.conv2d(x, 16, kernel_size=3, stride=2, name="stem.conv")
    y = g.op("relu", y, name="stem.act")
    graph = g.build(y)

Names of operators are the paths of the modules that hold their weights: `stem.conv` has `stem.conv.weight`. This
module knows operators; never what they are for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hwnas.errors import GraphError
from hwnas.graph.operators import Call, check_axes, operator
from hwnas.graph.types import Attribute, Op, OpGraph, Value, Weight, sorted_attributes

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Ref:
    """A value of the graph being built; see `Value`."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batched: bool = True


class GraphBuilder:
    """Collects operators in the order they run."""

    def __init__(self) -> None:
        self._values: list[Value] = []
        self._ops: list[Op] = []
        self._inputs: list[str] = []

    def input(self, shape: Sequence[int], *, name: str = "input", dtype: str = "float32") -> Ref:
        """A tensor the network takes; the shape is that of one sample."""
        self._inputs.append(name)
        return self._value(name, tuple(shape), dtype=dtype)

    def ops(
        self,
        kind: str,
        *inputs: Ref,
        name: str,
        weights: Mapping[str, Weight] | None = None,
        **attributes: Attribute,
    ) -> tuple[Ref, ...]:
        """Append an operator; one value for each of its outputs.

        Args:
            kind: a name of `hwnas.graph.operators`.
            inputs: in the operator's order.
            name: unique in the graph.
            weights: role -> weight.
            attributes: of the operator; spatial ones as numbers for each axis.

        Raises:
            GraphError: the operator, or an attribute or weight of it, is not known, or the shapes do not fit.
        """
        rule = operator(kind)
        held = dict(weights or {})
        wrong = [role for role in held if role not in rule.roles]
        if wrong:
            raise GraphError(f"{kind} {name!r} has no weight {wrong[0]!r}; it has: {', '.join(rule.roles) or 'none'}")
        complete = rule.complete(attributes)
        call = Call(
            inputs=tuple(r.shape for r in inputs),
            weights={role: w.shape for role, w in held.items()},
            attributes=complete,
        )
        try:
            check_axes(call)
            shapes = rule.infer(call)
        except GraphError as e:
            raise GraphError(f"operator {name!r}: {e}") from e
        except (
            LookupError,
            TypeError,
            ValueError,
        ) as e:  # rules take the number and the form of everything for granted
            raise GraphError(
                f"operator {name!r}: {kind} makes no sense of inputs {', '.join(map(str, call.inputs)) or 'none'}, "
                f"weights {dict(call.weights)} and attributes {complete}; an input or a weight may be missing, and "
                "spatial attributes hold one number for each axis: (2, 2), not 2"
            ) from e
        ordered = {role: held[role] for role in rule.roles if role in held}
        # weights first: an embedding reads int64 and gives what its table holds. Else the first input's type
        dtypes = [*(w.dtype for w in ordered.values()), *(r.dtype for r in inputs)]
        batched = any(r.batched for r in inputs)  # one input that differs from sample to sample makes the output differ
        dtypes.append(str(complete.get("dtype", "float32")))
        values = [(shape, dtypes[0], batched) for shape in shapes]
        return self.append(kind, *inputs, name=name, weights=ordered, attributes=rule.given(complete), values=values)

    def append(
        self,
        kind: str,
        *inputs: Ref,
        name: str,
        weights: Mapping[str, Weight],
        attributes: Mapping[str, Attribute],
        values: Sequence[tuple[tuple[int, ...], str, bool]],
    ) -> tuple[Ref, ...]:
        """Append an operator as it is, known or not: nothing is inferred and nothing is checked.

        Its only output is called as it is; of several, the first is `<name>.0`.

        Args:
            kind: of the operator.
            inputs: in the operator's order.
            name: unique in the graph.
            weights: role -> weight, in the operator's order.
            attributes: those that are not at their defaults.
            values: (shape, dtype, batched) of each output.
        """
        names = [name] if len(values) == 1 else [f"{name}.{i}" for i in range(len(values))]
        outputs = tuple(
            self._value(n, shape, dtype=dtype, batched=batched)
            for n, (shape, dtype, batched) in zip(names, values, strict=True)
        )
        self._ops.append(
            Op(
                name=name,
                kind=kind,
                inputs=tuple(r.name for r in inputs),
                outputs=tuple(names),
                weights=tuple(weights.items()),
                attributes=sorted_attributes(attributes),
            )
        )
        return outputs

    def op(
        self,
        kind: str,
        *inputs: Ref,
        name: str,
        weights: Mapping[str, Weight] | None = None,
        **attributes: Attribute,
    ) -> Ref:
        """`ops` of an operator with one output."""
        (output,) = self.ops(kind, *inputs, name=name, weights=weights, **attributes)
        return output

    # ------------------------------------------------------------ operators with weights

    def conv2d(
        self,
        x: Ref,
        out_channels: int,
        *,
        name: str,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> Ref:
        """A square convolution padded by `kernel_size // 2`: (C, H, W) -> (out, ceil(H / stride), ceil(W / stride)).

        Args:
            x: (C, H, W).
            out_channels: of what it gives.
            name: of the operator; its weights are `<name>.weight` and `<name>.bias`.
            kernel_size: odd; an even one makes the output wider than said above.
            stride: along both axes.
            groups: the channels of both sides are divided into as many; C of them is a depthwise convolution.
            bias: rarely of use before a batch normalisation, which has one.

        Raises:
            GraphError: C is no multiple of `groups`, or the kernel does not fit into the padded input.
        """
        shape = (out_channels, x.shape[0] // groups, kernel_size, kernel_size)
        return self._convolution("conv2d", x, shape, name=name, stride=stride, groups=groups, bias=bias)

    def conv1d(
        self,
        x: Ref,
        out_channels: int,
        *,
        name: str,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> Ref:
        """The same along one axis: (C, L) -> (out, ceil(L / stride)); arguments and errors as of `conv2d`."""
        shape = (out_channels, x.shape[0] // groups, kernel_size)
        return self._convolution("conv1d", x, shape, name=name, stride=stride, groups=groups, bias=bias)

    def _convolution(
        self, kind: str, x: Ref, shape: tuple[int, ...], *, name: str, stride: int, groups: int, bias: bool
    ) -> Ref:
        axes = len(shape) - 2
        return self.op(
            kind,
            x,
            name=name,
            weights=_weights(name, weight=shape, **({"bias": shape[:1]} if bias else {})),
            stride=(stride,) * axes,
            padding=(shape[-1] // 2,) * axes,
            groups=groups,
        )

    def batch_norm(self, x: Ref, *, name: str) -> Ref:
        """Batch normalisation of channels (Ioffe and Szegedy, 2015)."""
        roles = ("weight", "bias", *_STATISTICS)
        return self.op("batch_norm", x, name=name, weights=_weights(name, **dict.fromkeys(roles, (x.shape[0],))))

    def linear(self, x: Ref, out_features: int, *, name: str, bias: bool = True) -> Ref:
        """(..., features) -> (..., out)."""
        shape = (out_features, x.shape[-1])
        return self.op(
            "linear", x, name=name, weights=_weights(name, weight=shape, **({"bias": (out_features,)} if bias else {}))
        )

    def flatten(self, x: Ref, *, name: str) -> Ref:
        """All numbers of a sample in a row: (C, H, W) -> (C H W,)."""
        return self.op("reshape", x, name=name, shape=(math.prod(x.shape),))

    # ------------------------------------------------------------ the end

    def build(self, *outputs: Ref) -> OpGraph:
        """The graph.

        Raises:
            GraphError: as `OpGraph`.
        """
        return OpGraph(
            values=tuple(self._values),
            ops=tuple(self._ops),
            inputs=tuple(self._inputs),
            outputs=tuple(r.name for r in outputs),
        )

    def _value(self, name: str, shape: tuple[int, ...], *, dtype: str = "float32", batched: bool = True) -> Ref:
        self._values.append(Value(name=name, shape=shape, dtype=dtype, batched=batched))
        return Ref(name, shape, dtype, batched)


def _weights(path: str, **shapes: tuple[int, ...]) -> dict[str, Weight]:
    return {role: _weight(path, role, shape) for role, shape in shapes.items()}


@lru_cache(maxsize=4096)  # variants of a block differ in few of their weights
def _weight(path: str, role: str, shape: tuple[int, ...]) -> Weight:
    return Weight(name=f"{path}.{role}", shape=shape, trained=role not in _STATISTICS)

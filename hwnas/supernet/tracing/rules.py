"""How a rule sees a call of torch's, and the list of all rules.

A rule is a function of one `TracedCall`, registered under the names of torch's operators that it covers (without
overload, and without the underscore of those that work in place). It appends operators and says where samples lie in
what they give, or raises `NoRule` for a form it does not cover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.graph import Ref, Weight
from hwnas.graph.types import Attribute
from hwnas.supernet.tracing.layouts import NoRule, Placed, Shape, TensorLayout, Traced
from hwnas.supernet.tracing.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Mask:
    """Random numbers in the making, as stochastic depth draws them: a tensor that is 0 or one number.

    Attributes:
        shape: of the tensor.
        keep: the probability of not being 0; 1 before it is drawn.
        scaled: whether the numbers are 1 / keep.
    """

    shape: Shape
    keep: float = 1.0
    scaled: bool = False


@dataclass(frozen=True)
class TracedCall:
    """One call of an operator of torch.

    Attributes:
        name: of the operator: `conv2d`.
        recorder: the graph.
        arguments: by the names of torch's schema, defaults included; tensors are `Traced`, parameters `Weight`.
        shapes: of the results, as torch gives them.
    """

    name: str
    recorder: Recorder
    arguments: Mapping[str, Any]
    shapes: Sequence[Shape]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def x(self) -> Traced:
        """The first argument."""
        return self.tensor(next(iter(self.arguments)))

    def tensor(self, name: str) -> Traced:
        """An argument as a value.

        Raises:
            NoRule: it is none.
        """
        return self.as_tensor(self.arguments[name])

    def as_tensor(self, value: object) -> Traced:
        """A value, or a weight as one.

        Raises:
            NoRule: it is neither.
        """
        if isinstance(value, Weight):
            return self.recorder.held(value)
        if not isinstance(value, Traced):
            raise NoRule
        return value

    def weight(self, name: str) -> Weight | None:
        """An argument that is a weight of the network; None if it is not given.

        Raises:
            NoRule: it is computed.
        """
        value = self.arguments[name]
        if value is not None and not isinstance(value, Weight):
            raise NoRule
        return value

    def number(self, name: str) -> float:
        """An argument that is a number, and not one that comes from the size of the batch.

        Raises:
            NoRule: it is not.
        """
        value = self.arguments[name]
        # a multiple of the prime number of samples: a mean over the batch by hand, say, which no sample has
        if isinstance(value, bool) or not isinstance(value, int | float) or (value and value % self.samples == 0):
            raise NoRule
        return float(value)

    def numbers(self, name: str, count: int) -> Shape:
        """An argument as that many integers; one stands for all."""
        value = self.arguments[name]
        given = (value,) if isinstance(value, int) else tuple(value)  # () of a pool's stride that is not given
        return given * count if len(given) == 1 else given

    @property
    def samples(self) -> int:
        """In the traced batch."""
        return self.recorder.samples

    def emit(
        self, kind: str, *inputs: Ref, weights: Mapping[str, Weight | None] | None = None, **attributes: Attribute
    ) -> Ref:
        """Append an operator with one output."""
        (ref,) = self.recorder.emit(kind, *inputs, weights=weights, **attributes)
        return ref

    def same(self, ref: Ref) -> Placed:
        """A result whose samples lie where those of the first argument do."""
        return Placed(ref, self.x.layout)

    def spatial(self, count: int) -> Traced:
        """The first argument, whose last axes are positions.

        Raises:
            NoRule: samples lie among them.
        """
        x = self.x
        if x.layout is not None and x.layout.axis >= len(x.shape) - count:
            raise NoRule
        return x

    def plain(self) -> Traced:
        """The first argument, whose samples come first.

        Raises:
            NoRule: they do not.
        """
        if not self.x.plain:
            raise NoRule
        return self.x

    def permute(self, ref: Ref, order: Sequence[int]) -> Ref:
        """Axes of a sample in another order, if it is another."""
        return ref if tuple(order) == tuple(range(len(order))) else self.emit("permute", ref, order=tuple(order))

    def reshape(self, ref: Ref, shape: Shape) -> Ref:
        """Another shape of a sample, if it is another."""
        return self.recorder.reshape(ref, shape)


Result = Placed | Mask | Sequence[Placed | None]
Rule = Callable[[TracedCall], Result]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operators of torch's."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def layouts(values: Iterable[object]) -> list[TensorLayout]:
    """Where samples lie in those values that have some."""
    return [v.layout for v in values if isinstance(v, Traced) and v.layout is not None]

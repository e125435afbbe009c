"""Where the samples of a batch lie in a traced tensor.

Graphs speak of one sample; torch of batches, and modules move the batch axis about: `permute(2, 0, 3, 1, 4)` puts it
second, a window partition makes the first axis `samples * windows`. A `TensorLayout` says where it is, so that every
axis of a traced tensor is told from the axes of one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwnas.graph import Ref

Shape = tuple[int, ...]


class NoRule(Exception):  # noqa: N818 - what a rule says, not a mistake
    """A rule does not cover this form of the operator."""


class SamplesMixed(Exception):  # noqa: N818 - as above
    """An operator works across the samples of a batch; a graph of one sample cannot say so."""


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """The axis that samples share.

    Attributes:
        axis: of the traced tensor; its size is `before * samples * after`.
        before: sizes of a sample that were folded into the axis in front of the samples; 1: none.
        after: the same behind them: the windows of a window partition, the heads of an attention.
    """

    axis: int
    before: int = 1
    after: int = 1

    @property
    def folded(self) -> Shape:
        """Sizes of the sample's axes that are folded into the batch axis."""
        return tuple(n for n in (self.before, self.after) if n > 1)

    def axes(self, axis: int) -> Shape:
        """The sample's axes in a traced axis: one, or what is folded into the batch axis."""
        if axis == self.axis:
            return tuple(range(axis, axis + len(self.folded)))
        return (axis if axis < self.axis else axis - 1 + len(self.folded),)


@dataclass(frozen=True, slots=True)
class Placed:
    """A value of the graph, and where its samples lay in torch; None: it follows from weights alone."""

    ref: Ref
    layout: TensorLayout | None


@dataclass(frozen=True, slots=True)
class Traced(Placed):
    """The same with the shape torch gave it, batch axis included."""

    shape: Shape

    @property
    def plain(self) -> bool:
        """Whether samples come first, and nothing else lies in that axis."""
        return self.layout == TensorLayout(0)

    def positive(self, axis: int) -> int:
        """An axis counted from the front.

        Raises:
            NoRule: there is none.
        """
        if not -len(self.shape) <= axis < len(self.shape):
            raise NoRule
        return axis % len(self.shape)

    def axis(self, axis: int) -> int:
        """The sample's axis of a traced one.

        Raises:
            SamplesMixed: it is the one that samples share.
        """
        axis = self.positive(axis)
        if self.layout is None:
            return axis
        if axis == self.layout.axis:
            raise SamplesMixed
        return self.layout.axes(axis)[0]

    def without(self, axes: Sequence[int]) -> TensorLayout | None:
        """Where samples lie when these traced axes are gone."""
        if self.layout is None:
            return None
        gone = sum(a < self.layout.axis for a in axes)
        return TensorLayout(self.layout.axis - gone, self.layout.before, self.layout.after)


def sample_shape(shape: Sequence[int], layout: TensorLayout | None) -> Shape:
    """The shape of one sample in a traced tensor."""
    if layout is None:
        return tuple(shape)
    return (*shape[: layout.axis], *layout.folded, *shape[layout.axis + 1 :])


def reshaped(x: Traced, shape: Sequence[int], *, samples: int) -> TensorLayout | None:
    """Where samples lie after their tensor was given another shape.

    Numbers stay in their order, so as many of them lie in front of the samples, and behind, as before.

    Raises:
        SamplesMixed: no axis of the new shape holds the samples so.
    """
    if x.layout is None:
        return None
    in_front = math.prod(x.shape[: x.layout.axis]) * x.layout.before
    behind = math.prod(x.shape[x.layout.axis + 1 :]) * x.layout.after
    for axis, size in enumerate(shape):
        # what of the numbers in front is not in front of this axis must be folded into it, and likewise behind
        before, rest = divmod(in_front, max(1, math.prod(shape[:axis])))
        after, rest_behind = divmod(behind, max(1, math.prod(shape[axis + 1 :])))
        if not rest and not rest_behind and size == before * samples * after:
            return TensorLayout(axis, before, after)
    raise SamplesMixed


def told_by_size(shape: Sequence[int], known: Sequence[TensorLayout], *, samples: int) -> TensorLayout | None:
    """Where samples lie in what an operator without a rule gives, by the sizes of its axes.

    Args:
        shape: of the result.
        known: layouts of what it read.
        samples: in the traced batch.

    Raises:
        SamplesMixed: several axes may hold them, or none does though the operator read some.
    """
    axes = [i for i, n in enumerate(shape) if n and n % samples == 0]
    if not axes and not known:
        return None
    if len(axes) == 1:
        for layout in (*known, TensorLayout(axes[0])):
            if layout.axis == axes[0] and shape[axes[0]] == layout.before * samples * layout.after:
                return layout
    raise SamplesMixed

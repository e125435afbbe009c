"""Dependency groups of a network: what must be removed together, and how large everything is when it is.

A unit is what is removed at once: a channel wherever it appears, a head with all its features, a group of a
convolution. Units that appear in the same places are interchangeable, and make a dimension; a smaller network keeps
some units of each (Fang et al., 2023, "DepGraph", section 3, has groups of layers; here they are of single positions,
so that concatenations, flattened channels and heads need no index maps of their own).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwnas.errors import GraphError
from hwnas.graph.elasticity.axes import links_of
from hwnas.graph.elasticity.links import Axis, Shape
from hwnas.graph.types import Op, OpGraph
from hwnas.types import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Dim:
    """One dependency group: units of which a smaller network keeps some.

    Attributes:
        name: of the operator that makes its channels, `layer1.0.conv1`; unique.
        size: its units.
        made_by: weights whose leading axis it is part of: the layers that make it.
        read_by: weights along whose other axes it lies: the layers that read it.
        of_one: positions of one unit along each axis of `made_by`, at most: 1 for channels, more for heads and groups.
        joined: whether tensors of several layers are added in it: a residual stream.
    """

    name: str
    size: int
    made_by: tuple[str, ...]
    read_by: tuple[str, ...]
    of_one: int
    joined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run of an axis: how many of its positions stay whatever happens, and how many belong to each unit."""

    begin: int
    end: int
    fixed: int
    shares: tuple[tuple[int, int], ...]  # (number of a dimension, positions of one of its units)


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """What of a graph can be removed.

    Attributes:
        graph: the whole network's.
        dims: all dimensions, in the order of the graph.
        pinned: weight -> axis -> why it keeps its size; of weights of layers alone.
    """

    graph: OpGraph
    dims: tuple[Dim, ...]
    pinned: Mapping[str, Mapping[int, str]]
    _runs: Mapping[Axis, tuple[_Run, ...]]
    _units: Mapping[Axis, tuple[IntArray, IntArray]]  # of weights: number of the dimension (-1: none), of the unit

    @classmethod
    def of(cls, graph: OpGraph) -> Dependencies:
        """The dependencies of a network.

        Raises:
            GraphError: a known operator has attributes that make no sense.
        """
        return _Finder(graph).found()

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Name -> number of a dimension."""
        return {dim.name: i for i, dim in enumerate(self.dims)}

    def full(self) -> IntArray:
        """(dims,) all units of each."""
        return np.array([dim.size for dim in self.dims], dtype=np.int64)

    def kept(self, units: Mapping[str, int]) -> IntArray:
        """(dims,) how many units a smaller network keeps of each dimension; all of those that are not named.

        Raises:
            GraphError: there is no such dimension, or it has not as many units.
        """
        found = self.full()
        for name, n in units.items():
            if name not in self.numbers:
                raise GraphError(f"there is no dimension {name!r}; there are: {', '.join(self.numbers) or 'none'}")
            size = self.dims[self.numbers[name]].size
            if not 1 <= n <= size:
                raise GraphError(f"{n} units of {name!r} were asked for; it has {size}, and 1 must stay")
            found[self.numbers[name]] = n
        return found

    # ------------------------------------------------------------ sizes

    def shape(self, name: str, kept: IntArray, *, is_weight: bool = False, of: Shape | None = None) -> Shape:
        """Of a value or weight, in a network that keeps so many units.

        Args:
            name: of the value or weight.
            kept: (dims,) as `kept` gives.
            is_weight: which of the two.
            of: its shape where that is not the graph's, as a smaller kernel's: axes of no dimension stay as they are.
        """
        tensor = of or (self._weight_shapes[name] if is_weight else self.graph.by_name[name].shape)
        return tuple(self._size(Axis(name, i, is_weight), n, kept) for i, n in enumerate(tensor))

    def place(self, name: str, axis: int, index: int, kept: IntArray) -> int:
        """Where a border along an axis of a value lies: a slice's end."""
        runs = self._runs.get(Axis(name, axis, is_weight=False))
        if runs is None:
            return index
        return sum(_kept(run, kept) for run in runs if run.end <= index)

    def dims_of(self, name: str, *, is_weight: bool = False) -> frozenset[int]:
        """Numbers of the dimensions that a tensor's shape depends on."""
        shape = self._weight_shapes[name] if is_weight else self.graph.by_name[name].shape
        runs = [run for i in range(len(shape)) for run in self._runs.get(Axis(name, i, is_weight), ())]
        return frozenset(dim for run in runs for dim, _ in run.shares)

    def _size(self, axis: Axis, whole: int, kept: IntArray) -> int:
        runs = self._runs.get(axis)
        return whole if runs is None else sum(_kept(run, kept) for run in runs)

    @cached_property
    def _weight_shapes(self) -> Mapping[str, Shape]:
        return {w.name: w.shape for w in self.graph.weights()}

    # ------------------------------------------------------------ which numbers of a weight stay

    def kept_positions(self, weight: str, axis: int, units: Sequence[IntArray | None]) -> IntArray | None:
        """Which positions of a weight's axis a smaller network keeps, in their order; None: all.

        Args:
            weight: its name.
            axis: of it.
            units: for each dimension, numbers of the units that are kept; None: all of them.
        """
        found = self._units.get(Axis(weight, axis, is_weight=True))
        if found is None:
            return None
        dims, numbers = found
        stays = np.ones(len(dims), dtype=np.bool_)
        for dim in np.unique(dims[dims >= 0]).tolist():
            chosen = units[dim]
            if chosen is not None:
                here = dims == dim
                stays[here] = np.isin(numbers[here], chosen)
        return None if stays.all() else np.flatnonzero(stays)

    def dims_along(self, weight: str, axis: int) -> tuple[int, ...]:
        """Numbers of the dimensions that lie along a weight's axis, ascending."""
        found = self._units.get(Axis(weight, axis, is_weight=True))
        return () if found is None else tuple(np.unique(found[0][found[0] >= 0]).tolist())

    def units_along(self, weight: str, axis: int, dim: int) -> IntArray:
        """(n,) for each position of a weight's axis, the number of its unit of one dimension; -1: of none."""
        found = self._units.get(Axis(weight, axis, is_weight=True))
        if found is None:
            return np.full(self._weight_shapes[weight][axis], -1, dtype=np.int64)
        return np.where(found[0] == dim, found[1], -1)


def _kept(run: _Run, kept: IntArray) -> int:
    return run.fixed + sum(n * int(kept[dim]) for dim, n in run.shares)


class _Finder:
    """From a graph's links to its dimensions."""

    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.links = links_of(graph)
        labels, self.reasons = self.links.components()
        fixed = np.isin(labels, np.fromiter(self.reasons, dtype=np.int64, count=len(self.reasons)))
        self.components: IntArray = np.where(fixed, -1, labels)
        self._labels = labels
        self._places = self._numbered_places()

    def found(self) -> Dependencies:
        """All of it."""
        numbers, ranks, count = self._dimensions()
        dim_of = np.full(len(self.components), -1, dtype=np.int64)
        unit_of = np.full(len(self.components), -1, dtype=np.int64)
        free = self.components >= 0
        dim_of[free], unit_of[free] = numbers[self.components[free]], ranks[self.components[free]]
        dims, order = self._described(dim_of, unit_of, count)
        dim_of[dim_of >= 0] = order[dim_of[dim_of >= 0]]  # in the order of the graph; -1: touches no weight
        runs, units = {}, {}
        for i, axis in enumerate(self.links.axes):
            begin, end = self.links.starts[i : i + 2].tolist()
            if (dim_of[begin:end] >= 0).any():
                runs[axis] = tuple(self._runs(i, dim_of[begin:end], unit_of[begin:end], dims))
                if axis.is_weight:
                    units[axis] = (dim_of[begin:end], unit_of[begin:end])
        return Dependencies(graph=self.graph, dims=dims, pinned=self._pinned(units), _runs=runs, _units=units)

    # ------------------------------------------------------------ units and dimensions

    def _numbered_places(self) -> IntArray:
        """For each position the number of its place: its axis, and the run between two borders."""
        places = np.zeros(len(self.components), dtype=np.int64)
        for axis, borders in self.links.borders.items():
            begin, end = self.links.starts[axis : axis + 2].tolist()
            inner = sorted(b for b in borders if 0 < b < end - begin)
            for b in inner:
                places[begin + b] += 1
        places[self.links.starts[:-1][self.links.starts[:-1] < len(places)]] += 1
        return np.cumsum(places)

    def _dimensions(self) -> tuple[IntArray, IntArray, int]:
        """Component -> number of its dimension, and of its unit within; and how many dimensions there are.

        Units are of one dimension where they have as many positions in the same places.
        """
        at = np.flatnonzero(self.components >= 0)
        pairs = np.stack([self.components[at], self._places[at]], axis=1)
        rows, counts = np.unique(pairs, axis=0, return_counts=True)  # (unit, place), sorted
        firsts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
        n = int(self._labels.max(initial=-1)) + 1
        numbers, ranks = np.full(n, -1, dtype=np.int64), np.full(n, -1, dtype=np.int64)
        dims: dict[bytes, int] = {}
        sizes: list[int] = []
        for begin, end in itertools.pairwise([*firsts.tolist(), len(rows)]):
            signature = np.stack([rows[begin:end, 1], counts[begin:end]]).tobytes()
            dim = dims.setdefault(signature, len(dims))
            if dim == len(sizes):
                sizes.append(0)
            component = rows[begin, 0]
            numbers[component], ranks[component] = dim, sizes[dim]
            sizes[dim] += 1
        return numbers, ranks, len(sizes)

    def _described(self, dim_of: IntArray, unit_of: IntArray, count: int) -> tuple[tuple[Dim, ...], IntArray]:
        """The dimensions that layers make, named, and old number -> new one; -1 for the others."""
        layers = {w.name: op for op in self.graph.ops for role, w in op.weights if role == "weight"}
        seen: dict[int, _Seen] = {}
        for i, axis in enumerate(self.links.axes):
            if not axis.is_weight:
                continue
            begin, end = self.links.starts[i : i + 2].tolist()
            for dim in np.unique(dim_of[begin:end]).tolist():
                if dim >= 0:
                    here = unit_of[begin:end][dim_of[begin:end] == dim]
                    seen.setdefault(dim, _Seen()).add(axis, here, layers.get(axis.tensor))
        joined = self._joined(dim_of)
        names: set[str] = set()
        dims: list[Dim] = []
        order = np.full(count, -1, dtype=np.int64)
        for dim, found in seen.items():  # in the order of the weights
            if found.size < 2 or not found.made_by:  # nothing to remove, or nothing that makes it smaller
                continue
            order[dim] = len(dims)
            dims.append(
                Dim(
                    name=_unique(found.name, names),
                    size=found.size,
                    made_by=tuple(found.made_by),
                    read_by=tuple(found.read_by),
                    of_one=max(found.made_by.values(), default=1),
                    joined=dim in joined,
                )
            )
        return tuple(dims), order

    def _joined(self, dim_of: IntArray) -> set[int]:
        """Dimensions in which tensors of several layers are added."""
        found: set[int] = set()
        for op in self.graph.ops:
            values = self.graph.input_values(op)
            if op.kind in ("add", "sub") and all(v.batched for v in values) and len({v.shape for v in values}) == 1:
                for axis in range(len(values[0].shape)):
                    found.update(np.unique(dim_of[self.links.positions(values[0].name, axis).ids]).tolist())
        return found - {-1}

    def _runs(self, number: int, dim_of: IntArray, unit_of: IntArray, dims: Sequence[Dim]) -> Iterator[_Run]:
        ends = sorted({*self.links.borders.get(number, ()), len(dim_of)} - {0})
        begin = 0
        for end in ends:
            here, units = dim_of[begin:end], unit_of[begin:end]
            found, counts = np.unique(here[here >= 0], return_counts=True)
            shares = []
            for dim, n in zip(found.tolist(), counts.tolist(), strict=True):
                distinct = len(np.unique(units[here == dim]))
                if distinct != dims[dim].size:  # by their signature units are alike
                    raise GraphError(f"units of {dims[dim].name!r} differ along {self.links.axes[number]}")
                shares.append((dim, n // distinct))
            yield _Run(begin=begin, end=end, fixed=int((here < 0).sum()), shares=tuple(shares))
            begin = end

    def _pinned(self, units: Mapping[Axis, object]) -> dict[str, dict[int, str]]:
        found: dict[str, dict[int, str]] = defaultdict(dict)
        of_layers = {w.name for op in self.graph.ops for role, w in op.weights if role == "weight" and len(w.shape) > 1}
        for i, axis in enumerate(self.links.axes):
            if axis.is_weight and axis.tensor in of_layers and axis not in units:
                begin, end = self.links.starts[i : i + 2].tolist()
                reasons = [self.reasons.get(c, "") for c in self._labels[begin:end].tolist()]
                found[axis.tensor][axis.axis] = max(set(reasons), key=reasons.count, default="")
        return dict(found)


class _Seen:
    """Where a dimension was met."""

    def __init__(self) -> None:
        self.size = 0
        self.made_by: dict[str, int] = {}  # weight -> positions of one unit
        self.read_by: dict[str, None] = {}

    @property
    def name(self) -> str:
        """Of the layer that makes it, or of a weight that is no layer's."""
        weight = next(iter(self.made_by))
        return weight.rpartition(".")[0] or weight

    def add(self, axis: Axis, units: IntArray, op: Op | None) -> None:
        """Along an axis of a weight of an operator."""
        self.size = max(self.size, int(units.max()) + 1)
        made = _MADE.get(op.kind) if op is not None else None
        if op is None or made is None:
            return
        if axis.axis != made:
            self.read_by.setdefault(axis.tensor)
        elif dict(op.attributes).get("groups", 1) == 1:  # of several groups a layer only hands channels on
            self.made_by[axis.tensor] = int((units == units[0]).sum())


# layer -> along which axis of its weight the channels lie that it makes
_MADE = {"conv2d": 0, "conv1d": 0, "linear": 0, "conv_transpose2d": 1, "embedding": 1}


def _unique(name: str, taken: set[str]) -> str:
    found, n = name, 2
    while found in taken:
        found, n = f"{name}.{n}", n + 1
    taken.add(found)
    return found

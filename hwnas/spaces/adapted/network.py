"""A given network as its space sees it: at each resolution a chain of regions, with what can be smaller in them.

Knows graphs; no choices, weights or devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from hwnas.errors import GraphError, SpaceError
from hwnas.graph import OpGraph
from hwnas.graph.elasticity.branches import Branch, branches, leave_out
from hwnas.graph.elasticity.dependencies import Dependencies
from hwnas.graph.elasticity.kernels import with_kernels
from hwnas.graph.elasticity.regions import Region, chain_of
from hwnas.graph.elasticity.specialise import specialise
from hwnas.spaces._serialize import check_keys
from hwnas.types import IntArray

_IDLE = frozenset({"dropout", "identity"})  # what computes nothing when it predicts
_TWICE_IS_ONCE = frozenset({"relu", "relu6", "clamp"})


@dataclass(frozen=True, kw_only=True)
class View:
    """A network at one resolution.

    Attributes:
        graph: of the whole network.
        dependencies: of the graph.
        regions: its chain.
    """

    graph: OpGraph
    dependencies: Dependencies
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a region is to compute.

    Attributes:
        kept: for each of the region's own dimensions, in `GivenNetwork.dims_in`, how many units stay.
        left_out: names of branches.
        kernels: (convolution, size) of those that shrink.
    """

    kept: tuple[int, ...]
    left_out: tuple[str, ...] = ()
    kernels: tuple[tuple[str, int], ...] = ()


class GivenNetwork:
    """A network and its regions; never changes.

    Args:
        graphs: of the same network for each resolution, the largest last; operators and weights have the same names.
        parts: names of the operators of each region.
        known: dependencies of the last graph, where they are known.

    Raises:
        SpaceError: the graphs are not of one network, or regions are not of it; or it has several inputs or outputs.
    """

    def __init__(
        self, graphs: Sequence[OpGraph], *, parts: Sequence[Sequence[str]], known: Dependencies | None = None
    ) -> None:
        self.parts = tuple(tuple(p) for p in parts)
        try:
            self.views = tuple(
                View(
                    graph=g,
                    dependencies=known if known is not None and known.graph is g else Dependencies.of(g),
                    regions=chain_of(g, self.parts),
                )
                for g in graphs
            )
        except GraphError as e:
            raise SpaceError(f"the given network cannot be read: {e}") from e
        for view in self.views:
            _check_alike(view, self.largest)
        self._made: dict[tuple[int, int, Part], OpGraph | None] = {}
        self._left: dict[tuple[int, int, tuple[str, ...]], tuple[OpGraph, set[int]]] = {}

    @property
    def largest(self) -> View:
        """At the largest resolution."""
        return self.views[-1]

    @property
    def dependencies(self) -> Dependencies:
        """Dimensions are the same at every resolution."""
        return self.largest.dependencies

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """The residual branches, which are the same at every resolution."""
        return branches(self.largest.graph)

    @cached_property
    def dims_in(self) -> tuple[tuple[int, ...], ...]:
        """For each region the numbers of the dimensions that its shapes depend on."""
        return tuple(tuple(sorted(self._dims_of(region.graph))) for region in self.largest.regions)

    def graph_of(self, region: int, view: int, part: Part) -> OpGraph | None:
        """What a region computes, under the given network's own names; None where nothing is left to compute."""
        key = (region, view, part)
        if key not in self._made:
            self._made[key] = self._graph_of(region, view, part)
        return self._made[key]

    def _graph_of(self, region: int, view: int, part: Part) -> OpGraph | None:
        at = self.views[view]
        graph, _ = self._without(region, view, part.left_out)
        if part.left_out and self._is_idle(graph, at):
            return None
        return specialise(with_kernels(graph, dict(part.kernels)), at.dependencies, self.kept(region, part))

    def settled(self, region: int, view: int, part: Part) -> Part:
        """The same, without what is said of operators that are left out: so parts that compute alike are equal."""
        if not part.left_out:
            return part
        graph, dims = self._without(region, view, part.left_out)
        ops = {op.name for op in graph.ops}
        sizes = self.dependencies.dims
        kept = tuple(n if d in dims else sizes[d].size for d, n in zip(self.dims_in[region], part.kept, strict=True))
        return Part(kept=kept, left_out=part.left_out, kernels=tuple(k for k in part.kernels if k[0] in ops))

    def _without(self, region: int, view: int, left_out: tuple[str, ...]) -> tuple[OpGraph, set[int]]:
        """What is left of a region without branches, and the dimensions that it depends on."""
        key = (region, view, left_out)
        if key not in self._left:
            by_name = {b.name: b for b in self.branches} if left_out else {}
            graph = self.views[view].regions[region].graph
            graph = leave_out(graph, [by_name[n] for n in left_out]) if left_out else graph
            self._left[key] = graph, self._dims_of(graph)
        return self._left[key]

    def _dims_of(self, graph: OpGraph) -> set[int]:
        """Numbers of the dimensions that shapes in it depend on."""
        of_values = (self.dependencies.dims_of(v.name) for v in graph.values)
        of_weights = (self.dependencies.dims_of(w.name, is_weight=True) for w in graph.weights())
        return set().union(*of_values, *of_weights)

    def kept(self, region: int, part: Part) -> IntArray:
        """(dims,) units of each dimension of the network; those that are not in the region keep all."""
        found = self.dependencies.full()
        for dim, n in zip(self.dims_in[region], part.kept, strict=True):
            found[dim] = n
        return found

    def _is_idle(self, graph: OpGraph, at: View) -> bool:
        """Whether what is left of a region changes nothing: an activation behind the same activation, say."""
        before = at.graph.producers.get(graph.inputs[0])
        repeated = _TWICE_IS_ONCE if before is not None else frozenset[str]()
        return all(
            op.kind in _IDLE
            or (
                op.kind in repeated
                and before is not None
                and (op.kind, op.attributes) == (before.kind, before.attributes)
            )
            for op in graph.ops
        )

    # ------------------------------------------------------------ files

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what follows from the graphs is found again."""
        return {"graphs": [v.graph.to_json() for v in self.views], "parts": [list(p) for p in self.parts]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            SpaceError: it is no network.
        """
        check_keys("a given network", value, known=("graphs", "parts"))
        try:
            graphs = [OpGraph.from_json(g) for g in value["graphs"]]
        except (GraphError, TypeError, AttributeError) as e:
            raise SpaceError(f"the graph of the given network cannot be read: {e}") from e
        if not graphs:
            raise SpaceError("a given network has no graph")
        parts = value["parts"]
        if not isinstance(parts, list) or not all(isinstance(p, list) for p in parts):
            raise SpaceError("the regions of a given network are lists of names of operators")
        return cls(graphs, parts=parts)


def _check_alike(view: View, largest: View) -> None:
    """Hold a resolution against the largest one.

    Raises:
        SpaceError: it is of another network.
    """
    if len(view.graph.inputs) != 1 or len(view.graph.outputs) != 1:
        raise SpaceError(
            f"the network has {len(view.graph.inputs)} inputs and {len(view.graph.outputs)} outputs; networks of one "
            "input can be searched so far, and several outputs joined to one (hwnas.graph.joining)"
        )
    pairs = [
        ("operators", [(op.name, op.kind) for op in v.graph.ops], v.graph.weights(), v.dependencies.dims)
        for v in (view, largest)
    ]
    if pairs[0] != pairs[1]:
        shapes = [v.graph.by_name[v.graph.inputs[0]].shape for v in (view, largest)]
        raise SpaceError(
            f"on inputs of {shapes[0]} the network is another one than on {shapes[1]}: its operators, weights or "
            "dimensions differ"
        )

"""What of a given network is made elastic, from what its owner wishes and what its graph allows.

Widths inside a region are choices of their own as long as a region has few enough variants to be measured; else they
shrink together. Knows graphs; no weights or devices.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hwnas.errors import SpaceError
from hwnas.graph import Op, OpGraph, macs
from hwnas.graph.costs import op_macs
from hwnas.graph.elasticity.branches import Branch
from hwnas.graph.elasticity.dependencies import Dependencies, Dim
from hwnas.graph.elasticity.kernels import kernel_sizes
from hwnas.graph.elasticity.regions import droppable, regions
from hwnas.graph.elasticity.specialise import specialise
from hwnas.graph.patterns import common_path
from hwnas.spaces.adapted.network import GivenNetwork
from hwnas.spaces.adapted.space import AdaptedSpace
from hwnas.spaces.adapted.spec import AdaptedSpec, Depth, Kernel, Width

MOST_VARIANTS = 64  # of a region, at one resolution and in one precision: what a table has to measure
MOST_WITH_DEPTHS = 1024  # likewise, with the branches inside it that may be left out
_LEAST_WORK = 0.03  # of a region's multiply-accumulates that a width of its own must be able to save
_MOST_DEPTHS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What may be elastic.

    Attributes:
        width: ratios inside regions and between plain layers; 1 among them.
        residual: ratios of residual streams; 1 among them.
        depth: whether residual blocks may be left out.
        kernel: whether kernels may be smaller.
        fixed: paths of modules that stay as they are.
        multiple_of: channels are rounded to multiples of it where they are many enough.
        precisions: each region may have.
    """

    width: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    residual: tuple[float, ...] = (1.0,)
    depth: bool = True
    kernel: bool = True
    fixed: tuple[str, ...] = ()
    multiple_of: int = 8
    precisions: tuple[str, ...] = ("int8", "fp32")

    def is_fixed(self, name: str) -> bool:
        """Whether an operator lies in a module that stays as it is."""
        return any(name == path or name.startswith(f"{path}.") for path in self.fixed)


def adapt(name: str, graphs: Sequence[OpGraph], wishes: Wishes) -> AdaptedSpace:
    """The space of a network's smaller ones.

    Args:
        name: of the space.
        graphs: of the same network at ascending resolutions; the last is the network as it is given.
        wishes: of its owner.

    Raises:
        SpaceError: a module that is to stay fixed is not there, or nothing is elastic; or see `GivenNetwork`.
    """
    largest = graphs[-1]
    missing = [p for p in wishes.fixed if not any(op.name == p or op.name.startswith(f"{p}.") for op in largest.ops)]
    if missing:
        raise SpaceError(f"the network has no module {missing[0]!r}, which was to stay fixed")
    found = _Finder(largest, wishes)
    network = GivenNetwork(graphs, parts=found.parts, known=found.dependencies)
    widths, kernels = found.widths(network), found.kernels(network)
    spec = AdaptedSpec(
        resolutions=tuple(_side(g) for g in graphs),
        widths=widths,
        depths=found.depths(network, widths=widths, kernels=kernels) if wishes.depth else (),
        kernels=kernels,
        precisions=wishes.precisions,
    )
    return AdaptedSpace(name, network, spec)


def units_for(dim: Dim, ratio: float, *, multiple_of: int) -> int:
    """How many units of a dimension a ratio stands for, at least one.

    Channels are rounded to a multiple of `multiple_of`, or of a power of two below it that leaves at least four steps.
    """
    if dim.of_one > 1:  # heads and groups
        return max(1, round(dim.size * ratio))
    step = multiple_of
    while step > 1 and (dim.size % step or dim.size < 4 * step):
        step //= 2
    return min(dim.size, max(step, round(dim.size * ratio / step) * step))


def _side(graph: OpGraph) -> int:
    return graph.by_name[graph.inputs[0]].shape[-1]


class _Finder:
    """One network and what is wished of it."""

    def __init__(self, graph: OpGraph, wishes: Wishes) -> None:
        self.graph, self.wishes = graph, wishes
        self.dependencies = Dependencies.of(graph)
        self.ratios = [self._ratios(dim) for dim in self.dependencies.dims]
        self.parts = [tuple(op.name for op in r.graph.ops) for r in regions(graph, fits=self._fits)]

    def _ratios(self, dim: Dim) -> tuple[float, ...]:
        """The options of a dimension; those that keep as many units as another are left out."""
        if any(self.wishes.is_fixed(w.rpartition(".")[0]) for w in dim.made_by):
            return (1.0,)
        found: dict[int, float] = {}
        for ratio in self.wishes.residual if dim.joined else self.wishes.width:
            found[units_for(dim, ratio, multiple_of=self.wishes.multiple_of)] = ratio
        return tuple(found.values())

    def _dims_of(self, ops: Iterable[Op]) -> set[int]:
        """Elastic dimensions that operators' weights lie in."""
        touched = {d for op in ops for _, w in op.weights for d in self.dependencies.dims_of(w.name, is_weight=True)}
        return {d for d in touched if len(self.ratios[d]) > 1}

    def _fits(self, ops: Sequence[Op]) -> bool:
        return self._variants(self._dims_of(ops), ops) <= MOST_VARIANTS

    def _variants(self, dims: Iterable[int], ops: Iterable[Op]) -> int:
        kernels = [len(kernel_sizes(op)) for op in ops if self._has_kernels(op)]
        return math.prod(len(self.ratios[d]) for d in dims) * math.prod(kernels)

    # ------------------------------------------------------------ kernels

    def _has_kernels(self, op: Op) -> bool:
        return self.wishes.kernel and len(kernel_sizes(op)) > 1 and not self.wishes.is_fixed(op.name)

    def kernels(self, network: GivenNetwork) -> tuple[Kernel, ...]:
        """Of all but the first region, whose kernel meets images and not features.

        Those that share their weight with another of their region keep it as it is: it is one weight there.
        """
        named: dict[str, Op] = {}
        for region in network.largest.regions[1:]:
            uses = Counter(w.name for op in region.graph.ops for _, w in op.weights)
            alone = [op for op in region.graph.ops if all(uses[w.name] == 1 for _, w in op.weights)]
            named |= {op.name: op for op in alone if self._has_kernels(op)}
        return tuple(Kernel(name=op.name, sizes=kernel_sizes(op)) for op in named.values())

    # ------------------------------------------------------------ widths

    def widths(self, network: GivenNetwork) -> tuple[Width, ...]:
        """Groups of dimensions, each with its options."""
        groups = _Groups(len(self.dependencies.dims))
        dims_in = [self._dims_of(r.graph.ops) for r in network.largest.regions]
        idle: set[int] = set()
        for slot, region in enumerate(network.largest.regions):
            inner = self._inner(slot, dims_in)
            saved = {d: self._saved(region.graph, d) for d in inner}
            minor = {d for d, share in saved.items() if share < _LEAST_WORK}
            major = max(inner - minor, key=lambda d: saved[d], default=None)
            for d in sorted(minor):
                # it goes with the widest: the inner layer of a gate with what is gated
                if major is None:
                    idle.add(d)
                else:
                    groups.tie(major, d)
        for slot, region in enumerate(network.largest.regions):
            dims = dims_in[slot] - idle
            inner = self._inner(slot, dims_in) - idle
            plain = {d for d in dims if not self.dependencies.dims[d].joined}
            for together in (inner, plain, dims):
                if self._variants(groups.leaders(dims), region.graph.ops) > MOST_VARIANTS:
                    groups.tie(*sorted(together))
        members = groups.members(set().union(*dims_in) - idle if dims_in else set())
        return tuple(self._width(dims, network, dims_in) for dims in members)

    def _inner(self, slot: int, dims_in: Sequence[set[int]]) -> set[int]:
        """Dimensions that no other region knows."""
        return dims_in[slot] - set().union(*(d for i, d in enumerate(dims_in) if i != slot))

    def _saved(self, graph: OpGraph, dim: int) -> float:
        """Share of a region's multiply-accumulates that its narrowest option of a dimension saves."""
        d = self.dependencies.dims[dim]
        least = units_for(d, self.ratios[dim][0], multiple_of=self.wishes.multiple_of)
        smaller = specialise(graph, self.dependencies, self.dependencies.kept({d.name: least}))
        return 1 - macs(smaller) / max(1, macs(graph))

    def _width(self, dims: Sequence[int], network: GivenNetwork, dims_in: Sequence[set[int]]) -> Width:
        chosen = [self.dependencies.dims[d] for d in dims]
        found: dict[tuple[int, ...], float] = {}
        for ratio in sorted({r for d in dims for r in self.ratios[d]}):
            found[tuple(units_for(d, ratio, multiple_of=self.wishes.multiple_of) for d in chosen)] = ratio
        slots = [i for i, here in enumerate(dims_in) if not here.isdisjoint(dims)]
        single = len(slots) == 1 and len(dims) > 1
        name = network.largest.regions[slots[0]].name if single else chosen[0].name
        # what the first dimension keeps: 2 of 3 heads are 0.667, whatever ratio was asked for
        ratios = tuple(round(units[0] / chosen[0].size, 3) for units in found)
        if len(set(ratios)) < len(ratios):
            ratios = tuple(found.values())
        return Width(name=name, dims=tuple(d.name for d in chosen), ratios=ratios, units=tuple(found))

    # ------------------------------------------------------------ depth

    def depths(self, network: GivenNetwork, *, widths: Sequence[Width], kernels: Sequence[Kernel]) -> tuple[Depth, ...]:
        """Runs of blocks that can be left out, the last of each first."""
        blocks = [block for i in range(len(network.parts)) for block in self._blocks(network, i)]
        runs = [list(run) for _, run in itertools.groupby(blocks, key=lambda block: self._stream(block[0]))]
        for slot in range(len(network.parts)):
            runs = self._few_enough(runs, network, slot, variants=self._chosen(network, slot, widths, kernels))
        names: set[str] = set()
        return tuple(
            Depth(
                name=_run_name(run, names),
                blocks=tuple(tuple(b.name for b in block) for block in run),
                options=_depth_options(len(run)),
            )
            for run in runs
        )

    def _blocks(self, network: GivenNetwork, slot: int) -> list[tuple[Branch, ...]]:
        """What can be left out of a region: all its branches together where nothing is left then, else each."""
        region = network.largest.regions[slot]
        together = droppable(region, network.branches)
        if together:
            return [] if self._any_fixed(together) else [together]
        names = {op.name for op in region.graph.ops}
        inside = [i for i, b in enumerate(network.branches) if names.issuperset(b.ops)]
        outer = [network.branches[i] for i in inside if network.branches[i].inside not in inside]
        return [(b,) for b in outer if not self._any_fixed((b,))]

    def _chosen(self, network: GivenNetwork, slot: int, widths: Sequence[Width], kernels: Sequence[Kernel]) -> int:
        """Variants of a region by what was chosen of it, all its branches there."""
        ops = network.largest.regions[slot].graph.ops
        names, dims = {op.name for op in ops}, {self.dependencies.dims[d].name for d in self._dims_of(ops)}
        return math.prod(
            [
                *(len(w.ratios) for w in widths if not dims.isdisjoint(w.dims)),
                *(len(k.sizes) for k in kernels if k.name in names),
            ]
        )

    def _few_enough(
        self, runs: list[list[tuple[Branch, ...]]], network: GivenNetwork, slot: int, *, variants: int
    ) -> list[list[tuple[Branch, ...]]]:
        """Runs of which a region has few enough variants; the branches inside it that do most work stay choices."""
        region = network.largest.regions[slot]
        by_name = {op.name: op for op in region.graph.ops}
        if droppable(region, network.branches):
            return runs  # it is there or not: no variants
        inside = {
            i: min(len(here) + 1, len(_depth_options(len(run))))
            for i, run in enumerate(runs)
            if (here := [block for block in run if all(by_name.keys() >= set(b.ops) for b in block)])
        }

        def work(i: int) -> int:
            names = {name for block in runs[i] for b in block for name in b.ops}
            return sum(op_macs(region.graph, by_name[name]) for name in names if name in by_name)

        kept = sorted(inside, key=work, reverse=True)
        while kept and variants * math.prod(inside[i] for i in kept) > MOST_WITH_DEPTHS:
            kept.pop()
        return [run for i, run in enumerate(runs) if i not in inside or i in kept]

    def _any_fixed(self, block: Sequence[Branch]) -> bool:
        return any(self.wishes.is_fixed(name) for b in block for name in b.ops)

    def _stream(self, branch: Branch) -> tuple[object, ...]:
        """Blocks of one run lead from tensors of one shape and one stream to such."""
        return self.graph.by_name[branch.source].shape, self.dependencies.dims_of(branch.source)


class _Groups:
    """Which of some numbers belong together."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def leader(self, i: int) -> int:
        """The smallest of its group."""
        while self._parent[i] != i:
            i = self._parent[i]
        return i

    def leaders(self, numbers: Iterable[int]) -> set[int]:
        """One of each group."""
        return {self.leader(i) for i in numbers}

    def tie(self, *numbers: int) -> None:
        """From now on they belong together."""
        roots = self.leaders(numbers)
        for root in roots:
            self._parent[root] = min(roots)

    def members(self, numbers: Iterable[int]) -> list[list[int]]:
        """The groups of these, each ascending."""
        found: dict[int, list[int]] = {}
        for i in sorted(numbers):
            found.setdefault(self.leader(i), []).append(i)
        return list(found.values())


def _depth_options(n: int) -> tuple[int, ...]:
    """How many of n blocks may stay: any number, or of many blocks some numbers from a third of them on."""
    if n < _MOST_DEPTHS:
        return tuple(range(n + 1))
    least = n // 3
    return tuple(sorted({round(least + (n - least) * i / (_MOST_DEPTHS - 1)) for i in range(_MOST_DEPTHS)}))


def _run_name(run: Sequence[Sequence[Branch]], taken: set[str]) -> str:
    path = common_path(b.name for block in run for b in block) if len(run) > 1 else ""
    name = found = path or run[0][0].name
    n = 1
    while found in taken:
        n += 1
        found = f"{name}_{n}"
    taken.add(found)
    return found

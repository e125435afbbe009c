"""The smaller networks that are in a given one: choices of width, depth, kernel size, resolution and precision.

Slots are the regions of the given network; the largest network is the given one itself. Knows graphs and encodings;
no weights, devices or where the network came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from hwnas.errors import SpaceError
from hwnas.graph import Op, OpGraph
from hwnas.precisions import EXACT, is_quantized
from hwnas.spaces import _checks as check
from hwnas.spaces._serialize import check_keys
from hwnas.spaces.adapted.kind import block_of
from hwnas.spaces.adapted.network import GivenNetwork, Part
from hwnas.spaces.adapted.spec import AdaptedSpec, Depth
from hwnas.spaces.base import Space
from hwnas.spaces.kinds import normalised
from hwnas.spaces.slots import slot_blocks
from hwnas.types import Block, Choice, IntArray, Option, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What a block is in its slot.

    Attributes:
        graph: what it computes, under the given network's names.
        kept: (dims of the network,) how many units of each stay in the slot.
        kernels: convolution -> its size, of those that shrink.
    """

    graph: OpGraph
    kept: IntArray
    kernels: Mapping[str, int]


class AdaptedSpace(Space):
    """The smaller networks of a given one.

    A dimension with several options is a choice: `resolution`, `layer1.depth`, `layer1.0.conv1.width`,
    `blocks.2.dw.kernel_size`, `layer1.0.precision`. Choices inside a block that is left out are switched off.

    Args:
        name: of the space.
        network: the given one.
        spec: what of it is elastic.

    Raises:
        SpaceError: the options name what the network does not have.
    """

    kind = "adapted"

    def __init__(self, name: str, network: GivenNetwork, spec: AdaptedSpec) -> None:
        if len(spec.resolutions) > len(network.views):
            raise SpaceError(
                f"{len(spec.resolutions)} resolutions are offered, but the network is known at {len(network.views)}"
            )
        self.network, self.spec = network, spec
        self.resolutions, self.precisions = spec.resolutions, spec.precisions
        self._layout = _Layout(network, spec)
        self._variants: dict[tuple[int, str], tuple[Part, int]] = {}  # (slot, graph and variant of a block)
        self._filled: set[int] = set()
        super().__init__(name, choices=self._layout.choices, slots=self._layout.slots)

    # ------------------------------------------------------------ what a slot becomes

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        """The block of a slot when the choices in its `depends_on` have these option indices; None: absent."""
        chosen = {
            self.choices[j].name: self.choices[j].options[i]
            for j, i in zip(self.slots[slot].depends_on, options, strict=True)
        }
        part, view = self._part(slot, chosen)
        graph = self.network.graph_of(slot, view, part)
        if graph is None:
            return None
        precision = str(chosen.get(f"{self.slots[slot].name}.precision", self._layout.precisions_of(slot)[-1]))
        number = 0
        while True:
            block = block_of(graph, precision=precision, variant=number)
            known = self._variants.setdefault((slot, _identity(block)), (part, view))
            if known == (part, view):
                return block
            number += 1  # two choices compute alike by other weights

    def variant(self, slot_name: str, block: Block) -> Variant:
        """What a block of one of this space's networks is in its slot, whatever its precision.

        Raises:
            SpaceError: the slot has no such block.
        """
        slot = next((i for i, s in enumerate(self.slots) if s.name == slot_name), None)
        if slot is None:
            raise SpaceError(f"space {self.name!r} has no slot {slot_name!r}")
        key = (slot, _identity(normalised(block)))
        if key not in self._variants and slot not in self._filled:
            self._filled.add(slot)
            for _ in slot_blocks(self, slot):  # each notes what it is
                pass
        if key not in self._variants:
            raise SpaceError(f"slot {slot_name!r} of space {self.name!r} is never {block.key!r}")
        part, view = self._variants[key]
        graph = self.network.graph_of(slot, view, part)
        assert graph is not None
        return Variant(graph=graph, kept=self.network.kept(slot, part), kernels=dict(part.kernels))

    def _part(self, slot: int, chosen: Mapping[str, Option]) -> tuple[Part, int]:
        """What the options mean for a slot, and at which resolution."""
        layout, spec = self._layout, self.spec
        units = {d: self.network.dependencies.dims[d].size for d in self.network.dims_in[slot]}
        for width in layout.widths_in[slot]:
            option = width.ratios.index(chosen.get(f"{width.name}.width", width.ratios[-1]))
            for dim, n in zip(width.dims, width.units[option], strict=True):
                number = self.network.dependencies.numbers[dim]
                if number in units:
                    units[number] = n
        left_out: list[str] = []
        for depth in layout.depths_in[slot]:
            stays = int(chosen.get(f"{depth.name}.depth", depth.options[-1]))
            left_out += [b for block in depth.blocks[stays:] for b in block if b in layout.branches_in[slot]]
        kernels = []
        for kernel in layout.kernels_in[slot]:
            size = int(chosen.get(f"{kernel.name}.kernel_size", kernel.sizes[-1]))
            if size != layout.full_kernels[kernel.name]:
                kernels.append((kernel.name, size))
        resolution = chosen.get("resolution", spec.resolutions[-1])
        view = self.network_view(int(resolution))
        part = Part(kept=tuple(units.values()), left_out=tuple(left_out), kernels=tuple(kernels))
        return self.network.settled(slot, view, part), view

    def network_view(self, resolution: int) -> int:
        """Number of the given network's view at a resolution."""
        sides = [v.graph.by_name[v.graph.inputs[0]].shape[-1] for v in self.network.views]
        return sides.index(resolution) if len(sides) > 1 else 0

    # ------------------------------------------------------------ related spaces

    def restrict(
        self,
        *,
        precisions: Sequence[str] | None = None,
        resolutions: Sequence[int] | None = None,
        width_mults: Sequence[float] | None = None,
        kernel_sizes: Sequence[int] | None = None,
    ) -> Self:
        """The sub-space with fewer options, under the same name.

        Args:
            precisions: what is kept, None for all; likewise `resolutions`.
            resolutions: see there.
            width_mults: must be None: a given network has no multiplier of all widths.
            kernel_sizes: of all convolutions; one that has none of them keeps its own.

        Raises:
            SpaceError: an option that this space does not have, or none at all.
        """
        if width_mults is not None:
            raise SpaceError(
                f"space {self.name!r} is of a given network and has no width_mults; use [model.elastic] residual"
            )
        spec = self.spec
        if precisions is not None:
            kept = check.among("precisions", precisions, known=self.precisions, space=self.name)
            spec = replace(spec, precisions=kept)
        if resolutions is not None:
            sides = check.among("resolutions", resolutions, known=self.resolutions, space=self.name)
            spec = replace(spec, resolutions=tuple(sorted(sides)))
        if kernel_sizes is not None:
            known = sorted({size for k in spec.kernels for size in k.sizes})
            sizes_kept = check.among("kernel_sizes", kernel_sizes, known=known, space=self.name)
            left = [(k, tuple(s for s in k.sizes if s in sizes_kept)) for k in spec.kernels]
            spec = replace(spec, kernels=tuple(replace(k, sizes=sizes or k.sizes[-1:]) for k, sizes in left))
        return type(self)(self.name, self.network, spec)

    def computed_in(self, names: Mapping[str, str]) -> Self:
        """The same space where its precisions have other names: of what a device computes instead."""
        precisions = tuple(names.get(p, p) for p in self.precisions)
        return type(self)(self.name, self.network, replace(self.spec, precisions=precisions))

    # ------------------------------------------------------------ files

    def arguments(self) -> dict[str, Any]:
        """The network and the options as JSON values."""
        return {"network": self.network.to_json(), "options": self.spec.to_json()}

    @classmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`.

        Raises:
            SpaceError: an argument is unknown, missing or wrong.
        """
        check_keys("adapted space", arguments, known=("network", "options"))
        return cls(name, GivenNetwork.from_json(arguments["network"]), AdaptedSpec.from_json(arguments["options"]))


def _identity(block: Block) -> str:
    """What tells a block's weights apart in its slot: precision does not."""
    return ",".join(f"{k}={v}" for k, v in block.attributes) + f"|{block.in_shape}"


class _Layout:
    """Choices and slots, and which options concern which slot.

    Raises:
        SpaceError: the options name what the network does not have.
    """

    def __init__(self, network: GivenNetwork, spec: AdaptedSpec) -> None:
        self._network, self._spec = network, spec
        regions = network.largest.regions
        self._ops: list[dict[str, Op]] = [{op.name: op for op in r.graph.ops} for r in regions]
        numbers = network.dependencies.numbers
        every = {name for ops in self._ops for name in ops}
        branch_ops = {b.name: b.ops for b in network.branches}
        _check_known("dimension", [d for w in spec.widths for d in w.dims], numbers)
        _check_known("convolution", [k.name for k in spec.kernels], every)
        _check_known("branch", [b for d in spec.depths for block in d.blocks for b in block], branch_ops)
        self.branches_in = [
            frozenset(b for b, ops in branch_ops.items() if set(ops) <= here.keys()) for here in self._ops
        ]
        self.widths_in = [
            [w for w in spec.widths if any(numbers[d] in dims for d in w.dims)] for dims in network.dims_in
        ]
        self.kernels_in = [[k for k in spec.kernels if k.name in here] for here in self._ops]
        self.depths_in = [
            [d for d in spec.depths if any(b in inside for block in d.blocks for b in block)]
            for inside in self.branches_in
        ]
        whole = {op.name: op for op in network.largest.graph.ops}
        self.full_kernels = {k.name: whole[k.name].weights[0][1].shape[-1] for k in spec.kernels}
        self._inner = self._parents(branch_ops)
        self.choices = self._make_choices()
        self.slots = self._make_slots()

    def _parents(self, branch_ops: Mapping[str, Sequence[str]]) -> dict[str, tuple[Depth, int]]:
        """Name of a choice -> the depth that switches it off, and how many blocks must stay for it to matter."""
        users: dict[str, set[str]] = {}
        dependencies = self._network.dependencies
        for width in self._spec.widths:
            numbers = {dependencies.numbers[d] for d in width.dims}
            users[f"{width.name}.width"] = {
                op.name
                for op in self._network.largest.graph.ops
                if any(numbers & dependencies.dims_of(w.name, is_weight=True) for _, w in op.weights)
            }
        for kernel in self._spec.kernels:
            users[f"{kernel.name}.kernel_size"] = {kernel.name}
        for i, region in enumerate(self._network.largest.regions):
            if self._can_be_absent(i):
                users[f"{region.name}.precision"] = {op.name for op in region.graph.ops if op.weights}
        found = {}
        for depth in self._spec.depths:
            for place, block in enumerate(depth.blocks):
                inside = {name for b in block for name in branch_ops[b]}
                # one that every depth has switches nothing
                if place >= depth.options[0]:
                    found.update({n: (depth, place + 1) for n, ops in users.items() if ops and ops <= inside})
        return found

    def _can_be_absent(self, slot: int) -> bool:
        """Whether nothing of a region is left where one of its blocks is left out."""
        for depth in self.depths_in[slot]:
            for block in depth.blocks:
                mine = tuple(b for b in block if b in self.branches_in[slot])
                kept = tuple(self._network.dependencies.dims[d].size for d in self._network.dims_in[slot])
                if (
                    mine
                    and self._network.graph_of(slot, len(self._network.views) - 1, Part(kept=kept, left_out=mine))
                    is None
                ):
                    return True
        return False

    def precisions_of(self, slot: int) -> tuple[str, ...]:
        """What a region may be computed in: floats alone where it takes whole numbers, which have no scale."""
        graph = self._network.largest.regions[slot].graph
        precisions = self._spec.precisions
        if graph.by_name[graph.inputs[0]].dtype.startswith("float"):
            return precisions
        return tuple(p for p in precisions if not is_quantized(p)) or (EXACT,)

    def _make_choices(self) -> tuple[Choice, ...]:
        spec = self._spec
        choices: dict[str, Choice] = {}

        def add(name: str, options: Sequence[Option]) -> None:
            if len(options) < 2 or name in choices:
                return
            parent, when = None, frozenset[int]()
            if name in self._inner:
                depth, stays = self._inner[name]
                if f"{depth.name}.depth" in choices:
                    parent = list(choices).index(f"{depth.name}.depth")
                    when = frozenset(i for i, n in enumerate(depth.options) if n >= stays)
            choices[name] = Choice(name=name, options=tuple(options), parent=parent, active_when=when)

        add("resolution", spec.resolutions)
        for i, region in enumerate(self._network.largest.regions):
            for depth in self.depths_in[i]:
                add(f"{depth.name}.depth", depth.options)
            for width in self.widths_in[i]:
                add(f"{width.name}.width", width.ratios)
            for kernel in self.kernels_in[i]:
                add(f"{kernel.name}.kernel_size", kernel.sizes)
            add(f"{region.name}.precision", self.precisions_of(i))
        return tuple(choices.values())

    def _make_slots(self) -> tuple[Slot, ...]:
        index = {c.name: i for i, c in enumerate(self.choices)}
        slots = []
        for i, region in enumerate(self._network.largest.regions):
            names = ["resolution", f"{region.name}.precision"]
            names += [f"{d.name}.depth" for d in self.depths_in[i]]
            names += [f"{w.name}.width" for w in self.widths_in[i]]
            names += [f"{k.name}.kernel_size" for k in self.kernels_in[i]]
            slots.append(Slot(name=region.name, depends_on=tuple(sorted(index[n] for n in names if n in index))))
        return tuple(slots)


def _check_known(what: str, named: Sequence[str], known: Mapping[str, object] | set[str]) -> None:
    unknown = [name for name in named if name not in known]
    if unknown:
        raise SpaceError(f"the network has no {what} {unknown[0]!r}; it has: {', '.join(known) or 'none'}")

"""The supernet: every sub-network of a space in one set of shared weights.

An elastic block holds each parameter that the operator graphs of a slot's variants have, at the largest shape any of
them asks for. A sub-network's weights are leading slices of them (dynamic channels, depth and squeeze-and-excitation);
where the kernel size of a convolution varies, smaller kernels are the centre of the larger one times a learned matrix
(Cai et al., 2020, "Once-for-All", section 3.3). Training runs the graph's own module on these slices, so an extracted
network equals the active one by construction.

A block may hold several copies of its weights. Then a sub-network's are those of one copy (`hwnas.supernet.parts`), or
a mixture of all (`hwnas.supernet.experts`), by its whole architecture; an extracted network has plain weights again.

This module knows graphs of blocks, and slots; never a kind of block, devices, tables or the search.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hwnas.data.tensors import fit
from hwnas.errors import SpaceError
from hwnas.precisions import QUANTIZE, is_conversion, is_quantized
from hwnas.spaces.kinds import block_graph
from hwnas.spaces.slots import slot_blocks
from hwnas.supernet.choice_reader import ChoiceReader
from hwnas.supernet.copies import WeightsCopy
from hwnas.supernet.experts import Router, mixed
from hwnas.supernet.gpu import needs_no_plans, without_plans_
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.initial_weights import CONVOLUTIONS, InitialWeights
from hwnas.supernet.kernels import shrink_kernel
from hwnas.supernet.parts import N_PARTS, Parts
from hwnas.supernet.quantization.rounding import (
    LearnedRange,
    RoundedModule,
    RoundingPlan,
    round_weights,
    rounding_plan,
)
from hwnas.supernet.recalibration import forget_statistics_
from hwnas.supernet.skeleton import Skeleton
from hwnas.supernet.subnetwork import SubNetwork

if TYPE_CHECKING:
    from hwnas.graph import Op, OpGraph
    from hwnas.types import Block, SearchSpace

NamedBlocks = Sequence[tuple[str, "Block"]]
Kernel = tuple[int, ...]
Share = int | Tensor  # of copies in a network's weights: which one it has, or (copies,) of each in a mixture
_NOISE = 0.1  # of experts, in standard deviations of a weight


class ElasticBlock(nn.Module):
    """The weights of all variants of one slot.

    Args:
        variants: every block the slot can be; at least one, all of one kind.
        rounded: they are also trained as integers compute them, to ranges that are learned.

    Attributes:
        without_plans: whether convolutions are computed without plans of cuDNN on a GPU; see `hwnas.supernet.gpu`.
        ranges: path of a range (`RoundedValue.path`, with / for .) -> it; one for all variants that have the value.
        copies: of the weights, beside the first; none where `add_copies_` was not called.

    Raises:
        SpaceError: the kernels of a convolution vary and are not as long along each axis, or some have more axes.
    """

    def __init__(self, variants: Sequence[Block], *, rounded: bool = False) -> None:
        super().__init__()
        self._by_block: dict[tuple[Block, bool], Skeleton] = {}
        self._skeletons: dict[tuple[tuple[Op, ...], bool], Skeleton] = {}
        graphs = {graph.ops: graph for graph in map(block_graph, variants)}.values()
        largest: dict[str, tuple[int, ...]] = {}
        for name, shape in (parameter for graph in graphs for parameter in _parameters(graph)):
            old = largest.get(name, (0,) * len(shape))
            largest[name] = tuple(max(a, b) for a, b in zip(shape, old, strict=True))
        # ParameterDict keys may not contain dots
        self.weights = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(torch.empty(shape)) for name, shape in largest.items()}
        )
        self._initial = InitialWeights(graphs)
        self.without_plans = needs_no_plans(graphs)
        varying = _varying_kernels(graphs)
        self._elastic_kernels = frozenset(varying)
        kernels = sorted({kernel for all_ in varying.values() for kernel in all_})
        self.transforms = nn.ParameterDict(  # one for all convolutions of the slot; onto a kernel, from the next larger
            {str(kernel[-1]): nn.Parameter(torch.eye(math.prod(kernel))) for kernel in kernels[:-1]}
        )
        if rounded:
            plans = [rounding_plan(graph) for graph in graphs]
            values = {value.path.replace(".", "/"): value for plan in plans for value in plan.values}
            self.ranges = nn.ModuleDict(
                {path: LearnedRange(before_hardswish=v.before_hardswish) for path, v in values.items()}
            )
        self.copies = nn.ModuleList()
        self.reset_parameters()

    def add_copies_(self, n: int, *, noise: float = 0.0) -> None:
        """Hold copies of the weights as they are.

        Args:
            n: how many, beside the first.
            noise: added to them; see `WeightsCopy`.
        """
        self.copies.extend(WeightsCopy(self.weights, self.transforms, noise=noise) for _ in range(n))

    def reset_parameters(self) -> None:
        """Begin anew; see `InitialWeights`."""
        for name, p in self.weights.items():
            self._initial.fill_(p, name.replace("/", "."))
        for t in self.transforms.values():
            nn.init.eye_(t)

    def _skeleton(self, block: Block, *, rounded: bool = False) -> Skeleton:
        """The module of a block without storage; BatchNorm normalises by the batch and keeps no statistics.

        Blocks that differ in nothing but resolution or precision have the same operators, and share a module.
        """
        if (block, rounded) not in self._by_block:
            graph = block_graph(block)
            if (graph.ops, rounded) not in self._skeletons:
                plan = rounding_plan(graph) if rounded else None
                with torch.device("meta"):
                    module = OpGraphModule(graph) if plan is None else RoundedModule(graph, plan)
                forget_statistics_(module)
                if self.without_plans:
                    without_plans_(module)
                found = Skeleton(module=module, shapes=tuple(_parameters(graph)), plan=plan)
                self._skeletons[graph.ops, rounded] = found
            self._by_block[block, rounded] = self._skeletons[graph.ops, rounded]
        return self._by_block[block, rounded]

    def subnetwork_weights(self, block: Block, share: Share = 0) -> dict[str, Tensor]:
        """Name of a block's parameter -> its slice of the shared weights; gradients flow back into them.

        Args:
            block: the variant.
            share: of each copy of the weights.
        """
        if isinstance(share, int):
            held = self if share == 0 else self.copies[share - 1]
            return self._slices(block, held)  # type: ignore[arg-type]  # a ModuleList's are of any kind
        of_copies = [self._slices(block, held) for held in (self, *self.copies)]
        shares = share.unbind()
        return {name: mixed([found[name] for found in of_copies], shares) for name in of_copies[0]}

    def _slices(self, block: Block, held: ElasticBlock | WeightsCopy) -> dict[str, Tensor]:
        """Of one copy of the weights."""
        found = {}
        for name, shape in self._skeleton(block).shapes:
            shared: Tensor = held.weights[name.replace(".", "/")]
            if name in self._elastic_kernels and shared.shape[-1] != shape[-1]:
                matrices = {int(k): matrix for k, matrix in held.transforms.items()}
                # output channels are cut first, to transform only those asked for: each kernel is on its own in it
                shared = shrink_kernel(shared[: shape[0]], shape[-1], matrices=matrices)
            for dim, size in enumerate(shape):
                if shared.shape[dim] != size:
                    shared = shared.narrow(dim, 0, size)
            found[name] = shared
        return found

    def forward(self, x: Tensor, block: Block, *, rounded: bool = False, share: Share = 0) -> Tensor:
        """Run one variant on the shared weights.

        Args:
            x: (N, ...) what enters it.
            block: the variant.
            rounded: as integers compute it.
            share: of each copy of the weights.
        """
        found = self._skeleton(block, rounded=rounded)
        skeleton, weights = found.module, self.subnetwork_weights(block, share)
        # skeletons are no sub-modules of this one, so its mode does not reach them by itself
        if skeleton.training != self.training:
            skeleton.train(self.training)
        if found.plan is not None:
            for name, axis in found.plan.weights.items():
                weights[name] = round_weights(weights[name], axis)
            for value in found.plan.values:
                learned = self.range_at(value.path)
                in_skeleton = skeleton.get_submodule(value.path)
                assert isinstance(in_skeleton, LearnedRange)
                in_skeleton.seen = learned.seen
                weights[f"{value.path}.scale"] = learned.scale
                weights[f"{value.path}.zero_point"] = learned.zero_point
        return found.on(weights, x)

    def range_at(self, path: str) -> LearnedRange:
        """The range of a value, by its path in a variant's module."""
        found = self.ranges[path.replace(".", "/")]
        assert isinstance(found, LearnedRange)
        return found

    def plan_of(self, block: Block) -> RoundingPlan:
        """What a variant's integer form rounds."""
        plan = self._skeleton(block, rounded=True).plan
        assert plan is not None
        return plan

    def output_range(self, block: Block) -> LearnedRange | None:
        """Of what a variant gives; None where its scale is fixed, or that of what it reads."""
        output = self.plan_of(block).output
        return None if output is None else self.range_at(output.path)


def _parameters(graph: OpGraph) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, in the order of the graph's module."""
    return ((w.name, w.shape) for w in graph.weights() if w.trained)


def _varying_kernels(graphs: Iterable[OpGraph]) -> dict[str, set[Kernel]]:
    """Weight of a convolution -> its kernels, where there are several: (k,), or (k, k).

    Raises:
        SpaceError: they are not square, or some have one axis and some have two.
    """
    found: dict[str, set[Kernel]] = {}
    for op in (op for graph in graphs for op in graph.ops if op.kind in CONVOLUTIONS):
        weight = op.weight("weight")
        assert weight is not None
        found.setdefault(weight.name, set()).add(weight.shape[2:])
    varying = {name: kernels for name, kernels in found.items() if len(kernels) > 1}
    for name, kernels in varying.items():
        if any(len(set(kernel)) != 1 for kernel in kernels):
            raise SpaceError(f"the kernels of {name!r} vary and are not square: {sorted(kernels)}; elastic ones are")
    if len({len(kernel) for kernels in varying.values() for kernel in kernels}) > 1:
        raise SpaceError(
            f"of the convolutions {', '.join(sorted(varying))} some are of series and some of images, and the kernels "
            "of all of them vary; in one slot they share what makes smaller kernels: let those of one sort vary"
        )
    return varying


def _only_converts(block: Block) -> bool:
    """Whether a block only changes a precision, which is a matter of the extracted network, not of the weights."""
    return all(is_conversion(op.kind) for op in block_graph(block).ops)


class Supernet(nn.Module):
    """All networks of a space.

    Its BatchNorm layers always normalise by the batch they see: statistics belong to one
    sub-network and are computed when it is extracted (`hwnas.supernet.recalibration`).

    Args:
        space: a space of blocks whose kinds are registered.
        rounded: its networks are also trained as integers compute them.
        experts: copies of the weights that are mixed for each network; 1: there are the weights alone.
        parted: there are two copies of the weights, of which each network has one; not beside experts.

    Attributes:
        space_name: of the space.
        rounds: whether blocks of a quantized precision compute as integers do now.
        without_plans: whether it computes without plans of cuDNN on a GPU; see `hwnas.supernet.gpu`.
        is_given: whether its weights are those of a network that was given trained: never.
        router: from an architecture to the shares of the experts; None without such.
        parts: which of two copies each network has; None where there are none.

    Raises:
        SpaceError: the space has no slots, or a slot mixes kinds of blocks.
        ConfigError: its networks cannot be parted.
    """

    def __init__(self, space: SearchSpace, *, rounded: bool = False, experts: int = 1, parted: bool = False) -> None:
        super().__init__()
        self.space_name = space.name
        self.rounds = False
        self.is_given = False
        self.slots = nn.ModuleDict()
        for index, slot in enumerate(space.slots):
            variants = [b for b in slot_blocks(space, index) if b is not None and not _only_converts(b)]
            if not variants:
                continue
            if len({b.kind for b in variants}) > 1:
                raise SpaceError(f"slot {slot.name!r} mixes block kinds {sorted({b.kind for b in variants})}")
            self.slots[slot.name.replace(".", "/")] = ElasticBlock(variants, rounded=rounded)
        self.input_range = LearnedRange() if rounded else None
        self.without_plans = all(block.without_plans for block in self._elastic_blocks())
        for block in self._elastic_blocks():
            block.without_plans = self.without_plans
        if not self.slots:
            raise SpaceError(f"space {space.name!r} has no slots to build a supernet from; use a space made of blocks")
        assert experts == 1 or not parted
        # behind all else, so that the first copy begins as the weights of a supernet without copies
        self.router: Router | None = None
        self.parts = Parts(space) if parted else None
        if experts > 1:
            self._reader = ChoiceReader(space)
            names = [name.replace("/", ".") for name in self.slots]
            self.router = Router(names, n_experts=experts, n_features=len(self._reader.told))
        for block in self._elastic_blocks():
            block.add_copies_(N_PARTS - 1 if parted else experts - 1, noise=0.0 if parted else _NOISE)

    def forward(self, x: Tensor, blocks: NamedBlocks) -> Tensor:
        """Run one sub-network.

        Args:
            x: (N, C, H, W) images at any resolution, resized to the sub-network's; or (N, C, L) series.
            blocks: its named blocks, from `space.named_blocks(encoding)`.

        Returns:
            (N, classes) logits.
        """
        x = fit(x, blocks[0][1].in_shape)  # (N, C, any, any) -> (N, C, H, W)
        before: tuple[ElasticBlock, Block] | None = None
        integers = False
        shares = self._shares(blocks)
        for name, block in blocks:
            if _only_converts(block):
                continue
            slot, rounded = self._slot(name), self.rounds and is_quantized(block.precision)
            if rounded and not integers:
                x = self._entering(x, before)
            x = slot(x, block, rounded=rounded, share=shares.get(name, 0))
            before, integers = (slot, block), rounded
        return x

    def _shares(self, blocks: NamedBlocks) -> Mapping[str, Share]:
        """Name of a slot -> of its copies in a network's weights; a slot that is not named has the first copy alone."""
        if self.router is not None:
            found: Mapping[str, Share] = self.router(self._reader.features(blocks))
            return found
        return {} if self.parts is None else dict.fromkeys((name for name, _ in blocks), self.parts.of(blocks))

    def _elastic_blocks(self) -> Iterator[ElasticBlock]:
        for slot in self.slots.values():
            assert isinstance(slot, ElasticBlock)
            yield slot

    def _entering(self, x: Tensor, before: tuple[ElasticBlock, Block] | None) -> Tensor:
        """What a block in integers reads, behind one in floats or first of all."""
        learned = self.input_range if before is None else before[0].output_range(before[1])
        return x if learned is None else learned(x)

    def _ranges(self, blocks: NamedBlocks) -> tuple[Mapping[str, tuple[float, float]], ...] | None:
        """Of each block, path of a quantizer -> its range, none of one in floats; None after training in floats."""
        if self.input_range is None:
            return None
        found: list[dict[str, tuple[float, float]]] = []
        leaving: LearnedRange | None = self.input_range
        for name, block in blocks:
            if _only_converts(block):
                (op,) = block_graph(block).ops
                # what floats give may have no range, and is calibrated
                found.append({op.name: leaving.ends} if op.kind == QUANTIZE and leaving is not None else {})
                continue
            slot = self._slot(name)
            values = slot.plan_of(block).values if is_quantized(block.precision) else ()
            found.append({v.quantizer: slot.range_at(v.path).ends for v in values})
            leaving = slot.output_range(block)
        return tuple(found)

    def _slot(self, name: str) -> ElasticBlock:
        key = name.replace(".", "/")
        if key not in self.slots:
            raise SpaceError(f"this supernet was built from space {self.space_name!r}, which has no slot {name!r}")
        slot = self.slots[key]
        assert isinstance(slot, ElasticBlock)
        return slot

    def extract_given(self, blocks: NamedBlocks) -> None:
        """No network was given: all weights are trained here; see `AdaptedSupernet.extract_given`."""

    @torch.no_grad()
    def extract(self, blocks: NamedBlocks) -> SubNetwork:
        """A copy of one sub-network as a module of its own in evaluation mode, its BatchNorm statistics still unset.

        Raises:
            SpaceError: the blocks do not belong to this supernet.
        """
        network, shares = SubNetwork(b for _, b in blocks), self._shares(blocks)
        for (name, block), module in zip(blocks, network.blocks, strict=True):
            if _only_converts(block):
                continue
            parameters = dict(module.named_parameters())
            for key, value in self._slot(name).subnetwork_weights(block, shares.get(name, 0)).items():
                parameters[key].copy_(value)
        network.ranges = self._ranges(blocks)
        return network.eval()

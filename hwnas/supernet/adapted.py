"""A given network as a supernet: its own weights, of which each smaller network takes a part.

Weights are kept whole, under the given network's names and in its order. A smaller network keeps the units that an
order of importance puts first, wherever they stand, and keeps them in the given order; so the largest one is the given
network to the bit, and another order moves no weight. Smaller kernels are the centre of the larger one times a learned
matrix, which begins as the identity (Cai et al., 2020, "Once-for-All", section 3.3).

Statistics of batch normalisation are the given network's as long as no weight was trained; afterwards they belong to
one sub-network, as in any supernet, unless they are frozen: then every sub-network has its part of the given network's,
in training too. Knows graphs and the space; never devices, tables or the search.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from hwnas.data.tensors import fit
from hwnas.errors import SpaceError
from hwnas.precisions import is_conversion
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.kernels import KernelTransforms
from hwnas.supernet.recalibration import count_no_batches_, forget_statistics_, keep_statistics_
from hwnas.supernet.subnetwork import BlockModule, SubNetwork

if TYPE_CHECKING:
    from hwnas.graph import Weight
    from hwnas.spaces.adapted import AdaptedSpace
    from hwnas.spaces.adapted.space import Variant
    from hwnas.supernet.elastic import NamedBlocks
    from hwnas.types import Block, IntArray

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class _Sliced:
    """How a weight of a smaller network is taken.

    Attributes:
        name: of the weight.
        convolution: whose kernel is smaller than the weight's own, "" where none is. Convolutions of several places may
            share a weight; each makes a smaller kernel of it by itself.
        kernel: its size.
        positions: for each axis those that are kept; None: all.
    """

    name: str
    convolution: str
    kernel: int
    positions: tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """A module without storage, and what it needs in a forward pass: of the weights, and numbers of its graph's own."""

    module: nn.Module
    weights: tuple[_Sliced, ...]
    statistics: tuple[str, ...]
    constants: Mapping[str, Tensor]


class AdaptedSupernet(nn.Module):
    """All networks of a space of a given one.

    Args:
        space: of the given network.
        numbers: its parameters and buffers, by the names of its graph; copied. None: numbers that torch begins with.

    Attributes:
        space: whose networks it is.
        space_name: of the space.
        is_given: whether the weights are still those of the given network, whose statistics hold for them.
        has_frozen_statistics: whether the given network's statistics of batch normalisation are those of all networks.

    Raises:
        SpaceError: a weight is missing, or has another shape.
    """

    def __init__(self, space: AdaptedSpace, numbers: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.space_name = space.name
        self.is_given = numbers is not None
        self.has_frozen_statistics = False
        self.space = space
        graph = space.network.largest.graph
        found = _checked(graph.weights(), _initial(space) if numbers is None else numbers)
        self._trained = {w.name: w.trained for w in graph.weights()}
        # names of parameters may not contain dots
        self.weights = nn.ParameterDict(
            {_key(w.name): nn.Parameter(found[w.name].clone()) for w in graph.weights() if w.trained}
        )
        self.fixed = nn.Module()
        for w in graph.weights():
            if not w.trained:
                self.fixed.register_buffer(_key(w.name), found[w.name].clone())
        axes = {op.name: len(weight.shape) - 2 for op in graph.ops if (weight := op.weight("weight")) is not None}
        self.kernels = KernelTransforms({k.name: k.sizes for k in space.spec.kernels}, axes=axes)
        self.orders = nn.Module()
        for i, dim in enumerate(space.network.dependencies.dims):
            self.orders.register_buffer(str(i), torch.arange(dim.size))
        self._skeletons: dict[tuple[str, Block], _Skeleton] = {}
        self._given: tuple[AdaptedSupernet] | None = None

    def with_space(self, space: AdaptedSpace) -> Self:
        """The same weights and orders, shared and not copied, as a supernet of other smaller networks.

        Orders are set before: what either supernet computed with, it remembers.

        Raises:
            SpaceError: the space is of another network, or its kernels have other sizes.
        """
        if space.network is not self.space.network or space.spec.kernels != self.space.spec.kernels:
            raise SpaceError(
                f"space {space.name!r} is of another network than {self.space.name!r}, or its kernels are others; "
                "make a supernet of its own for it"
            )
        other = copy.copy(self)
        other.space, other.space_name, other._skeletons = space, space.name, {}
        return other

    # ------------------------------------------------------------ which units stay

    def order(self, dim: int) -> IntArray:
        """(units,) of a dimension of the given network: its units, the most important first."""
        return np.asarray(self.order_tensor(dim).cpu().numpy())

    def order_tensor(self, dim: int) -> Tensor:
        """The same as a tensor, for files."""
        tensor = getattr(self.orders, str(dim))
        assert isinstance(tensor, Tensor)
        return tensor

    def set_order_(self, dim: int, order: IntArray) -> None:
        """Let smaller networks keep other units of a dimension.

        Args:
            dim: its number among `Dependencies.dims`.
            order: (units,) a permutation, the most important first.

        Raises:
            ValueError: it is no permutation of the units.
        """
        size = self.space.network.dependencies.dims[dim].size
        if sorted(order.tolist()) != list(range(size)):
            raise ValueError(f"an order of {size} units must name each of them once")
        getattr(self.orders, str(dim)).copy_(torch.from_numpy(np.ascontiguousarray(order)))
        self._skeletons.clear()

    def _units(self, variant: Variant) -> list[IntArray | None]:
        dims = self.space.network.dependencies.dims
        return [
            None if n == dim.size else np.sort(self.order(i)[:n])
            for i, (dim, n) in enumerate(zip(dims, variant.kept.tolist(), strict=True))
        ]

    def freeze_statistics_(self) -> None:
        """Let every sub-network normalise by its part of the given network's statistics, in training and afterwards."""
        self.has_frozen_statistics = True
        self._skeletons.clear()

    def numbers(self) -> dict[str, Tensor]:
        """All weights by the given network's names, not copied; kernels' matrices are not among them."""
        return {
            name: (self.weights[_key(name)].detach() if trained else getattr(self.fixed, _key(name)))
            for name, trained in self._trained.items()
        }

    def fixed_numbers(self) -> dict[str, Tensor]:
        """Those of them that are no parameters: statistics of normalisation, tables of indices."""
        return {name: number for name, number in self.numbers().items() if not self._trained[name]}

    # ------------------------------------------------------------ sub-networks

    def fit(self, x: Tensor) -> Tensor:
        """(N, ...) inputs as the largest network takes them."""
        graph = self.space.network.largest.graph
        return fit(x, graph.by_name[graph.inputs[0]].shape)

    def forward(self, x: Tensor, blocks: NamedBlocks, *, handed_on: dict[str, Tensor] | None = None) -> Tensor:
        """Run one sub-network.

        Args:
            x: (N, ...) inputs; images (N, C, H, W) of any resolution, which are resized to the sub-network's.
            blocks: its named blocks, from `space.named_blocks(encoding)`.
            handed_on: is filled with what each slot after the first is given, by the slot's name.
        """
        x = fit(x, blocks[0][1].in_shape)
        first = True
        for name, block in blocks:
            if is_conversion(block.kind):
                continue
            if handed_on is not None and not first:
                handed_on[name] = x
            first = False
            skeleton = self._skeleton(name, block)
            # skeletons are no sub-modules of this one, so its mode does not reach them by itself
            if skeleton.module.training != self.training:
                skeleton.module.train(self.training)
                if self.has_frozen_statistics:
                    keep_statistics_(skeleton.module)
            weights = {s.name: self._slice(s) for s in skeleton.weights}
            for statistic in skeleton.statistics:  # of layers that are no module: written to, and nobody's
                weights[statistic] = weights[statistic].clone()
            x = functional_call(skeleton.module, {**weights, **skeleton.constants}, (x,), strict=True)
        return x

    @torch.no_grad()
    def extract(self, blocks: NamedBlocks) -> SubNetwork:
        """A copy of one sub-network as a module of its own in evaluation mode.

        Its statistics of batch normalisation are the given network's; `SubNetwork.statistics_hold` says whether these
        are its own: always where they are frozen.

        Raises:
            SpaceError: the blocks do not belong to this supernet.
        """
        modules = []
        whole = self.is_given
        dims = self.space.network.dependencies.full()
        for name, block in blocks:
            if is_conversion(block.kind):
                modules.append(BlockModule(block))
                continue
            variant = self.space.variant(name, block)
            whole = whole and not variant.kernels and bool((variant.kept == dims).all())
            module = BlockModule(block, graph=variant.graph)
            state = module.state_dict()
            for sliced in self._sliced(variant, variant.graph.weights()):
                state[sliced.name].copy_(self._slice(sliced))
            modules.append(module)
        present = sum(not is_conversion(block.kind) for _, block in blocks)
        network = SubNetwork.of(modules)
        network.has_frozen_statistics = self.has_frozen_statistics
        network.statistics_hold = self.has_frozen_statistics or (whole and present == len(self.space.slots))
        return network.eval()

    def remember_given(self, given: AdaptedSupernet) -> None:
        """Keep the supernet of the same space as it was before any training, for `extract_given`."""
        self._given = (given,)  # in a tuple: its weights are none of this one's

    def extract_given(self, blocks: NamedBlocks) -> SubNetwork | None:
        """The given network with its own weights, if these are its blocks; None if they are of a smaller one.

        Training makes the largest network's weights a compromise with the smaller ones', while what was given stays.
        """
        if self._given is None or self._is_smaller(blocks):
            return None
        return self._given[0].extract(blocks)

    def _is_smaller(self, blocks: NamedBlocks) -> bool:
        """Whether anything of the given network is missing, its resolution included."""
        largest = dict(self.space.named_blocks(self.space.largest()))
        own = [(name, block) for name, block in blocks if not is_conversion(block.kind)]
        whole = len(own) == len(self.space.slots)
        return not whole or any(replace(b, precision=largest[n].precision) != largest[n] for n, b in own)

    # ------------------------------------------------------------ weights

    def _skeleton(self, name: str, block: Block) -> _Skeleton:
        key = (name, block)
        if key not in self._skeletons:
            variant = self.space.variant(name, block)
            with torch.device("meta"):
                module = OpGraphModule(variant.graph)
            if self.has_frozen_statistics:
                keep_statistics_(module)
                count_no_batches_(module)
            else:
                forget_statistics_(module)
            asked = {*dict(module.named_parameters()), *dict(module.named_buffers())}
            needed = [w for w in variant.graph.weights() if w.name in asked]
            written = () if self.has_frozen_statistics else needed
            statistics = tuple(w.name for w in written if w.name.endswith(_STATISTICS))
            of_graph = {w.name for w in needed}
            constants = {n: b.to(self._device) for n, b in module.named_buffers() if n not in of_graph}
            self._skeletons[key] = _Skeleton(module, self._sliced(variant, needed), statistics, constants)
        return self._skeletons[key]

    def _sliced(self, variant: Variant, weights: Sequence[Weight]) -> tuple[_Sliced, ...]:
        dependencies = self.space.network.dependencies
        units = self._units(variant)
        kernel_of = {
            w.name: (op.name, variant.kernels[op.name])
            for op in variant.graph.ops
            if op.name in variant.kernels
            for role, w in op.weights
            if role == "weight"
        }
        found = []
        for weight in weights:
            kept = [dependencies.kept_positions(weight.name, axis, units) for axis in range(len(weight.shape))]
            positions = tuple(None if k is None else torch.from_numpy(k).to(self._device) for k in kept)
            found.append(_Sliced(weight.name, *kernel_of.get(weight.name, ("", 0)), positions))
        return tuple(found)

    def _slice(self, sliced: _Sliced) -> Tensor:
        """A smaller network's part of a weight; gradients flow back into the whole."""
        tensor: Tensor = (
            self.weights[_key(sliced.name)] if self._trained[sliced.name] else getattr(self.fixed, _key(sliced.name))
        )
        for axis, positions in enumerate(sliced.positions):
            if positions is not None:
                tensor = tensor.index_select(axis, positions)
        if sliced.kernel:
            tensor = self.kernels(sliced.convolution, tensor, sliced.kernel)
        return tensor

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters())).device


def _key(name: str) -> str:
    return name.replace(".", "/")


def _checked(weights: Sequence[Weight], numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbers of a graph's weights.

    Raises:
        SpaceError: one is missing, or has another shape.
    """
    for w in weights:
        if w.name not in numbers:
            raise SpaceError(f"the given network's weight {w.name!r} is missing")
        if tuple(numbers[w.name].shape) != w.shape:
            raise SpaceError(
                f"weight {w.name!r} has the shape {tuple(numbers[w.name].shape)}; the network has {w.shape}"
            )
    return {w.name: numbers[w.name].detach() for w in weights}


def _initial(space: AdaptedSpace) -> dict[str, Tensor]:
    """What torch's own layers begin with; statistics of nothing seen."""
    return dict(OpGraphModule(space.network.largest.graph).state_dict())

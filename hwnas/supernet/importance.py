"""Which units of a given network its smaller networks keep: orders of importance, by name.

Every order gives each unit of each dimension a worth, where a unit is what is removed at once: a channel, a head, a
group. The supernet then keeps the worthiest. Knows a given network, its weights and batches of its inputs; never
devices, tables or the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.recalibration import recalibrate

if TYPE_CHECKING:
    from hwnas.graph import Op, OpGraph
    from hwnas.graph.elasticity.dependencies import Dependencies
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.types import FloatArray

Batch = Tensor | tuple[Tensor, Tensor]  # inputs (N, ...), or inputs and labels (N, ...)
Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, labels) -> a scalar, the mean over samples

# layer -> axis of its weight along which lie the channels it reads, and of a sample along which it reads them
_READS = {"conv2d": (1, 0), "conv1d": (1, 0), "conv_transpose2d": (0, 0), "linear": (1, -1)}
_MADE = {"conv2d": 0, "conv1d": 0, "conv_transpose2d": 1, "linear": 0}  # and of the weight, those it makes
_EPS = 1e-5  # of a batch normalisation that does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """The largest network of a supernet, as orders see it.

    Attributes:
        dependencies: its units, and its graph.
        numbers: its weights and statistics, by the names of the graph.
        fit: brings inputs to the size it takes.
    """

    dependencies: Dependencies
    numbers: Mapping[str, Tensor]
    fit: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, supernet: AdaptedSupernet, batches: Sequence[Batch]) -> Largest:
        """Of a supernet; where its weights were trained, statistics are computed from the batches.

        Raises:
            ValueError: they were trained, and there is no batch.
        """
        space = supernet.space
        network = supernet.extract(space.named_blocks(space.largest()))
        recalibrate(network, [_inputs(batch) for batch in batches])
        # `blocks.<i>.<name>`: a weight that several blocks share is in each of them
        numbers = {name.split(".", 2)[2]: tensor.detach() for name, tensor in network.state_dict().items()}
        return cls(dependencies=space.network.dependencies, numbers=numbers, fit=supernet.fit)

    def module(self, graph: OpGraph) -> OpGraphModule:
        """What a graph of these weights computes, in evaluation mode."""
        module = OpGraphModule(graph)
        module.load_state_dict({name: self.numbers[name] for name in module.state_dict()})
        return module.eval()


class Order(Protocol):
    """How much each unit is worth."""

    def __call__(self, network: Largest, batches: Sequence[Batch], loss: Loss) -> list[FloatArray]:
        """For each dimension (units,): a worth, at least 0, to be compared within its dimension alone.

        Raises:
            ValueError: the order needs batches, or labels, and there are none.
        """
        ...


def rank_(
    supernet: AdaptedSupernet, how: str = "measured", *, batches: Sequence[Batch] = (), loss: Loss = F.cross_entropy
) -> None:
    """Set the order of importance of every dimension, in place.

    Of units of equal worth the one with the smaller number stays. To be done before smaller networks are trained:
    another order gives them other weights.

    Args:
        supernet: of a given network.
        how: a name in `ORDERS`. "measured" needs batches without labels, "taylor" with labels, "magnitude" none.
        batches: inputs as the network takes them (images are resized), with labels for an order by the loss. All that
            layers read is in memory for one batch at a time.
        loss: what the labels mean.

    Raises:
        ValueError: there is no such order; or it needs batches, or labels, and there are none.
    """
    if how not in ORDERS:
        raise ValueError(f"{how!r} is no order of importance; known: {', '.join(ORDERS)}")
    network = Largest.of(supernet, batches)
    for dim, worth in enumerate(ORDERS[how](network, batches, loss)):
        supernet.set_order_(dim, np.argsort(-worth, kind="stable"))


# ---------------------------------------------------------------- by weights alone


def magnitude(network: Largest, batches: Sequence[Batch], loss: Loss) -> list[FloatArray]:
    """Squared norm of all that a unit touches, in each layer as a share of that layer's mean.

    The layers that make a unit, hand it on and read it count alike, whatever their scale (Fang et al., 2023,
    "DepGraph", section 3.3). Rows that a batch normalisation follows count as it scales them.
    """
    worths = _zeros(network.dependencies)
    for op in _layers(network.dependencies.graph):
        squares = _folded(op, network).double().square().cpu()
        for axis in range(squares.dim()):
            for dim, found in _per_unit(network.dependencies, op, axis, _along(squares, axis)):
                worths[dim] += _shares(found)
    return worths


# ---------------------------------------------------------------- by a loss


def taylor(network: Largest, batches: Sequence[Batch], loss: Loss) -> list[FloatArray]:
    """Squared change of the loss, to first order, where a layer loses a unit; summed over layers, a mean over batches.

    (Sum of gradient times weight)^2, as Molchanov et al. (2019), "Importance estimation for neural network pruning",
    section 3.1, have it for a group of weights: here a unit's positions along one axis of one layer's weight.
    """
    layers = _layers(network.dependencies.graph)
    module = network.module(network.dependencies.graph)
    parameters = dict(module.named_parameters())
    asked = {name: parameters[name] for op in layers if (name := _weight(op)) in parameters}
    worths = _zeros(network.dependencies)
    for x, labels in _labelled(batches):
        module.to(x.device)
        found = torch.autograd.grad(loss(module(network.fit(x)), labels), list(asked.values()), allow_unused=True)
        changes = {
            name: (grad * weight).detach().double().cpu()
            for (name, weight), grad in zip(asked.items(), found, strict=True)
            if grad is not None
        }
        for op in {_weight(op): op for op in layers}.values():  # a weight that is shared once: its gradient is of all
            if _weight(op) in changes:
                change = changes[_weight(op)]
                for axis in range(change.dim()):
                    for dim, units in _per_unit(network.dependencies, op, axis, _along(change, axis)):
                        worths[dim] += units**2 / len(batches)
    return worths


# ---------------------------------------------------------------- by what layers read


def measured(network: Largest, batches: Sequence[Batch], loss: Loss) -> list[FloatArray]:
    """How far the outputs of the layers that read a unit move without it, in each as a share of that layer's mean.

    The mean square of what a layer reads of the unit, times the squared norm of the weights it reads it by: the error
    of the layer's output for channels that do not vary together (the error that Luo et al., 2017, "ThiNet", choose
    channels by; the product of Sun et al., 2023, "Wanda", equation 1, for a whole unit). Where a batch normalisation
    follows the layer, recalibrated statistics make up for the mean that is lost, so there the variance counts (An et
    al., 2024, "FLAP", who make up for it by a bias).
    """
    readers = [op for op in _layers(network.dependencies.graph) if _reads(op, network.dependencies)]
    worths = _zeros(network.dependencies)
    if not readers:
        return worths
    moments = _Moments(network, readers)
    for batch in _some(batches, "measured"):
        moments.see(_inputs(batch))
    for op in readers:
        axis = _READS[op.kind][0]
        norms = _along(_folded(op, network).double().square().cpu(), axis)
        energy = moments.energy(op, centred=_norm_behind(op, network) is not None)
        for dim, found in _per_unit(network.dependencies, op, axis, energy * norms):
            worths[dim] += _shares(found)
    return worths


class _Moments:
    """Sums over samples and positions of what layers read, channel by channel, and of its squares."""

    def __init__(self, network: Largest, readers: Sequence[Op]) -> None:
        self._fit = network.fit
        self._axis = {op.inputs[0]: _READS[op.kind][1] for op in readers}  # value -> axis of its channels
        graph = network.dependencies.graph
        self._module = network.module(replace(graph, outputs=tuple(self._axis)))
        self._sums: dict[str, tuple[FloatArray, FloatArray]] = {}
        self._counts = dict.fromkeys(self._axis, 0)

    @torch.no_grad()
    def see(self, x: Tensor) -> None:
        """A batch (N, ...) of the network's inputs."""
        values = self._module.to(x.device)(self._fit(x))
        if len(self._axis) == 1:
            values = (values,)
        for (name, axis), value in zip(self._axis.items(), values, strict=True):
            channels = value.double().movedim(axis if axis < 0 else axis + 1, 0).flatten(1)  # (C, N * positions)
            sums = channels.sum(1).cpu().numpy(), channels.square().sum(1).cpu().numpy()
            before = self._sums.get(name, (np.zeros_like(sums[0]), np.zeros_like(sums[1])))
            self._sums[name] = before[0] + sums[0], before[1] + sums[1]
            self._counts[name] += channels.shape[1]

    def energy(self, op: Op, *, centred: bool) -> FloatArray:
        """(C,) mean square of what a layer reads, or its variance."""
        n = self._counts[op.inputs[0]]
        total, squares = self._sums[op.inputs[0]]
        return np.maximum(squares / n - (total / n) ** 2, 0.0) if centred else squares / n


ORDERS: Mapping[str, Order] = {"magnitude": magnitude, "taylor": taylor, "measured": measured}


# ---------------------------------------------------------------- layers and their weights


def _layers(graph: OpGraph) -> list[Op]:
    """Operators with a weight of several axes, by which channels are made and read."""
    return [op for op in graph.ops if (w := op.weight("weight")) is not None and len(w.shape) > 1]


def _weight(op: Op) -> str:
    weight = op.weight("weight")
    assert weight is not None
    return weight.name


def _reads(op: Op, dependencies: Dependencies) -> bool:
    """Whether channels that can go are read; a layer of groups only hands its channels on."""
    if op.kind not in _READS or dict(op.attributes).get("groups", 1) != 1:
        return False
    return bool(dependencies.dims_along(_weight(op), _READS[op.kind][0]))


def _norm_behind(op: Op, network: Largest) -> Op | None:
    """The batch normalisation that alone reads what a layer makes."""
    after = network.dependencies.graph.consumers[op.outputs[0]]
    return after[0] if op.kind in _MADE and len(after) == 1 and after[0].kind == "batch_norm" else None


def _folded(op: Op, network: Largest) -> Tensor:
    """A layer's weight, its rows scaled by the normalisation behind."""
    weight = network.numbers[_weight(op)]
    norm = _norm_behind(op, network)
    variance = norm.weight("running_var") if norm is not None else None
    if norm is None or variance is None:
        return weight
    eps = dict(norm.attributes).get("eps", _EPS)
    assert isinstance(eps, float)
    scale = (network.numbers[variance.name] + eps).rsqrt()
    gamma = norm.weight("weight")
    if gamma is not None:
        scale = scale * network.numbers[gamma.name].abs()
    axis = _MADE[op.kind]
    if len(scale) != weight.shape[axis]:  # a transposed convolution of groups, whose weight has one group's channels
        return weight
    return weight * scale.view(*(-1 if i == axis else 1 for i in range(weight.dim())))


# ---------------------------------------------------------------- sums


def _zeros(dependencies: Dependencies) -> list[FloatArray]:
    return [np.zeros(dim.size) for dim in dependencies.dims]


def _along(tensor: Tensor, axis: int) -> FloatArray:
    """(n,) sums over all other axes."""
    return np.asarray(tensor.movedim(axis, 0).flatten(1).sum(1).numpy())


def _per_unit(dependencies: Dependencies, op: Op, axis: int, along: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    """For each dimension along an axis of a layer's weight, its number, and (units,) sums over the units' positions."""
    for dim in dependencies.dims_along(_weight(op), axis):
        units = dependencies.units_along(_weight(op), axis, dim)
        found = np.zeros(dependencies.dims[dim].size)
        np.add.at(found, units[units >= 0], along[units >= 0])
        yield dim, found


def _shares(found: FloatArray) -> FloatArray:
    """In units of their mean; zeros where all are."""
    mean = found.mean()
    return found / mean if mean > 0 else found


# ---------------------------------------------------------------- batches


def _inputs(batch: Batch) -> Tensor:
    return batch if isinstance(batch, Tensor) else batch[0]


def _some(batches: Sequence[Batch], how: str) -> Sequence[Batch]:
    if not batches:
        raise ValueError(f"the order {how!r} needs batches of inputs; without any there is 'magnitude'")
    return batches


def _labelled(batches: Sequence[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in _some(batches, "taylor"):
        if isinstance(batch, Tensor):
            raise ValueError("the order 'taylor' needs labels with each batch; without any there is 'measured'")
        yield batch

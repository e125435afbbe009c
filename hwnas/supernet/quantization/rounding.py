"""What 8-bit integers will do to a sub-network, done to it while all of them are trained.

A sub-network in training normalises by its batch, so nothing of it can be folded yet. It needs not be: the scale of an
output channel's weights follows from the largest of them, and a factor of the whole channel, as batch normalisation is
one, changes neither their quotient nor how they are rounded. So the weights are rounded before it, and activations
where the integer form rounds them (region.py), to ranges that are learned with the weights (Esser et al., 2020,
"Learned Step Size Quantization") and begin with what is seen, beside 0 or around it (Bhalgat et al., 2020, "LSQ+").
One range belongs to a value of a slot, whatever variant the slot is (Wang et al., 2023, "SpaceEvo", and Shen et al.,
2021, "Once Quantized for All", train such supernets).

What moves numbers or has a scale of its own by nature (a gate, a pool of windows) is not rounded here. This module
knows graphs and tensors, not spaces or files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hwnas.graph import OpGraph
from hwnas.precisions import is_quantized, precision
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.quantization.folding import fold_batchnorm
from hwnas.supernet.quantization.modules import HardswishQuantizer, Quantizer
from hwnas.supernet.quantization.region import QuantizedRegion
from hwnas.supernet.subnetwork import BlockModule, BlockSequence, SubNetwork

_LEVELS = 255
SMALLEST_SCALE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedValue:
    """A value that the integer form of a graph rounds to a range of its own.

    Attributes:
        value: its name in the graph.
        quantizer: path of the quantizer that will round it.
        before_hardswish: rounded on the grid of `HardswishQuantizer`, of which nothing is learned.
    """

    value: str
    quantizer: str
    before_hardswish: bool = False

    @property
    def path(self) -> str:
        """Where its range is among a module's parts."""
        return f"{self.quantizer}_{'grid' if self.before_hardswish else 'range'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingPlan:
    """What the integer form of a graph rounds.

    Attributes:
        values: each activation.
        weights: name -> axis of the output channels, each of which has a scale.
        output: of which the first output is, where numbers only moved since; None: its scale is fixed, or the input's.
    """

    values: tuple[RoundedValue, ...]
    weights: Mapping[str, int]
    output: RoundedValue | None


def rounding_plan(graph: OpGraph) -> RoundingPlan:
    """What a graph's integer form rounds, by the very module that computes it.

    An activation that reads the graph's input, or what is rounded already, has no range of its own before it.
    """
    with torch.device("meta"):
        region = QuantizedRegion(fold_batchnorm(OpGraphModule(graph)))
    names = {id(module): name for name, module in region.named_modules()}
    values: dict[str, RoundedValue] = {}
    weights: dict[str, int] = {}
    for item in region.op_plan:
        layer, result = region.layer_of(item), region.result_of(item)
        if layer is not None:
            weights[f"{item.op.name}.weight"] = layer.axis
        if result is None:
            continue
        reads = item.op.outputs if item.computes else item.op.inputs
        if item.activation is not None:
            reads = item.activation.inputs
        for name, quantizer in _of_its_own(result):
            value = reads[0] if name == "before" else item.outputs[0]
            if value not in graph.inputs:
                found = RoundedValue(
                    value=value,
                    quantizer=names[id(quantizer)],
                    before_hardswish=isinstance(quantizer, HardswishQuantizer),
                )
                values.setdefault(value, found)
    learned = {v.quantizer: v for v in values.values()}
    output = learned.get(names.get(id(region.output_source), ""))
    return RoundingPlan(values=tuple(values.values()), weights=weights, output=output)


def _of_its_own(result: nn.Module) -> Iterator[tuple[str, Quantizer]]:
    """Quantizers with a range that depends on the numbers, each with its name inside of what rounds a result."""
    for name, module in result.named_modules():
        if isinstance(module, Quantizer) and module.has_range:
            yield name, module


class LearnedRange(nn.Module):
    """Rounds to 256 levels of a range that is learned.

    Args:
        before_hardswish: the range begins at -3 and is not learned: its grid has -3 and 0 on it.

    Attributes:
        scale: (1,) of a level; 0 before anything was seen.
        zero_point: (1,) the level that 0 has; not learned.
        seen: (2,) lowest and highest value of every tensor, while it watches instead of rounding; None: it rounds.
    """

    def __init__(self, *, before_hardswish: bool = False) -> None:
        super().__init__()
        self.before_hardswish = before_hardswish
        self.scale = nn.Parameter(torch.zeros(1), requires_grad=not before_hardswish)
        self.zero_point = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.seen: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.seen is not None:
            self.seen.append(torch.stack(torch.aminmax(x.detach().float())))
            return x
        return round_to_range(x, self.scale, self.zero_point)

    def watch_(self) -> None:
        """Look at what comes, and leave it as it is."""
        self.seen = []

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest value that is not clipped."""
        scale, zero_point = self.scale.item(), min(_LEVELS, max(0, round(self.zero_point.item())))
        return -zero_point * scale, (_LEVELS - zero_point) * scale

    @torch.no_grad()
    def begin_(self) -> None:
        """Round from now on, to the mean of the ranges that were seen, widened to 0; to none where nothing was."""
        seen, self.seen = self.seen, None
        if not seen:
            return
        low, high = (float(v) for v in torch.stack(seen).mean(0))
        low, high = min(low, 0.0), max(high, 0.0)
        if high - low < _LEVELS * SMALLEST_SCALE:  # nothing but zeros, as residual branches begin: of either sign later
            low, high = -1.0, 1.0
        self.set_ends_(low, high)

    @torch.no_grad()
    def set_ends_(self, low: float, high: float) -> None:
        """Round to the range from `low` <= 0 to `high` >= 0."""
        if self.before_hardswish:
            levels = HardswishQuantizer.levels_below_zero(high)
            self.scale.fill_(3 / levels)
            self.zero_point.fill_(levels)
            return
        scale = (high - low) / _LEVELS
        self.scale.fill_(scale)
        self.zero_point.fill_(min(_LEVELS, max(0, round(-low / scale))))


def round_to_range(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """(N, ...) the same on 256 levels, with gradients for it and for the size of a step.

    A step's gradient is scaled down by the root of how many numbers of a sample it rounds (Esser et al., 2020, section
    2.2).

    Args:
        x: (N, ...) of any type of floats, which the result has.
        scale: (1,) float32.
        zero_point: (1,) float32, a whole number.
    """
    factor = 1 / math.sqrt(_LEVELS * max(1, x[0].numel()))
    if x.is_cuda:  # there torch's own function asks the GPU for the scale as a number, and waits for it
        return _Round.apply(x, scale, zero_point, factor)  # type: ignore[no-any-return,no-untyped-call]
    found: Tensor = torch._fake_quantize_learnable_per_tensor_affine(x.float(), scale, zero_point, 0, _LEVELS, factor)
    return found.to(x.dtype)


class _Round(torch.autograd.Function):
    """The same without a number leaving the device."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, factor: float) -> Tensor:
        steps = torch.div(x, scale)  # float32, whatever x is
        rounded = torch.round(steps)
        kept = torch.clamp(rounded, -zero_point, _LEVELS - zero_point)
        inside = kept == rounded
        ctx.save_for_backward(inside, torch.addcmul(kept, steps, inside.float(), value=-1))
        ctx.factor = factor
        return kept.mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        inside, by_step = ctx.saved_tensors
        of_scale = (grads[0] * by_step).sum().mul_(ctx.factor).reshape(1) if ctx.needs_input_grad[1] else None
        return grads[0] * inside, of_scale, None, None


def round_weights(weight: Tensor, axis: int = 0, *, largest: int = 127) -> Tensor:
    """Weights as int8 has them, with a scale for each output channel; gradients pass straight through.

    Args:
        weight: of a convolution or linear layer.
        axis: of its output channels.
        largest: quantized value, of as many bits as a precision has.
    """
    channels = weight.detach().transpose(0, axis).flatten(1)
    scale = torch.linalg.vector_norm(channels, math.inf, dim=1).mul_(1 / largest).clamp_min_(1e-8)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -128, 127)


class RoundedModule(OpGraphModule):
    """What a graph computes, its activations rounded to learned ranges; weights come rounded (`round_weights`).

    Args:
        graph: any.
        plan: of the graph.
    """

    def __init__(self, graph: OpGraph, plan: RoundingPlan) -> None:
        super().__init__(graph, filters=_ranges(plan.values))


def _ranges(values: Iterable[RoundedValue]) -> dict[str, tuple[str, LearnedRange]]:
    """Name of a value -> path and range that it goes through."""
    return {v.value: (v.path, LearnedRange(before_hardswish=v.before_hardswish)) for v in values}


def rounded(network: SubNetwork) -> BlockSequence:
    """A network as it computed in training: its blocks in integers rounded by their learned ranges, nothing folded.

    Args:
        network: with ranges.

    Returns:
        Blocks of their own in evaluation mode, with the weights rounded and the normalisations that the network has.
    """
    assert network.ranges is not None
    found = []
    for block, ends in zip(network.blocks, network.ranges, strict=True):
        assert isinstance(block, BlockModule)
        found.append(_rounded_block(block, ends) if is_quantized(block.slot_block.precision) else copy.deepcopy(block))
    return BlockSequence(found).eval()


@torch.no_grad()
def _rounded_block(block: BlockModule, ends: Mapping[str, tuple[float, float]]) -> nn.Module:
    plan = rounding_plan(block.op_graph)
    values = [v for v in plan.values if v.quantizer in ends]
    ranges = _ranges(values)
    module = BlockModule(block.slot_block, filters=ranges)
    module.load_state_dict(block.state_dict(), strict=False)  # all but ranges
    largest = precision(block.slot_block.precision).weights.quant_max
    for name, axis in plan.weights.items():
        weight = module.get_parameter(name)
        weight.copy_(round_weights(weight, axis, largest=largest))
    for value in values:
        ranges[value.value][1].set_ends_(*ends[value.quantizer])
    return module

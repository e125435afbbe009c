"""The int8 form of a region: its operator graph with batch normalisation folded, computed as integers will be.

It takes a quantized tensor and gives one. Results are rounded by a quantizer of their
own, or by the activation that alone reads them. This module knows graphs and quantized layers, not kinds of block,
networks, calibration data or files.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from torch import nn

from hwnas.graph import Op, OpGraph
from hwnas.graph.costs import JOIN, call_of
from hwnas.graph.patterns import follower
from hwnas.precisions import DEQUANTIZE, QUANTIZE
from hwnas.supernet.graph_module import GraphInterpreter, OpGraphModule, Step
from hwnas.supernet.operators import MODULES
from hwnas.supernet.quantization.divisors import unrounded
from hwnas.supernet.quantization.modules import InputQuantizer, QuantizedWeights, Quantizer, output_quantizer
from hwnas.supernet.quantization.rules import (
    ACTIVATIONS,
    WEIGHTED,
    has_integer_form,
    keeps_scale,
    result_quantizer,
)
from hwnas.supernet.subnetwork import BlockModule


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedOp:
    """An operator and how its result is rounded.

    Attributes:
        op: the operator.
        activation: what became part of it.
        computes: whether there is something to compute before rounding; False for an activation on its own.
        result: path of what rounds its result; "" where the scale of the first input holds on, or there is none.
        has_scale: whether its results are on a scale: not whole numbers (positions, tokens, masks), nor what leads to a
            divisor.
    """

    op: Op
    activation: Op | None = None
    computes: bool = True
    result: str = ""
    has_scale: bool = True

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values it gives."""
        return (self.op if self.activation is None else self.activation).outputs


class QuantizedRegion(GraphInterpreter):
    """A graph in integers.

    Args:
        float_module: what it computes in float, batch normalisation folded.

    Attributes:
        op_plan: its operators in order.
    """

    def __init__(self, float_module: OpGraphModule) -> None:
        super().__init__(float_module.op_graph)
        self.op_labels = float_module.op_labels
        self.op_plan: tuple[QuantizedOp, ...] = ()
        self._unrounded = unrounded(self.op_graph)
        steps: list[tuple[str, Step]] = []
        fused: set[str] = set()
        for op in self.op_graph.ops:
            if op.name not in fused:
                item = self._plan_op(op, float_module)
                fused.update([item.activation.name] if item.activation else [])
                steps += self._steps_of_(item, float_module)
                self.op_plan += (item,)
        self._take_steps_(steps)
        self.load_state_dict(float_module.state_dict(), strict=False)  # bare weights; modules have theirs

    def _plan_op(self, op: Op, float_module: OpGraphModule) -> QuantizedOp:
        if op.kind in ACTIVATIONS:
            return QuantizedOp(op=op, computes=False, result=op.name)
        if keeps_scale(op.kind) or not self._has_scale(op):
            return QuantizedOp(op=op, has_scale=self._has_scale(op))
        activation = follower(self.op_graph, op, ACTIVATIONS)
        if activation is not None:
            return QuantizedOp(op=op, activation=activation, result=activation.name)
        # its own name is that of its module, or of what holds its weights
        is_taken = _module_of(float_module, op) is not None or any(
            w.name.startswith(f"{op.name}.") for _, w in op.weights
        )
        return QuantizedOp(op=op, result=f"{op.name}_quantizer" if is_taken or op.kind in WEIGHTED else op.name)

    def _has_scale(self, op: Op) -> bool:
        return _gives_floats(self.op_graph, op) and op.name not in self._unrounded

    def _steps_of_(self, item: QuantizedOp, float_module: OpGraphModule) -> list[tuple[str, Step]]:
        op, steps = item.op, []
        rounded = op.inputs
        if item.computes:
            module = _module_of(float_module, op)
            if module is not None and op.kind in WEIGHTED:
                module = WEIGHTED[op.kind](module)
            step = self._step_(op, copy.deepcopy(module))
            if item.result:
                rounded = (f"{op.outputs[0]} before rounding",)
                step = replace(step, outputs=rounded)
            steps.append((op.name, step))
        if item.result:
            kind = op.kind if item.activation is None else item.activation.kind
            call = call_of(self.op_graph, op)
            self._put_(item.result, ACTIVATIONS[kind]() if kind in ACTIVATIONS else result_quantizer(kind, call))
            steps.append((item.result, Step(path=item.result, inputs=rounded, outputs=item.outputs)))
        return steps

    def layer_of(self, item: QuantizedOp) -> QuantizedWeights | None:
        """The convolution or linear layer of an operator that has int8 weights."""
        module = _at(self, item.op.name) if item.computes else None
        return module if isinstance(module, QuantizedWeights) else None

    def result_of(self, item: QuantizedOp) -> nn.Module | None:
        """What rounds an operator's result; None where the input's scale holds on."""
        return self.get_submodule(item.result) if item.result else None

    @property
    def enters(self) -> bool:
        """Whether it takes floats and does nothing but quantize them."""
        return {op.kind for op in self.op_graph.ops} == {QUANTIZE}

    @property
    def leaves(self) -> bool:
        """Whether it does nothing but give floats for integers."""
        return {op.kind for op in self.op_graph.ops} == {DEQUANTIZE}

    @property
    def output_quantizer(self) -> Quantizer | None:
        """What rounds the first output; None where the input's scale holds on."""
        return self._rounded_by()

    @property
    def output_source(self) -> Quantizer | None:
        """What rounded the numbers of the first output, before some of them were only moved or chosen among."""
        return self._rounded_by(beyond=InputQuantizer)

    def _rounded_by(self, *, beyond: type[Quantizer] | tuple[()] = ()) -> Quantizer | None:
        """The last quantizer before the first output that is not of a kind."""
        last = {name: item for item in self.op_plan for name in item.outputs}
        name = self.op_graph.outputs[0]
        while name in last:
            result = self.result_of(last[name])
            if result is not None and not isinstance(result, beyond):
                return output_quantizer(result)
            name = last[name].op.inputs[0]
        return None

    def connect(self, *sources: Quantizer | None) -> tuple[Quantizer, ...]:
        """Give every operator the scale of what it reads, along the graph.

        Args:
            sources: of the inputs: the quantizers that make them; None for floats, which only are quantized.

        Returns:
            Those of the outputs.
        """
        made_by = {name: q for name, q in zip(self.op_graph.inputs, sources, strict=True) if q is not None}
        for item in self.op_plan:
            if not item.has_scale:
                continue
            layer, result = self.layer_of(item), self.result_of(item)
            if layer is not None:
                layer.connect(made_by[item.op.inputs[0]])
            if isinstance(result, InputQuantizer):
                result.connect(made_by[item.op.inputs[0]])
            made = made_by[item.op.inputs[0]] if result is None else output_quantizer(result)
            made_by.update(dict.fromkeys(item.outputs, made))
            if item.op.kind == JOIN:  # each of these tensors leaves the region
                for name in item.op.inputs:
                    made_by[name].needed = True
        return tuple(made_by[name] for name in self.op_graph.outputs)

    @property
    def left_in_float(self) -> tuple[str, ...]:
        """Operators without an integer form, or that lead to a divisor, with their places."""
        return tuple(
            f"{item.op.kind} ({item.op.name!r})"
            for item in self.op_plan
            if _gives_floats(self.op_graph, item.op)
            and (
                not item.has_scale
                or not has_integer_form(item.op.kind, call_of(self.op_graph, item.op))
                or (item.op.kind in WEIGHTED and self.layer_of(item) is None)
            )
        )


class QuantizedBlock(QuantizedRegion):
    """A block in integers."""

    def __init__(self, float_module: BlockModule) -> None:
        super().__init__(float_module)
        self.slot_block = float_module.slot_block


def _gives_floats(graph: OpGraph, op: Op) -> bool:
    return all(value.dtype.startswith("float") for value in graph.output_values(op))


def _module_of(float_module: OpGraphModule, op: Op) -> nn.Module | None:
    """The module that computes an operator; None where a function does."""
    return _at(float_module, op.name) if op.kind in MODULES and float_module.keeps(op) else None


def _at(root: nn.Module, path: str) -> nn.Module | None:
    try:
        return root.get_submodule(path)
    except AttributeError:
        return None

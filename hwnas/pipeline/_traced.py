"""A given network as graphs, one at each resolution: as it trains where that can be read, else as it predicts.

Knows modules, files of networks and graphs; never what is made elastic of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hwnas.config import ModelConfig
from hwnas.errors import ConfigError, GraphError
from hwnas.given_inputs import InputShape
from hwnas.graph import unknown_operators
from hwnas.graph.joining import output_parts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.graph import OpGraph


def inputs_of(module: nn.Module, model: ModelConfig) -> tuple[InputShape, ...]:
    """What the network takes; that of an ONNX file computes what the file does, or is refused."""
    from hwnas.pipeline._imported import check_imported
    from hwnas.supernet.importing import OnnxNetwork

    if not isinstance(module, OnnxNetwork):
        assert model.input is not None  # only a file says it itself
        return model.input
    check_imported(module, model.source.removeprefix("onnx:"))
    inputs = model.input or module.inputs
    try:
        model.check_input(inputs)
    except ValueError as e:
        raise ConfigError(f"[model]: {e}") from e
    return inputs


def traced(
    module: nn.Module, model: ModelConfig, *, inputs: Sequence[InputShape], tell: Callable[[str], None]
) -> tuple[list[OpGraph], Mapping[str, Tensor]]:
    """The network's graph at each resolution, ascending, and the numbers of its weights.

    As it trains; if that cannot be read (random numbers, outputs that are only for training), as it predicts, told.
    Several outputs are joined to one, and several inputs are one row (`hwnas.graph.joining`).

    Raises:
        GraphError: it cannot be traced at one of them, or its inputs or outputs cannot be joined.
    """
    sides = model.elastic.resolutions
    predicting: tuple[list[OpGraph], Mapping[str, Tensor]] | None = None
    try:
        found = _graphs(module, inputs, sides, training=True)
        why = _unreadable(found[0][-1])
        training = output_parts(found[0][-1])
        if why is None and (training or _predicts_several(module, inputs)):
            predicting = _graphs(module, inputs, sides, training=False)
            if output_parts(predicting[0][-1]) != training:
                why = f"it has other outputs then ({', '.join(map(str, training)) or 'one'})"
    except GraphError as e:
        why = str(e)
    if why is not None:
        predicting = predicting or _graphs(module, inputs, sides, training=False)
        if _unreadable(predicting[0][-1]) is not None:
            return predicting  # what is the matter is not how it trains; told by those who cannot go on with it
        found = predicting
        tell(
            f"the network cannot be taken as it trains: {why}. It is taken as it predicts, so smaller ones are trained "
            "without its dropout and stochastic depth"
        )
    _check_alike(found[0])
    return found


def _predicts_several(module: nn.Module, inputs: Sequence[InputShape]) -> bool:
    import torch
    from torch.utils._pytree import tree_leaves

    from hwnas.supernet.given import example_inputs

    with torch.no_grad():
        try:
            found = tree_leaves(module(*example_inputs(inputs)))
        except Exception as e:  # of somebody else's code
            why = (str(e).splitlines() or [""])[0]
            raise GraphError(f"the network cannot predict one sample: {type(e).__name__}: {why}") from e
    return sum(isinstance(x, torch.Tensor) for x in found) > 1


def _check_alike(graphs: Sequence[OpGraph]) -> None:
    """Hold that several outputs are of the same shapes at every resolution: what is learned from them is one row.

    Raises:
        GraphError: they are not.
    """
    largest = output_parts(graphs[-1])
    for graph in graphs[:-1]:
        if (parts := output_parts(graph)) != largest:
            side = graph.by_name[graph.inputs[0]].shape[-1]
            here, there = (", ".join(map(str, found)) for found in (parts, largest))
            raise GraphError(
                f"at {side} px the network's outputs are {here}, else {there}; several outputs must have the same "
                "shapes at every resolution: leave out model.elastic.resolutions"
            )


def _unreadable(graph: OpGraph) -> str | None:
    """Why a graph is not what is shipped."""
    if unknown := unknown_operators(graph):
        return f"its operator {unknown[0]} is not known"
    return None


def shared_norms(graph: OpGraph) -> tuple[str, ...]:
    """Paths of batch normalisations that are called in several places; only the first call is a module in a graph."""
    calls = Counter(w.name.rpartition(".")[0] for op in graph.ops for role, w in op.weights if role == "running_mean")
    return tuple(name for name, n in calls.items() if n > 1)


def _graphs(
    module: nn.Module, inputs: Sequence[InputShape], sides: Sequence[int] | None, *, training: bool
) -> tuple[list[OpGraph], Mapping[str, Tensor]]:
    from hwnas.supernet.given import example_inputs
    from hwnas.supernet.importing import OnnxNetwork
    from hwnas.supernet.tracing import trace_with_numbers

    names = module.outputs if isinstance(module, OnnxNetwork) else None
    found: list[OpGraph] = []
    numbers: Mapping[str, Tensor] = {}
    for side in sides or (0,):
        # several resolutions are those of one image
        asked = [InputShape((x.shape[0], side, side), x.dtype) for x in inputs] if sides else inputs
        example = example_inputs(asked)
        try:
            graph, numbers = trace_with_numbers(module, example, training=training, join=True, names=names)
        except GraphError as e:
            if not sides:
                raise
            raise GraphError(f"at {side} px: {e}. Leave out this one of model.elastic.resolutions") from e
        found.append(graph)
    return found, numbers

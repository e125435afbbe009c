"""A network as torch alone knows it: no class of ours inside, so it loads and runs without hwnas.

This module knows torch modules, not blocks, spaces, weights' origin or devices.
"""

from __future__ import annotations

import torch.fx
from torch import nn

from hwnas.errors import ExportError


def to_pure(module: nn.Module) -> torch.fx.GraphModule:
    """The same computation as a graph of `torch.nn` modules and torch functions.

    The result shares the original's parameters and buffers, has them under the same names and in
    the same mode, and can be trained, pickled, scripted and exported where hwnas is not installed.

    Args:
        module: whose forward takes one tensor and has no branch that depends on its values.

    Raises:
        ExportError: the forward cannot be traced, or the module has parameters that it never reaches.
    """
    try:
        pure = torch.fx.symbolic_trace(module)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError, ValueError) as e:
        raise ExportError(
            f"{type(module).__name__} cannot be traced into plain torch operations: {e}. "
            "Its forward must not depend on the values of tensors"
        ) from e
    lost = module.state_dict().keys() - pure.state_dict().keys()
    if lost:
        raise ExportError(f"{type(module).__name__} does not use {', '.join(sorted(lost))}; remove what is not used")
    for node in pure.graph.nodes:
        node.meta.clear()  # remembers the classes it was traced from
        node.type = None  # annotations, which may be text that no other module can read
    pure.recompile()
    pure.train(module.training)
    return pure

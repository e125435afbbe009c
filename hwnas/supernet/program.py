"""A network as a torch program: its computation and its weights as `torch.export.load` reads them where hwnas is not.

This module knows torch modules, not blocks, spaces, where weights come from or which network ships.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from torch import nn

from hwnas.errors import ExportError
from hwnas.supernet.parting import parted_network


def torch_program(network: nn.Module, *, in_shape: Sequence[int]) -> bytes:
    """The content of a `.pt2` file that computes what a network does.

    It takes batches of any size. Parameters and buffers have the network's own names and train. The same network gives
    the same bytes; nothing in them names the folders or files that it was made in. Several outputs are a tuple.

    Args:
        network: in evaluation mode; it takes one tensor, (N, *in_shape).
        in_shape: of one sample: (C, H, W) of an image.

    Raises:
        ExportError: torch cannot export it.
    """
    # two samples: of one torch would take the size for granted
    example = torch.zeros(2, *in_shape)
    network = parted_network(network) or network
    content = io.BytesIO()
    try:
        with torch.enable_grad():  # as it trains, whoever calls
            program = torch.export.export(
                network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
            )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        torch.export.save(program, content)
    except Exception as e:  # torch raises nearly anything here
        first = next((line.strip() for line in str(e).splitlines() if line.strip()), "no reason is given")
        raise ExportError(
            f"{type(network).__name__} is no torch program: torch.export says {type(e).__name__}: {first}"
        ) from e
    return content.getvalue()

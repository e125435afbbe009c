r"""Other tools that make a trained network smaller: Torch-Pruning, and FastNAS of NVIDIA's Model Optimizer.

    pip install --no-deps --target FOLDER torch-pruning==1.6.1 nvidia-modelopt==0.47.0 torchprofile==0.0.4 \
        torchvision==0.29.1 omegaconf==2.3.0 antlr4-python3-runtime==4.9.3 pulp==3.3.2 nvidia-ml-py ninja tqdm rich
    pip install --target FOLDER huggingface_hub

Each takes a share of the network's channels or work, not a latency: `slices` makes all that there are, to be measured.
Knows modules and batches; never devices or files.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

Prune = Callable[["nn.Module", float], "nn.Module"]
Batches = list[tuple["Tensor", "Tensor"]]

MULTIPLES = (4, 8, 16)  # of channels: what is fast differs between runtimes
SHARES = tuple(i / 20 for i in range(2, 20))  # of the channels, or of the work


def use_packages(folder: Path | None) -> None:
    """Look for the tools in a folder that pip installed them into.

    Raises:
        ConfigError: they are not there.
    """
    import torch

    if folder is not None:
        sys.path.append(str(folder.resolve()))
    # torchvision's own operators are of another torch, and no tool needs them
    library = torch.library.Library("torchvision", "FRAGMENT")
    _LIBRARIES.append(library)
    try:
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in ("torch_pruning", "modelopt.torch.prune"):
            importlib.import_module(name)
    except ImportError as e:
        raise ConfigError(f"{e}; install the tools as the head of {__file__} says, then --packages FOLDER") from e


_LIBRARIES: list[Any] = []  # operators are there as long as their library is


def torch_pruning(importance: str, batches: Batches, *, multiple_of: int) -> Prune:
    """Structural pruning by dependency groups, over the whole network at once (Fang et al., 2023, "DepGraph").

    Args:
        importance: `magnitude` (L2 norms of groups) or `taylor` (first order, of a few batches).
        batches: images with their labels.
        multiple_of: channels are multiples of it.
    """
    import torch
    import torch_pruning as tp
    from torch.nn import functional as F

    def prune(network: nn.Module, share: float) -> nn.Module:
        network = copy.deepcopy(network).eval()
        x = batches[0][0][:1]
        with torch.no_grad():
            classes = network(x).shape[1]
        last = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features == classes]
        by = (
            tp.importance.GroupTaylorImportance()
            if importance == "taylor"
            else tp.importance.GroupMagnitudeImportance(p=2)
        )
        pruner = tp.pruner.BasePruner(
            network,
            x,
            importance=by,
            pruning_ratio=1 - share,
            global_pruning=True,
            round_to=multiple_of,
            ignored_layers=last,
        )
        if importance == "taylor":
            for images, labels in batches:
                F.cross_entropy(network(images), labels).backward()
        pruner.step()
        network.zero_grad(set_to_none=True)
        return network

    return prune


def fastnas(batches: Batches, score: Callable[[nn.Module], float], *, multiple_of: int, memory: Path) -> Prune:
    """FastNAS: the channels of each layer by how much accuracy less of them costs, searched within a share of the MACs.

    Args:
        batches: images for statistics of normalisation.
        score: accuracy of a network.
        multiple_of: channels are multiples of it.
        memory: where it keeps what it measured of each layer, which serves every share.
    """
    import modelopt.torch.prune as mtp

    ratios = tuple(i / 8 for i in range(1, 9))
    rules = {"*": {"channels_ratio": ratios, "channel_divisor": multiple_of}}
    mode = [("fastnas", {"nn.Conv2d": rules, "nn.BatchNorm2d": {"*": {}}, "nn.Linear": {"*": {}}})]

    def prune(network: nn.Module, share: float) -> nn.Module:
        found, _ = mtp.prune(
            copy.deepcopy(network).eval(),
            mode=mode,
            constraints={"flops": f"{100 * share:.3f}%"},
            dummy_input=batches[0][0][:1],
            config={
                "data_loader": batches,
                "collect_func": lambda batch: batch[0],
                "score_func": score,
                "checkpoint": str(memory),
                "verbose": False,
            },
        )
        return found

    return prune


def slices(network: nn.Module, prunes: Sequence[Prune]) -> dict[str, nn.Module]:
    """All different networks that a tool makes of one, by their channels: fewer channels need not be faster."""
    found: dict[str, nn.Module] = {}
    for prune in prunes:
        for share in SHARES:
            made = _tried(prune, network, share)
            if made is not None:
                found.setdefault(channels(made), made)
    return found


def channels(network: nn.Module) -> str:
    """The output channels of each convolution, as text."""
    return " ".join(str(m.out_channels) for m in network.modules() if hasattr(m, "out_channels"))


def _tried(prune: Prune, network: nn.Module, share: float) -> nn.Module | None:
    """What a tool makes; None where it says that no network is that small."""
    try:
        return prune(network, share)
    except ValueError as e:
        if "constraints can be satisfied" not in str(e):
            raise
        return None


def first_batches(stream: Iterable[tuple[Tensor, Tensor]], n: int) -> Batches:
    """The first of a stream."""
    found: Batches = []
    for batch in stream:
        found.append(batch)
        if len(found) == n:
            break
    return found

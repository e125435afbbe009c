"""Checkpoints of Once-for-All's MobileNetV3 as supernets: which space they are of, and their weights by its names.

Their layout is that of OFAMobileNetV3 (Cai et al., 2020; https://github.com/mit-han-lab/once-for-all). Shared weights
are leading slices and kernel transforms there as here; what is added is a bias of the hidden layer of the head, which
is 0. Running statistics of the largest network are left out: they belong to one network, and are computed when it is
taken out. Knows names and shapes; neither files nor runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hwnas.errors import ModelError, SpaceError
from hwnas.foreign import shown
from hwnas.spaces.mobilenet import MobileNetSpace
from hwnas.spaces.network import CHANNEL_DIVISOR
from hwnas.spaces.once_for_all import once_for_all_space

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED = ("ofa_mbv3_d234_e346_k357_w1.0", "ofa_mbv3_d234_e346_k357_w1.2")
# what names of one version have and another's have not, which loads both
_SHORTER = (
    (".mobile_inverted_conv.", ".conv."),
    (".bn.bn.", ".bn."),
    (".conv.conv.weight", ".conv.weight"),
    (".linear.linear.", ".linear."),
)
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_COLOURS = 3  # channels of the images
_BLOCKS = (1, 4, 4, 4, 4, 4)  # of each stage, at most
# part of a slot here -> module there
_OF_A_BLOCK = {
    "weights.expand.conv": "inverted_bottleneck.conv",
    "weights.expand.bn": "inverted_bottleneck.bn",
    "weights.depthwise.conv": "depth_conv.conv",
    "weights.depthwise.bn": "depth_conv.bn",
    "weights.se.reduce": "depth_conv.se.fc.reduce",
    "weights.se.expand": "depth_conv.se.fc.expand",
    "weights.project.conv": "point_linear.conv",
    "weights.project.bn": "point_linear.bn",
}
_TRANSFORMS = {"transforms.5": "depth_conv.conv.7to5_matrix", "transforms.3": "depth_conv.conv.5to3_matrix"}
_AT_ENDS = {
    "stem.weights.conv.conv": "first_conv.conv",
    "stem.weights.conv.bn": "first_conv.bn",
    "head.weights.conv.conv": "final_expand_layer.conv",
    "head.weights.conv.bn": "final_expand_layer.bn",
    "head.weights.mix": "feature_mix_layer.conv",
    "head.weights.classifier": "classifier.linear",
}
_ADDED = "head.weights.mix.bias"  # theirs has none
_MOST_SHOWN = 4


def take_learned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned tensors of a checkpoint, by the shorter of the names that its versions have."""
    return {_shorter(name): tensor for name, tensor in tensors.items() if not name.endswith(_STATISTICS)}


def space_of(tensors: Mapping[str, Tensor]) -> MobileNetSpace:
    """The space of a checkpoint, by its widths.

    Args:
        tensors: as `take_learned` gives them.

    Raises:
        ModelError: they are of another network.
    """
    firsts = [sum(_BLOCKS[:stage]) for stage in range(len(_BLOCKS))]
    layers = [
        "first_conv.conv",
        *(f"blocks.{first}.conv.point_linear.conv" for first in firsts),
        *("final_expand_layer.conv", "feature_mix_layer.conv", "classifier.linear"),
    ]
    names = [f"{layer}.weight" for layer in layers]
    if absent := [name for name in names if name not in tensors or tensors[name].dim() < 2]:
        parts = sorted({name.partition(".")[0] for name in tensors})
        raise ModelError(
            f"it is no OFAMobileNetV3: it has no {absent[0]}, but {len(tensors):,} tensors of "
            f"{shown(', '.join(parts[: 2 * _MOST_SHOWN]))}. Files that can be imported: {', '.join(PUBLISHED)}, and "
            "others of the same networks"
        )
    *widths, n_classes = (len(tensors[name]) for name in names)
    if odd := [n for n in widths if n % CHANNEL_DIVISOR]:
        raise ModelError(f"it has layers of {odd[0]} channels, and multiples of {CHANNEL_DIVISOR} are wanted")
    if (channels := tensors[names[0]].shape[1]) != _COLOURS:
        raise ModelError(f"it takes images of {channels} channels, and {_COLOURS} are wanted")
    try:
        return once_for_all_space(widths, in_channels=_COLOURS, n_classes=n_classes)
    except SpaceError as e:
        raise ModelError(f"its channels {', '.join(map(str, widths))} make no space ({e})") from e


def weights_of(tensors: Mapping[str, Tensor], space: MobileNetSpace) -> dict[str, Tensor]:
    """Name of a parameter of the space's supernet -> its values, single precision.

    Args:
        tensors: as `take_learned` gives them.
        space: as `space_of` gives it.

    Raises:
        ModelError: one is missing, too much, of another shape, or holds what are no numbers.
    """
    import torch

    from hwnas.supernet.elastic import Supernet

    with torch.device("meta"):  # names and shapes alone
        wanted = {name: p.shape for name, p in Supernet(space).named_parameters()}
    theirs = {name: _name_there(_plain(name)) for name in wanted if _plain(name) != _ADDED}
    missing = [there for there in theirs.values() if there not in tensors]
    unexpected = sorted(tensors.keys() - {*theirs.values()})
    for what, names in (("lacks", missing), ("has, beyond those of the network,", unexpected)):
        if names:
            more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
            raise ModelError(
                f"it {what} {shown(', '.join(names[:_MOST_SHOWN]))}{more}. Networks that can be imported have kernels "
                f"of 3, 5 and 7, expand ratios of 3, 4 and 6, and 2 to 4 blocks a stage: {', '.join(PUBLISHED)}"
            )
    found = {name: torch.zeros(shape) for name, shape in wanted.items() if name not in theirs}
    for name, there in theirs.items():
        given, shape = tensors[there], wanted[name]
        as_given = (*shape, 1, 1) if _plain(name) == "head.weights.mix.weight" else tuple(shape)  # a 1x1 convolution
        if tuple(given.shape) != as_given:
            raise ModelError(f"{there} has the shape {_by(given.shape)}, and {_by(as_given)} is wanted")
        if not given.is_floating_point() or not bool(given.isfinite().all()):
            raise ModelError(f"{there} holds what are no numbers; get a sound copy of the file")
        found[name] = given.detach().float().reshape(shape).contiguous()
    return found


def _shorter(name: str) -> str:
    for longer, shorter in _SHORTER:
        name = name.replace(longer, shorter)
    return name


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "of one number"


def _plain(name: str) -> str:
    """Name of a parameter of a supernet, from its slot on, with dots alone."""
    return name.removeprefix("slots.").replace("/", ".")


def _name_there(name: str) -> str:
    """What a parameter is called in a checkpoint; `name` as `_plain` gives it."""
    part, _, tail = name.rpartition(".")
    if part in _AT_ENDS:
        return f"{_AT_ENDS[part]}.{tail}"
    _, stage, _, block, *rest = name.split(".")
    index = sum(_BLOCKS[: int(stage)]) + int(block)
    inside = ".".join(rest)
    there = _TRANSFORMS.get(inside) or f"{_OF_A_BLOCK['.'.join(rest[:-1])]}.{tail}"
    return f"blocks.{index}.conv.{there}"

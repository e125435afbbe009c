"""Checkpoints in the layout of OFAMobileNetV3, of random numbers, and what their networks compute by tensors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.types import Option

NARROW = (8, 8, 16, 24, 32, 40, 48, 64, 80)  # of the stem, six stages, and the head's two layers
FULL = (16, 16, 24, 40, 80, 112, 160, 960, 1280)
WIDE = (24, 24, 32, 48, 96, 136, 192, 1152, 1536)
_STRIDES = (2, 2, 2, 1, 2)  # of the elastic stages
_HARD = (False, False, True, True, True)  # whether a stage has hard-swish, and ReLU otherwise
_GATED = (False, True, False, True, True)  # whether a stage has squeeze-and-excitation
_DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A network: kernel size and expand ratio of every block there may be, depth of every stage."""

    kernels: Sequence[int]
    ratios: Sequence[int]
    depths: Sequence[int]


def setting_of(architecture: Mapping[str, Option]) -> Setting:
    """That of a decoded encoding; of blocks that are switched off anything."""
    blocks = [f"stages.{stage}.blocks.{block}" for stage in range(1, 6) for block in range(_DEPTH)]
    return Setting(
        kernels=[int(architecture.get(f"{block}.kernel_size", 3)) for block in blocks],
        ratios=[int(architecture.get(f"{block}.expand_ratio", 3)) for block in blocks],
        depths=[int(architecture[f"stages.{stage}.depth"]) for stage in range(1, 6)],
    )


def rounded(channels: float) -> int:
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


class _Maker:
    """Collects tensors under the names of a published file."""

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)

    def conv(self, name: str, *shape: int) -> None:
        self.tensors[f"{name}.weight"] = self.noise(*shape) * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5

    def norm(self, name: str, channels: int) -> None:
        self.tensors[f"{name}.weight"] = 1 + 0.2 * self.noise(channels)
        self.tensors[f"{name}.bias"] = 0.3 * self.noise(channels)
        self.tensors[f"{name}.running_mean"] = 100 * self.noise(channels)  # of another network: nobody may use them
        self.tensors[f"{name}.running_var"] = self.noise(channels) ** 2
        self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def elastic(self, name: str, before: int, after: int, *, gated: bool) -> None:
        inside = rounded(6 * before)
        self.conv(f"{name}.inverted_bottleneck.conv.conv", inside, before, 1, 1)
        self.norm(f"{name}.inverted_bottleneck.bn.bn", inside)
        self.conv(f"{name}.depth_conv.conv.conv", inside, 1, 7, 7)
        for step, n in (("7to5", 25), ("5to3", 9)):
            self.tensors[f"{name}.depth_conv.conv.{step}_matrix"] = torch.eye(n) + 0.1 * self.noise(n, n)
        self.norm(f"{name}.depth_conv.bn.bn", inside)
        if gated:
            squeezed = rounded(inside // 4)
            for layer, shape in (("reduce", (squeezed, inside, 1, 1)), ("expand", (inside, squeezed, 1, 1))):
                self.conv(f"{name}.depth_conv.se.fc.{layer}", *shape)
                self.tensors[f"{name}.depth_conv.se.fc.{layer}.bias"] = self.noise(shape[0])
        self.conv(f"{name}.point_linear.conv.conv", after, inside, 1, 1)
        self.norm(f"{name}.point_linear.bn.bn", after)


def checkpoint(widths: Sequence[int] = NARROW, *, n_classes: int = 10, seed: int = 0) -> dict[str, Tensor]:
    """Of names and shapes as published, of random numbers."""
    m = _Maker(seed)
    stem, first, *stages, hidden, features = widths
    m.conv("first_conv.conv", stem, 3, 3, 3)
    m.norm("first_conv.bn", stem)
    fixed = "blocks.0.mobile_inverted_conv"
    m.conv(f"{fixed}.depth_conv.conv", stem, 1, 3, 3)
    m.norm(f"{fixed}.depth_conv.bn", stem)
    m.conv(f"{fixed}.point_linear.conv", first, stem, 1, 1)
    m.norm(f"{fixed}.point_linear.bn", first)
    before, index = first, 1
    for after, gated in zip(stages, _GATED, strict=True):
        for _ in range(_DEPTH):
            m.elastic(f"blocks.{index}.mobile_inverted_conv", before, after, gated=gated)
            before, index = after, index + 1
    m.conv("final_expand_layer.conv", hidden, before, 1, 1)
    m.norm("final_expand_layer.bn", hidden)
    m.conv("feature_mix_layer.conv", features, hidden, 1, 1)
    m.tensors["classifier.linear.weight"] = m.noise(n_classes, features) / features**0.5
    m.tensors["classifier.linear.bias"] = m.noise(n_classes)
    return m.tensors


def save(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """As published: in a dictionary, under a name without an ending."""
    torch.save({"state_dict": dict(tensors)}, path)
    return path


def logits(tensors: Mapping[str, Tensor], x: Tensor, setting: Setting) -> Tensor:
    """(N, 3, H, W) -> (N, classes) of a network, normalised by the batch.

    Args:
        tensors: as `checkpoint` names them.
        x: images.
        setting: which network.
    """
    x = _hard_swish(_norm(tensors, "first_conv.bn", F.conv2d(x, tensors["first_conv.conv.weight"], None, 2, 1)))
    fixed = "blocks.0.mobile_inverted_conv"
    y = F.conv2d(x, tensors[f"{fixed}.depth_conv.conv.weight"], None, 1, 1, 1, x.shape[1])
    y = F.relu(_norm(tensors, f"{fixed}.depth_conv.bn", y))
    y = _norm(tensors, f"{fixed}.point_linear.bn", F.conv2d(y, tensors[f"{fixed}.point_linear.conv.weight"]))
    x = x + y if x.shape == y.shape else y
    for stage, depth in enumerate(setting.depths):
        for block in range(depth):
            index = stage * _DEPTH + block
            name = f"blocks.{index + 1}.mobile_inverted_conv."
            y = _elastic(
                {k.removeprefix(name): t for k, t in tensors.items() if k.startswith(name)},
                x,
                kernel=setting.kernels[index],
                ratio=setting.ratios[index],
                stride=_STRIDES[stage] if block == 0 else 1,
                hard=_HARD[stage],
            )
            x = x + y if x.shape == y.shape else y
    x = _hard_swish(_norm(tensors, "final_expand_layer.bn", F.conv2d(x, tensors["final_expand_layer.conv.weight"])))
    x = x.mean((2, 3), keepdim=True)
    x = _hard_swish(F.conv2d(x, tensors["feature_mix_layer.conv.weight"])).flatten(1)
    return F.linear(x, tensors["classifier.linear.weight"], tensors["classifier.linear.bias"])


def _elastic(t: Mapping[str, Tensor], x: Tensor, *, kernel: int, ratio: int, stride: int, hard: bool) -> Tensor:
    act = _hard_swish if hard else F.relu
    inside = rounded(x.shape[1] * ratio)
    y = F.conv2d(x, t["inverted_bottleneck.conv.conv.weight"][:inside, : x.shape[1]])
    y = act(_norm(t, "inverted_bottleneck.bn.bn", y))
    weight = t["depth_conv.conv.conv.weight"][:inside]
    for smaller, matrix in ((5, "7to5"), (3, "5to3")):
        if kernel <= smaller:
            centre = weight[:, :, 1:-1, 1:-1].reshape(inside, smaller**2)
            weight = F.linear(centre, t[f"depth_conv.conv.{matrix}_matrix"]).reshape(inside, 1, smaller, smaller)
    y = F.conv2d(y, weight, None, stride, kernel // 2, 1, inside)
    y = act(_norm(t, "depth_conv.bn.bn", y))
    if "depth_conv.se.fc.reduce.weight" in t:
        squeezed, se = rounded(inside // 4), "depth_conv.se.fc"
        gate = y.mean((2, 3), keepdim=True)
        gate = F.conv2d(gate, t[f"{se}.reduce.weight"][:squeezed, :inside], t[f"{se}.reduce.bias"][:squeezed])
        gate = F.relu(gate)
        gate = F.conv2d(gate, t[f"{se}.expand.weight"][:inside, :squeezed], t[f"{se}.expand.bias"][:inside])
        y = y * (F.relu6(gate + 3) / 6)
    y = F.conv2d(y, t["point_linear.conv.conv.weight"][:, :inside])
    return _norm(t, "point_linear.bn.bn", y)


def _norm(t: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    n = x.shape[1]
    return F.batch_norm(x, None, None, t[f"{name}.weight"][:n], t[f"{name}.bias"][:n], training=True, eps=1e-5)


def _hard_swish(x: Tensor) -> Tensor:
    return x * F.relu6(x + 3) / 6

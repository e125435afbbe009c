"""Operators in torch: the module or the function that computes each, one rule an operator.

An operator that keeps weights, or that people look for by its name (activations, pools), is a module of `torch.nn`;
everything else is a call of a function. Where several operators share weights, those too are calls: `FUNCTIONS` has
both. Every tensor has the batch axis in front, one that follows from weights alone with size 1, so the axes that
graphs count from the sample are one further here. This module knows operators, not graphs, blocks or spaces.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.graph.operators import Call

Weights = Mapping[str, Tensor]  # role -> tensor
Results = Tensor | Sequence[Tensor]

# ---------------------------------------------------------------- modules

_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
# by the number of spatial axes; the first takes (N, features) and (N, C, L) alike
_BATCH_NORMS: dict[int, Callable[..., nn.Module]] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def _convolution(call: Call) -> nn.Module:
    out_channels, _, *kernel_size = call.weights["weight"]
    return _CONVOLUTIONS[len(kernel_size)](
        call.x[0],
        out_channels,
        tuple(kernel_size),
        call["stride"],
        call["padding"],
        call["dilation"],
        call["groups"],
        bias="bias" in call.weights,
    )


def _linear(call: Call) -> nn.Module:
    out_features, in_features = call.weights["weight"]
    return nn.Linear(in_features, out_features, bias="bias" in call.weights)


def _batch_norm(call: Call) -> nn.Module:
    return _BATCH_NORMS[len(call.x) - 1](
        call.x[0],
        call["eps"],
        call["momentum"],
        affine="weight" in call.weights,
        track_running_stats="running_mean" in call.weights,
    )


def _layer_norm(call: Call) -> nn.Module:
    return nn.LayerNorm(
        call["normalized_shape"], call["eps"], elementwise_affine="weight" in call.weights, bias="bias" in call.weights
    )


def _group_norm(call: Call) -> nn.Module:
    return nn.GroupNorm(call["groups"], call.x[0], call["eps"], affine="weight" in call.weights)


def _prelu(call: Call) -> nn.Module:
    return nn.PReLU(call.weights["weight"][0])


def _transposed_convolution(call: Call) -> nn.Module:
    _, per_group, *kernel_size = call.weights["weight"]
    return nn.ConvTranspose2d(
        call.x[0],
        per_group * call["groups"],
        (kernel_size[0], kernel_size[1]),
        call["stride"],
        call["padding"],
        call["output_padding"],
        call["groups"],
        bias="bias" in call.weights,
        dilation=call["dilation"],
    )


class WholeDropout(nn.Module):
    """Dropout of channels or of whole samples at once (stochastic depth, Huang et al., 2016).

    Args:
        p: share that is dropped while training; what is left is divided by 1 - p.
        axes: leading ones, batch axis included, that are drawn one by one.
    """

    def __init__(self, p: float, *, axes: int) -> None:
        super().__init__()
        self.p, self.axes = p, axes

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = x.new_ones((*x.shape[: self.axes], *(1,) * (x.dim() - self.axes)))  # (N, 1, ...) or (N, C, 1, ...)
        return x * F.dropout(kept, self.p, training=True)


def _dropout(call: Call) -> nn.Module:
    axes = {"sample": 1, "channel": 2}.get(call["whole"])
    return nn.Dropout(call["p"]) if axes is None else WholeDropout(call["p"], axes=axes)


def _max_pool(call: Call) -> nn.Module:
    return nn.MaxPool2d(
        call["kernel_size"], call["stride"] or None, call["padding"], call["dilation"], ceil_mode=call["ceil_mode"]
    )


def _avg_pool(call: Call) -> nn.Module:
    return nn.AvgPool2d(
        call["kernel_size"],
        call["stride"] or None,
        call["padding"],
        ceil_mode=call["ceil_mode"],
        count_include_pad=call["count_include_pad"],
    )


class UnequalPool(nn.AdaptiveAvgPool2d):
    """Means over windows of which some have other sizes than others, or positions in common.

    ONNX has no operator for them: in its files they are products with a matrix of shares along each axis.

    Args:
        size: of the images, height and width.
        output_size: windows along each axis.
    """

    def __init__(self, size: Sequence[int], output_size: Sequence[int]) -> None:
        super().__init__(tuple(output_size))
        self._shares = [_shares(n, windows) for n, windows in zip(size, output_size, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        if not torch.onnx.is_in_onnx_export():
            return super().forward(x)
        rows, columns = (shares.to(x.device) for shares in self._shares)
        return torch.matmul(torch.matmul(rows, x), columns.T)  # (N, C, H, W) -> (N, C, H', W) -> (N, C, H', W')


def _shares(n: int, windows: int) -> Tensor:
    """(windows, n) of each position in each mean, as torch lays its windows."""
    found = torch.zeros(windows, n, device="cpu")  # (where modules without storage are made, it has one)
    for i in range(windows):
        start, stop = i * n // windows, -(-(i + 1) * n // windows)
        found[i, start:stop] = 1 / (stop - start)
    return found


def _adaptive_avg_pool(call: Call) -> nn.Module:
    size, windows = call.x[-2:], call["output_size"]
    if all(n % k == 0 for n, k in zip(size, windows, strict=True)):
        return nn.AdaptiveAvgPool2d(windows)
    return UnequalPool(size, windows)


class ConstantTensor(nn.Module):
    """The same tensor whatever comes in; it goes where the module goes, and is not stored with it.

    Args:
        numbers: without a batch axis.
    """

    numbers: Tensor

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers, persistent=False)

    def forward(self) -> Tensor:
        return self.numbers[None]  # (...) -> (1, ...), as every tensor has a batch axis


def _constant(call: Call) -> nn.Module:
    numbers = np.frombuffer(base64.b64decode(call["numbers"]), np.dtype(call["dtype"]).newbyteorder("<"))
    native = numbers.astype(call["dtype"]).reshape(call["shape"])  # a copy, which may be written to
    return ConstantTensor(torch.from_numpy(native))


MODULES: Mapping[str, Callable[[Call], nn.Module]] = {
    "conv2d": _convolution,
    "conv1d": _convolution,
    "conv_transpose2d": _transposed_convolution,
    "embedding": lambda call: nn.Embedding(call.weights["weight"][0], call.weights["weight"][1]),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "prelu": _prelu,
    "relu": lambda call: nn.ReLU(),
    "relu6": lambda call: nn.ReLU6(),
    "hardswish": lambda call: nn.Hardswish(),
    "hardsigmoid": lambda call: nn.Hardsigmoid(),
    "silu": lambda call: nn.SiLU(),
    "sigmoid": lambda call: nn.Sigmoid(),
    "tanh": lambda call: nn.Tanh(),
    "identity": lambda call: nn.Identity(),
    "mish": lambda call: nn.Mish(),
    "gelu": lambda call: nn.GELU(call["approximate"]),
    "leaky_relu": lambda call: nn.LeakyReLU(call["negative_slope"]),
    "elu": lambda call: nn.ELU(call["alpha"]),
    "softmax": lambda call: nn.Softmax(call["axis"] + 1),
    "constant": _constant,
    "dropout": _dropout,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "adaptive_max_pool2d": lambda call: nn.AdaptiveMaxPool2d(call["output_size"]),
}

# ---------------------------------------------------------------- functions


def _shared_convolution(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    convolve = F.conv1d if len(call["stride"]) == 1 else F.conv2d
    return convolve(x[0], w["weight"], w.get("bias"), call["stride"], call["padding"], call["dilation"], call["groups"])


def _shared_transposed_convolution(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    spread = (call["stride"], call["padding"], call["output_padding"], call["groups"], call["dilation"])
    return F.conv_transpose2d(x[0], w["weight"], w.get("bias"), *spread)


def _shared_batch_norm(call: Call, x: Sequence[Tensor], w: Weights, *, training: bool = False) -> Tensor:
    mean, variance = w.get("running_mean"), w.get("running_var")
    by_batch = training or mean is None
    return F.batch_norm(x[0], mean, variance, w.get("weight"), w.get("bias"), by_batch, call["momentum"], call["eps"])


def _clamp(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    low, high = call["min"], call["max"]
    return torch.clamp(x[0], None if low == -math.inf else low, None if high == math.inf else high)


def _affine(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    y = x[0]
    # a step that changes nothing would be an operator in exported files
    if call["scale"] != 1.0:
        y = y * call["scale"]
    return y + call["shift"] if call["shift"] != 0.0 else y


def _attention(call: Call, x: Sequence[Tensor], w: Weights, *, training: bool = False) -> Tensor:
    query, key, value, *mask = x
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        mask[0] if mask else None,
        call["p"] if training else 0.0,
        is_causal=call["causal"],
        scale=call["scale"] or None,
    )


def _axes(call: Call) -> tuple[int, ...]:
    return tuple(axis + 1 for axis in call["axes"])


def _slice(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    leading = (slice(None),) * (call["axis"] + 1)
    return x[0][(*leading, slice(call["start"], call["stop"], call["step"]))]


def _reshape(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    """(N, ...) -> (N, *shape); a row of numbers by `flatten`, which exported files say by an operator of its own."""
    shape = call["shape"]
    return torch.flatten(x[0], 1) if len(shape) == 1 else x[0].reshape(-1, *shape)


def _permute(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    return x[0].permute(0, *(axis + 1 for axis in call["order"]))


def _expand(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    """Sizes of 1 repeated; axes that are missing are put in front of the sample."""
    missing = len(call["shape"]) - len(call.x)
    y = x[0].reshape(-1, *(1,) * missing, *call.x) if missing else x[0]
    return y.expand(-1, *call["shape"])


def _pad(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    """From the last axis backwards, as torch counts, and no more axes than are padded: it wants that of reflections."""
    pairs = [tuple(call["amounts"][i : i + 2]) for i in range(0, len(call["amounts"]), 2)]
    while pairs and pairs[0] == (0, 0):
        pairs.pop(0)
    amounts = [n for pair in reversed(pairs) for n in pair]
    return F.pad(x[0], amounts, call["mode"], call["value"] if call["mode"] == "constant" else None)


def _resize(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    corners = call["align_corners"] if call["mode"] in ("linear", "bilinear", "bicubic", "trilinear") else None
    return F.interpolate(x[0], tuple(call["size"]), mode=call["mode"], align_corners=corners)


def _take(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    """By numbers that are the same for every sample."""
    values, rows = x
    axis = call["axis"] + 1
    taken = values.index_select(axis, rows.flatten())  # which takes numbers of one axis only
    return taken.reshape(*values.shape[:axis], *rows.shape[1:], *values.shape[axis + 1 :])


def _nothing(call: Call, x: Sequence[Tensor], w: Weights) -> Tensor:
    """Where the precision changes: torch's own numbers stay as they are until the network is quantized."""
    return x[0]


FUNCTIONS: Mapping[str, Callable[..., Results]] = {
    "conv2d": _shared_convolution,
    "conv1d": _shared_convolution,
    "conv_transpose2d": _shared_transposed_convolution,
    "embedding": lambda call, x, w: F.embedding(x[0], w["weight"]),
    "linear": lambda call, x, w: F.linear(x[0], w["weight"], w.get("bias")),
    "batch_norm": _shared_batch_norm,
    "layer_norm": lambda call, x, w: F.layer_norm(
        x[0], call["normalized_shape"], w.get("weight"), w.get("bias"), call["eps"]
    ),
    "group_norm": lambda call, x, w: F.group_norm(x[0], call["groups"], w.get("weight"), w.get("bias"), call["eps"]),
    "prelu": lambda call, x, w: F.prelu(x[0], w["weight"]),
    "matmul": lambda call, x, w: torch.matmul(x[0], x[1]),
    "attention": _attention,
    "clamp": _clamp,
    "power": lambda call, x, w: torch.pow(x[0], call["exponent"]),
    "sqrt": lambda call, x, w: torch.sqrt(x[0]),
    "exp": lambda call, x, w: torch.exp(x[0]),
    "affine": _affine,
    "add": lambda call, x, w: x[0] + x[1],
    "sub": lambda call, x, w: x[0] - x[1],
    "mul": lambda call, x, w: x[0] * x[1],
    "div": lambda call, x, w: x[0] / x[1],
    "mean": lambda call, x, w: torch.mean(x[0], _axes(call), keepdim=call["keepdim"]),
    "sum": lambda call, x, w: torch.sum(x[0], _axes(call), keepdim=call["keepdim"]),
    "max": lambda call, x, w: torch.amax(x[0], _axes(call), keepdim=call["keepdim"]),
    "concat": lambda call, x, w: torch.cat(list(x), call["axis"] + 1),
    "join_outputs": lambda call, x, w: torch.cat([y.flatten(1) for y in x], 1),
    "split": lambda call, x, w: torch.split(x[0], list(call["sizes"]), call["axis"] + 1),
    "unbind": lambda call, x, w: torch.unbind(x[0], call["axis"] + 1),
    "select": lambda call, x, w: torch.select(x[0], call["axis"] + 1, call["index"]),
    "slice": _slice,
    "take": _take,
    "reshape": _reshape,
    "permute": _permute,
    "expand": _expand,
    "pad": _pad,
    "resize": _resize,
    "weight": lambda call, x, w: w["weight"][None],  # (...) -> (1, ...), as every tensor has a batch axis
    "quantize": _nothing,
    "dequantize": _nothing,
}
# of FUNCTIONS: those that compute otherwise while training (`training=`)
TAKES_MODE = frozenset({"batch_norm", "attention"})
TAKES_BATCH = frozenset({"concat", "expand"})  # those in which a tensor of the weights is repeated for each sample
GIVE_SEVERAL = frozenset({"split", "unbind"})  # a sequence of tensors, be it of one

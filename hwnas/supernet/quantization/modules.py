"""Fake-quantized layers: they compute in float32 exactly what the integer operators will compute.

Each layer has two states. While it is calibrated it computes in full precision and watches its
outputs; afterwards its scales and zero points are fixed and the tensors it gives are quantized and dequantized as its
scheme says (schemes.py; to uint8 unless a line says otherwise). Gradients pass the rounding straight through
(Bengio et al., 2013) and stop where a value was clipped, so all layers train. This module knows
tensors, not blocks, files or runtimes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import DataError, SpaceError
from hwnas.onnx_names import DEQUANTIZE, QUANTIZE
from hwnas.precision_data import INTEGERS, KNOWN, NumberFormat
from hwnas.supernet.quantization.schemes import ASYMMETRIC, Scheme

_QUANT_RANGE = 255  # quant_max - quant_min: uint8 has 0 ... 255, int8 -128 ... 127
_BIAS_LIMIT = 2.0**30  # of an int32, with room for the accumulator
_SMALLEST_SCALE = 1e-8
_UINT8, _INT8, _INT32 = 2, 3, 6  # ONNX TensorProto.DataType


class _FakeQuantize(torch.autograd.Function):
    """Quantizes to 8 bits and dequantizes exactly as ONNX QuantizeLinear does: by division, ties to even.

    `torch.fake_quantize_per_tensor_affine` multiplies by 1 / scale instead, which sends ties (common
    where pixels come in) to other integers, and takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int) -> Tensor:
        lowest = quant_min - int(zero_point)
        rounded = torch.div(x, scale).round_()  # quantized values before the zero point is added
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((rounded >= lowest) & (rounded <= lowest + _QUANT_RANGE))
        return rounded.clamp_(lowest, lowest + _QUANT_RANGE).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero_point: Any, quant_min: int) -> Any:  # what torch.onnx.export writes
        zero = g.op("Cast", zero_point, to_i=_INT8 if quant_min < 0 else _UINT8)
        return g.op(DEQUANTIZE, g.op(QUANTIZE, x, scale, zero), scale, zero)


class _RoundBias(torch.autograd.Function):
    """Quantizes a bias with the scale of the int32 accumulator and dequantizes it; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, scale: Tensor) -> Tensor:
        return torch.round(bias / scale) * scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None

    @staticmethod
    def symbolic(g: Any, bias: Any, scale: Any) -> Any:
        quantized = g.op("Cast", g.op("Round", g.op("Div", bias, scale)), to_i=_INT32)
        return g.op("DequantizeLinear", quantized, scale, axis_i=0)


class _IntegerHardswish(torch.autograd.Function):
    """Hard-swish of a tensor that `HardswishQuantizer` rounded, written with uint8 operators.

    With scale = 3 / n and zero point n, x + 3 has the quantized values of x with zero point 0, and
    clip(x + 3, 0, 6) is a uint8 Clip at 2 n. No runtime has to leave the integers for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        return F.hardswish(x)

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Any, zero_point: Any) -> Any:
        n = g.op("Cast", zero_point, to_i=_UINT8)
        quantized = g.op(QUANTIZE, x, scale, n)  # (merged with the quantizer before it)
        two = g.op("Constant", value_t=torch.tensor(2, dtype=torch.int32))
        most = g.op("Constant", value_t=torch.tensor(_QUANT_RANGE, dtype=torch.int32))
        top = g.op("Cast", g.op("Min", g.op("Mul", g.op("Cast", zero_point, to_i=_INT32), two), most), to_i=_UINT8)
        bottom = g.op("Constant", value_t=torch.tensor(0, dtype=torch.uint8))
        sixth = g.op("Div", scale, g.op("Constant", value_t=torch.tensor(6.0)))
        gate = g.op("DequantizeLinear", g.op("Clip", quantized, bottom, top), sixth, bottom)
        return g.op("Mul", g.op("DequantizeLinear", quantized, scale, n), gate)


class Quantizer(nn.Module):
    """Quantizes and dequantizes: `scale * (quantized - zero_point)`, to uint8 with a zero point, or to int8 around 0.

    On uint8 its clipping stands for a ReLU (`lower` 0) or ReLU6 (`upper` 6): they cost nothing. The int8 range of the
    symmetric scheme goes below 0 whatever was seen: there a ReLU is an operator, and only the upper clip is free.
    The range covers all values seen in calibration: ranges shrunk to the least squared error lost 7 dB at the logits
    of networks trained on digits, because clipping errors add up over layers.

    Args:
        lower: values below are clipped, in full precision too.
        upper: values above likewise.

    Attributes:
        scheme: to which integers, and whether the tensor is quantized although no weights meet it.
        needed: weights meet the tensor, or a block passes it on.
        has_range: whether its range is one of its own that depends on the numbers: to be learned or calibrated.
    """

    scale: Tensor
    zero_point: Tensor
    has_range = True

    def __init__(self, *, lower: float = -math.inf, upper: float = math.inf) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))
        self.observing = False
        self.scheme: Scheme = ASYMMETRIC
        self.needed = False
        self._extremes: list[Tensor] = []

    @property
    def rounds(self) -> bool:
        """Whether the tensor is quantized; if not, it is only clipped."""
        return self.needed or self.scheme.everywhere

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            return self._observe(x)
        if self.scheme.symmetric:
            upper_is_free = self.rounds or self.upper == math.inf
            x = F.relu(x) if self.lower == 0.0 and upper_is_free else self._clip(x)
            if not self.rounds:
                return x
        return _FakeQuantize.apply(x, self.scale, self.zero_point, self.scheme.quant_min)  # type: ignore[no-any-return,no-untyped-call]

    def _observe(self, x: Tensor) -> Tensor:
        x = self._clip(x)
        self._extremes.append(torch.stack(torch.aminmax(x)))
        return x

    def _clip(self, x: Tensor) -> Tensor:
        if self.lower > -math.inf or self.upper < math.inf:
            return x.clamp(self.lower, self.upper)
        return x

    def calibrate(self) -> None:
        """Fix scale and zero point from what was seen.

        Raises:
            DataError: nothing was seen, or something that is not finite.
        """
        if not self._extremes:
            raise DataError("a quantizer saw no tensor; give at least one calibration batch")
        seen = torch.stack(self._extremes)  # (batches, 2)
        if not bool(seen.isfinite().all()):
            raise DataError("calibration met activations that are not finite; check the images and the weights")
        self._extremes.clear()
        self.set_range(min(0.0, float(seen[:, 0].min())), max(0.0, float(seen[:, 1].max())))

    def forget(self) -> None:
        """What was seen, which takes memory."""
        self._extremes.clear()

    def set_range(self, low: float, high: float) -> None:
        """Fix scale and zero point so that the range covers `low` <= 0 <= `high`."""
        if low == high:  # nothing but zeros was seen: a dead tensor, which training may revive
            high = 1.0
        if self.scheme.symmetric:
            self.set_qparams(max(max(-low, high) / (_QUANT_RANGE // 2), _SMALLEST_SCALE), 0)
            return
        scale = max((high - low) / _QUANT_RANGE, _SMALLEST_SCALE)
        self.set_qparams(scale, min(_QUANT_RANGE, max(0, round(-low / scale))))

    def set_qparams(self, scale: float, zero_point: int) -> None:
        """Fix scale and zero point as given."""
        self.scale.fill_(scale)
        self.zero_point.fill_(zero_point)

    def extra_repr(self) -> str:
        return f"scale={float(self.scale):.4g}, zero_point={int(self.zero_point)}"


class HardswishQuantizer(Quantizer):
    """Quantizes before a hard-swish: scale 3 / n, zero point n, so that -3 and 0 are quantized without error.

    Below -3 hard-swish is 0, so nothing is lost by clipping there. The largest such range ends at 762:
    far beyond what follows a BatchNorm, but larger values are clipped.
    """

    def __init__(self) -> None:
        super().__init__(lower=-3.0)

    def set_range(self, low: float, high: float) -> None:
        n = self.levels_below_zero(high)
        self.set_qparams(3.0 / n, n)

    @staticmethod
    def levels_below_zero(high: float) -> int:
        """How many steps lead from -3 to 0 where the range covers `high`."""
        # an end that is on a grid already (a learned one) is not to be missed by its last bit
        return min(_QUANT_RANGE - 1, max(1, math.floor(3 * _QUANT_RANGE / (high + 3.0) + 1e-4)))


class UnitQuantizer(Quantizer):
    """Quantizes a gate, known without calibration: [0, 1), as TFLite's int8 LOGISTIC takes it and no other way.

    Around 0, in the symmetric scheme, half of the integers are for what lies above: there it is [0, 1].
    """

    has_range = False

    def __init__(self) -> None:
        super().__init__()
        self.set_qparams(1 / (_QUANT_RANGE + 1), 0)

    def _observe(self, x: Tensor) -> Tensor:
        return x

    def calibrate(self) -> None:
        """Nothing to see, but the scheme may be another since it was made."""
        if self.scheme.symmetric:
            self.set_range(0.0, 1.0)


class QuantizedHardswish(nn.Module):
    """Hard-swish, fake-quantized before (on uint8 only, see `_IntegerHardswish`) and after."""

    def __init__(self) -> None:
        super().__init__()
        self.before = HardswishQuantizer()
        self.after = Quantizer()

    def forward(self, x: Tensor) -> Tensor:
        if not (self.before.rounds or self.before.observing):
            return self.after(F.hardswish(x))  # type: ignore[no-any-return]
        x = self.before(x)
        if torch.onnx.is_in_onnx_export() and not self.before.observing:
            return self.after(_IntegerHardswish.apply(x, self.before.scale, self.before.zero_point))  # type: ignore[no-any-return,no-untyped-call]
        return self.after(F.hardswish(x))  # type: ignore[no-any-return]


class QuantizedSiLU(nn.Module):
    """x * sigmoid(x); on uint8 every tensor is quantized, in the symmetric scheme the result alone."""

    def __init__(self) -> None:
        super().__init__()
        self.before = Quantizer()
        self.gate = UnitQuantizer()
        self.after = Quantizer()

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(x * self.gate(torch.sigmoid(x)))  # type: ignore[no-any-return]


class InputQuantizer(Quantizer):
    """Quantizes a result with the parameters of what it was made from, as integer kernels of average pools do."""

    has_range = False

    def connect(self, source: Quantizer) -> None:
        """Take the input's scale and zero point."""
        self.set_qparams(float(source.scale), int(source.zero_point))

    def _observe(self, x: Tensor) -> Tensor:
        return x

    def calibrate(self) -> None:
        """Nothing to fix before the input's parameters are."""


def output_quantizer(module: nn.Module) -> Quantizer:
    """The quantizer whose scale and zero point a quantized result has."""
    last = module if isinstance(module, Quantizer) else module.after
    assert isinstance(last, Quantizer)
    return last


class QuantizedWeights(nn.Module):
    """What convolution and linear layer share: int8 weights, an int32 or float bias, the input's scale.

    The weights' scales follow the weights, whatever changes them; the activations' scales stay. An int32 bias
    has scale `input_scale * weight_scale`, as integer operators want it.

    Attributes:
        bias_shift: (C,) what makes up for the rounding, and goes into the bias that ships (bias_correction.py).
    """

    axis = 0  # of the weight: its output channels
    weight: nn.Parameter
    bias: nn.Parameter
    bias_shift: Tensor
    input_scale: Tensor
    weight_scale: Tensor
    weight_zero: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        channels = weight.shape[self.axis]
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(weight.new_zeros(channels) if bias is None else bias.detach().clone())
        self.register_buffer("bias_shift", torch.zeros(channels))
        self.register_buffer("input_scale", torch.tensor(1.0))
        self.register_buffer("weight_scale", torch.ones(channels))
        self.register_buffer("weight_zero", torch.zeros(channels, dtype=torch.int32), persistent=False)
        self.observing = False
        self.scheme: Scheme = ASYMMETRIC
        self.format = KNOWN[INTEGERS].weights

    def take_format_(self, format: NumberFormat) -> None:
        """Have weights of as many bits, and as many scales, as a precision says: (C,) by channel, () by tensor.

        Raises:
            SpaceError: integer operators have no weights like these.
        """
        match format.per:
            case "channel":
                shape = torch.Size((self.weight.shape[self.axis],))
            case "tensor":
                shape = torch.Size(())
            case _:
                raise SpaceError(f"weights with a scale by {format.per or 'nothing'} have no integer operator")
        self.format = format
        self.weight_scale = self.weight_scale.new_ones(shape)
        self.weight_zero = self.weight_zero.new_zeros(shape)

    def connect(self, source: Quantizer) -> None:
        """Take the input's scale from the quantizer that makes it, which is needed therefore."""
        source.needed = True
        self.input_scale.copy_(source.scale)
        self.update_weight_scale_()

    @torch.no_grad()
    def update_weight_scale_(self) -> None:
        """Fit the scales to the weights as they are."""
        largest = self.weight.abs().transpose(0, self.axis).flatten(1).amax(1)  # (C,)
        scale = largest / self.format.quant_max
        if self.scheme.everywhere:  # wide enough for the bias to fit an int32, even in a channel without weights
            scale = torch.maximum(scale, (self.bias + self.bias_shift).abs() / (self.input_scale * _BIAS_LIMIT))
        scale.clamp_min_(_SMALLEST_SCALE)
        self.weight_scale.copy_(scale if self.weight_scale.dim() else scale.amax())

    def train(self, mode: bool = True) -> QuantizedWeights:
        self.update_weight_scale_()
        return super().train(mode)

    def fake_quantized_parameters(self) -> tuple[Tensor, Tensor]:
        """Weights and bias, quantized as the integer operator will use them and dequantized to float32."""
        if self.observing:
            return self.weight, self.bias
        if not torch.onnx.is_in_onnx_export():  # (its own mode change has brought the scales up to date)
            self.update_weight_scale_()
        of_weight = (self.weight, self.weight_scale, self.weight_zero)
        if self.weight_scale.dim():
            weight = torch.fake_quantize_per_channel_affine(*of_weight, self.axis, -128, 127)
        else:
            weight = torch.fake_quantize_per_tensor_affine(*of_weight, -128, 127)
        whole = self.bias + self.bias_shift
        if not self.scheme.everywhere:
            return weight, whole
        bias: Tensor = _RoundBias.apply(whole, self.input_scale * self.weight_scale)  # type: ignore[no-untyped-call]
        return weight, bias


class QuantizedConv2d(QuantizedWeights):
    """A convolution with int8 weights. Its result is not quantized yet."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.weight, conv.bias)
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.fake_quantized_parameters()
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class QuantizedConv1d(QuantizedWeights):
    """A convolution along one axis with int8 weights. Its result is not quantized yet."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__(conv.weight, conv.bias)
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.fake_quantized_parameters()
        return F.conv1d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class QuantizedConvTranspose2d(QuantizedWeights):
    """A transposed convolution of one group with int8 weights. Its result is not quantized yet."""

    axis = 1

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__(conv.weight, conv.bias)
        assert isinstance(conv.padding, tuple)  # it has no padding by name
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        self.output_padding = conv.output_padding

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.fake_quantized_parameters()
        spread = (self.stride, self.padding, self.output_padding, 1, self.dilation)
        return F.conv_transpose2d(x, weight, bias, *spread)


class QuantizedLinear(QuantizedWeights):
    """A linear layer with int8 weights. Its result is not quantized yet."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.weight, linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.fake_quantized_parameters()
        return F.linear(x, weight, bias)

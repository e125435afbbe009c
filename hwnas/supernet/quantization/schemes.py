"""The two ways in which integer operators are built, as far as they decide what torch must compute.

Knows quantized values and which tensors are quantized; never a runtime by name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How activations and biases are quantized. Weights are int8, symmetric, in every scheme.

    Attributes:
        quant_min: smallest quantized value of an activation, which has 256 of them: 0 for uint8, -128 for int8.
        symmetric: the zero point is always 0, so a range goes as far below 0 as above.
        everywhere: every tensor is quantized, and a bias with the scale of the int32 accumulator, as processors with
            integer operators for everything want it. Otherwise only the tensors that a convolution or a linear layer
            reads, and those that a block passes on; what comes between, biases too, is float.
    """

    quant_min: int
    symmetric: bool
    everywhere: bool


ASYMMETRIC = Scheme(quant_min=0, symmetric=False, everywhere=True)
SYMMETRIC = Scheme(quant_min=-128, symmetric=True, everywhere=False)

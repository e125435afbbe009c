"""Int8 networks in torch: fold BatchNorm, calibrate, compute as the deployed integers will, train on.

Weights are int8 of 8 or 7 bits, symmetric, one scale for each output channel or one for all of a tensor; activations
are uint8, affine, one scale for each tensor (Jacob et al., 2018, sections 2 and 3). This package knows blocks and
tensors, not file formats, runtimes, devices or search.
"""

from hwnas.supernet.quantization.calibration import QuantizedNetwork, quantize
from hwnas.supernet.quantization.floats import without_rounding
from hwnas.supernet.quantization.folding import fold_batchnorm

__all__ = ["QuantizedNetwork", "fold_batchnorm", "quantize", "without_rounding"]

"""hwnas: hardware-aware deployment of neural networks.

Train one supernet once, then turn any device and budget into a verified, quantized network.
Importing this package loads neither torch nor a runtime.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]

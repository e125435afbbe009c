"""Spaces of a given network: which smaller ones are in it. numpy only, no weights.

`network` is the given network at each of its resolutions, cut into regions; `spec` says what of it is elastic; `space`
makes choices and slots of that; `wishes` finds a spec for a network.
"""

from hwnas.spaces.adapted.network import GivenNetwork
from hwnas.spaces.adapted.space import AdaptedSpace
from hwnas.spaces.adapted.spec import AdaptedSpec, Depth, Kernel, Width

__all__ = ["AdaptedSpace", "AdaptedSpec", "Depth", "GivenNetwork", "Kernel", "Width"]

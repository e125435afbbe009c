"""Search spaces: which networks exist. numpy only, no weights."""

from hwnas.spaces._serialize import space_from_json
from hwnas.spaces.base import Space
from hwnas.spaces.categorical import CategoricalSpace
from hwnas.spaces.mobilenet import MobileNetSpace, MobileNetSpec
from hwnas.spaces.network import NetworkSpec
from hwnas.spaces.staged import StagedSpace
from hwnas.spaces.stages import StageSpec

__all__ = [
    "CategoricalSpace",
    "MobileNetSpace",
    "MobileNetSpec",
    "NetworkSpec",
    "Space",
    "StageSpec",
    "StagedSpace",
    "space_from_json",
]

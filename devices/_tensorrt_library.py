"""Which TensorRT this machine has: the full one, or TensorRT-RTX under one of its two names.

Knows the names of packages and nothing of networks or GPUs. The bindings have no types, so what they give is `Any`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwnas.errors import MeasurementError, MissingPackageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A TensorRT that can be imported.

    Attributes:
        module: the Python bindings.
        name: `TensorRT` or `TensorRT-RTX`.
        version: as the bindings tell it.
        cross_builds: builds engines for a GPU that is not there.
    """

    module: Any
    name: str
    version: str
    cross_builds: bool


def find_library() -> Library:
    """The TensorRT of this machine; the full one comes first.

    Raises:
        MissingPackageError: there is none.
        MeasurementError: it is too old to take precisions from the network alone.
    """
    module, name = _import()
    if not hasattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise MeasurementError(
            f"{name} {module.__version__} chooses precisions itself; needed is one that takes them from the network: "
            "TensorRT 10 or newer (JetPack 6.1 or newer), or TensorRT-RTX"
        )
    cross_builds = hasattr(module, "ComputeCapability")
    return Library(module=module, name=name, version=str(module.__version__), cross_builds=cross_builds)


def _import() -> tuple[Any, str]:
    try:
        import tensorrt
    except ImportError:  # absent, or its libraries are: in both cases the other one may work
        pass
    else:
        return tensorrt, "TensorRT"
    try:
        import tensorrt_rtx
    except ImportError:
        pass
    else:
        return tensorrt_rtx, "TensorRT-RTX"
    try:
        import tensorrt_rtx_bindings  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as e:
        raise MissingPackageError(e.name or "tensorrt_rtx", "tensorrt", needed_for="runtime 'tensorrt'") from e
    return tensorrt_rtx_bindings, "TensorRT-RTX"

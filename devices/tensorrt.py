"""TensorRT: builds engines from ONNX files, loads, runs and times them on a GPU, or checks them where there is none.

Both TensorRT and TensorRT-RTX do. What an engine of a GPU that is not there consists of is known after building it
(option `target`): which kernels there are and on which types they compute; not how long they take.

Building has been tried with TensorRT-RTX on machines without a GPU. Nothing here that executes an engine has run on
a GPU yet: it is tried on a made-up driver and a made-up TensorRT (`tests/devices/made_up_tensorrt.py`).

Knows engines and GPUs; never torch, what a model is for, or where times are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, NoReturn

from hwnas.errors import ConfigError, MeasurementError
from hwnas.foreign import as_written
from hwnas.measure.artefacts import check_artefact
from hwnas.precisions import EXACT, is_quantized
from hwnas.types import Array, Artefact, Device, Option, PrecisionRule, Session

from ._tensorrt_cuda import Cuda, NoGpuError
from ._tensorrt_engine import FLOAT_TYPES, BuildSettings, Engine, build_engine
from ._tensorrt_layers import summary
from ._tensorrt_library import Library, find_library
from ._tensorrt_session import TensorRtSession
from .host import host_context

_TARGET = re.compile(r"sm_[0-9]{2,3}[a-z]?")
_LARGEST = (1 << 31) - 1
# option -> its default, whose type is the option's type
_OPTIONS: dict[str, Option] = {
    "target": "",
    "gpu": 0,
    "float_type": "fp32",
    "workspace_mib": 1024,
    "optimization_level": 3,
    "cuda_graph": True,
}


_WEIGHTED = frozenset({"conv2d", "linear"})  # found for certain; what is between them only where TensorRT fuses it
_INT8 = PrecisionRule(operators=_WEIGHTED, how="8-bit products, added up in 32 bits")
PRECISIONS: Mapping[str, PrecisionRule] = {
    **{name: PrecisionRule(how=f'with the description\'s option float_type = "{name}"') for name in FLOAT_TYPES},
    "int8": _INT8,
}


class TensorRtRuntime:
    """The adapter.

    `device.options`: `target`, a compute capability such as `sm_86` whose engines are built and checked without the
    GPU, and cannot be run; `gpu`, the GPU's number; `float_type`, what float layers compute in; `workspace_mib`,
    device memory a layer may use besides its tensors; `optimization_level`, 0 to 5; `cuda_graph`, whether timed runs
    are launched as a graph: otherwise the processor's launching of kernels, which for a small block takes longer than
    the block, is timed with it.

    With a `float_type` of `tf32` or `fp16`, float blocks, tables and deployments have that precision, by that name.
    Their outputs differ from torch's by more than an fp32 network's may: both keep 11 bits of a number, three decimal
    digits.
    """

    name = "tensorrt"
    formats = frozenset({"tensorrt-onnx"})
    precisions = PRECISIONS
    metrics: ClassVar[Mapping[str, str]] = {
        "memory_bytes": "device memory for activations and scratch, without weights"
    }
    quantization = "symmetric"

    @staticmethod
    def check_options(device: Device) -> None:
        """Check `device.options` without the runtime.

        Raises:
            ConfigError, UnknownNameError: one is not known, or has a wrong value.
        """
        _check_options(device)

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Build the file's engine, or find the one built before, and make it ready to run.

        Raises:
            ArtefactError: the file is absent, changed or not an ONNX model.
            MeasurementError: the precision is not legal, TensorRT refuses the model, or there is no GPU.
            ConfigError: the device has an option that is not known, or a wrong value for one.
            MissingPackageError: neither TensorRT nor TensorRT-RTX is installed.
        """
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        options = _check_options(device)
        if not is_quantized(artefact.precision) and artefact.precision != options["float_type"]:
            raise MeasurementError(
                f"{artefact.path} is {artefact.precision}, but device {device.name!r} computes floats in "
                f"{options['float_type']} (its option float_type), which has tables of its own"
            )
        library = find_library()
        if options["target"]:
            return CheckedEngine(build_engine(artefact.path, library, _settings(options)), library, options)
        try:
            cuda = Cuda(index=int(options["gpu"]))
        except NoGpuError as e:
            raise MeasurementError(
                f"{artefact.path} cannot be measured here: {e}. Measure on the machine that has the GPU (the device's "
                '[connection]), or set the device\'s option target = "sm_86" (or another) to check without one what '
                "TensorRT makes of a file"
            ) from e
        settings, graph = _settings(options, gpu=cuda.name), bool(options["cuda_graph"])
        try:
            cuda.activate()  # engines are built for, and on, the GPU that is current
            engine = build_engine(artefact.path, library, settings)
        except BaseException:
            cuda.close()
            raise
        return TensorRtSession(engine, library, cuda, artefact.path, settings=settings, cuda_graph=graph)

    def substitutes(self, device: Device, context: Mapping[str, str]) -> Mapping[str, str]:
        """Floats as `float_type` says."""
        return {EXACT: str(_check_options(device)["float_type"])}

    def context(self, device: Device) -> Mapping[str, str]:
        """TensorRT's version, the GPU (or `none`), its driver, the settings of the engines, and the host."""
        library, options = find_library(), _check_options(device)
        settings = {
            key: str(options[key]) for key in ("float_type", "workspace_mib", "optimization_level", "cuda_graph")
        }
        host = host_context(threads=device.threads)
        return {
            **host,
            "host": host["hardware"],
            "runtime_version": f"{library.name} {library.version}",
            **_gpu(options),
            **settings,
        }


class CheckedEngine:
    """An engine of a GPU that is not there: it tells what it consists of, and cannot run."""

    def __init__(self, engine: Engine, library: Library, options: Mapping[str, Option]) -> None:
        self.engine = engine
        self._target, self._float_type = str(options["target"]), str(options["float_type"])
        self._provider = f"{library.name} {library.version}"

    def run(self, inputs: object) -> tuple[Array, ...]:
        """Raises MeasurementError."""
        self._refuse()

    def time_ns(self, *, iterations: int) -> int:
        """Raises MeasurementError."""
        self._refuse()

    def info(self) -> Mapping[str, str]:
        """Provider, target, what floats are, layers by kind, and the types convolutions and products compute in."""
        return {
            "provider": self._provider,
            "target": f"{self._target}, built and not run",
            "float_type": self._float_type,
            "engine_bytes": str(len(self.engine.plan)),
            "engine": "reused" if self.engine.reused else "built",
            **summary(self.engine.layers),
        }

    def costs(self) -> Mapping[str, float]:
        """Nothing: it was not run."""
        return {}

    def _refuse(self) -> NoReturn:
        raise MeasurementError(
            f"this engine was built for {self._target} to be checked, and was not loaded into a GPU; to run and time "
            "it, leave the device's option target out on the machine that has the GPU"
        )

    def __enter__(self) -> CheckedEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def _settings(options: Mapping[str, Option], *, gpu: str = "") -> BuildSettings:
    return BuildSettings(
        target=str(options["target"]),
        gpu=gpu,
        float_type=str(options["float_type"]),
        workspace_mib=int(options["workspace_mib"]),
        optimization_level=int(options["optimization_level"]),
    )


def _check_options(device: Device) -> dict[str, Option]:
    for name, value in device.options.items():
        if name not in _OPTIONS:
            raise ConfigError(
                f"device {device.name!r} has an unknown option {name!r}; runtime 'tensorrt' knows: "
                f"{', '.join(_OPTIONS)}"
            )
        wanted = type(_OPTIONS[name])
        if type(value) is not wanted or (wanted is int and not 0 <= int(value) <= _LARGEST):
            kind = {str: "a text", int: "a whole number from 0", bool: "true or false"}[wanted]
            raise ConfigError(f"device {device.name!r}: option {name} is {value!r}; allowed: {kind}")
    options = {**_OPTIONS, **device.options}
    if options["target"] and not _TARGET.fullmatch(str(options["target"])):
        raise ConfigError(
            f"device {device.name!r}: option target is {as_written(options['target'])}; allowed: a compute capability, "
            "as sm_86"
        )
    if options["float_type"] not in FLOAT_TYPES:
        raise ConfigError(
            f"device {device.name!r}: option float_type is {options['float_type']!r}; allowed: {', '.join(FLOAT_TYPES)}"
        )
    return options


def _gpu(options: Mapping[str, Option]) -> dict[str, str]:
    if options["target"]:
        return {"hardware": f"none, built for {options['target']}", "driver": "none"}
    try:
        cuda = Cuda(index=int(options["gpu"]))
    except NoGpuError as e:
        return {"hardware": f"none: {e}", "driver": "none"}
    return {"hardware": f"{cuda.name} ({cuda.target})", "driver": cuda.driver_version}

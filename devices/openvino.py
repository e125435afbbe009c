"""OpenVINO: loads, runs and times .onnx files as exporters/openvino.py writes them.

One compiled model of batch 1 is what runs and what is timed: OpenVINO picks its kernels for a shape, and a batch
that may vary would be timed with others. Several samples are run one after the other.

Tried on a CPU only; the options for GPU and NPU follow OpenVINO's documentation and have not met the hardware.
Knows OpenVINO's models and requests; never torch, what a model is for, or where times are kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.errors import ArtefactError, ConfigError, MeasurementError
from hwnas.measure.artefacts import check_artefact
from hwnas.types import PRECISIONS, Array, Artefact, Device, Session

from ._openvino_graph import float_convolutions, layer_counts
from ._shared import listing, random_array
from .host import host_context

if TYPE_CHECKING:
    import openvino as ov

_DEFAULTS: Mapping[str, str | bool] = {"device_name": "CPU", "inference_precision": "f32", "cpu_pinning": False}
_FLOATS = ("f32", "f16", "bf16")
_CHOOSERS = ("AUTO", "MULTI", "HETERO", "BATCH")  # OpenVINO's own devices, which decide at run time where to run
_TELEMETRY = "openvino_telemetry"
_SEED = 0  # of the timed inputs: the same in every process
# What OpenVINO says of a file that holds no model; of one that it cannot compute it says other things.
_NOT_A_MODEL = ("Unable to read the model", "Error during import of ONNX model")


class OpenVinoRuntime:
    """The adapter.

    `device.options`:
        device_name: `CPU` (default), `GPU`, `GPU.1`, `NPU`: the one that must run the model.
        inference_precision: of what is not quantized: `f32` (default), `f16`, `bf16`. Left to itself OpenVINO takes
            the fastest the processor has, so that an fp32 network would run in bf16.
        cpu_pinning: whether OpenVINO binds its threads to cores itself; not by default, because a description's
            `cores` bind the whole process.
    """

    name = "openvino"
    formats = frozenset({"openvino-onnx"})
    precisions = frozenset(PRECISIONS)
    quantization = "asymmetric"

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Compile a file for the device's threads and OpenVINO device.

        Raises:
            ArtefactError: the file is absent, changed or not an ONNX model.
            MeasurementError: the precision is not legal, OpenVINO refuses the model, it would run elsewhere than
                asked for or with other threads, or the OpenVINO device is not there.
            ConfigError: the device has an option, or a value of one, that is not known.
        """
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        options = _options(device)
        core = _core(str(options["device_name"]))
        model = _read(core, artefact.path)
        _fix_batch(model, artefact.path)
        settings = _settings(core, options, threads=device.threads)
        try:
            compiled = core.compile_model(model, str(options["device_name"]), settings)
        except RuntimeError as e:
            raise MeasurementError(f"OpenVINO refuses {artefact.path}: {_last_line(e)}") from e
        _check_placement(compiled, str(options["device_name"]), threads=device.threads)
        return OpenVinoSession(compiled, artefact.path, quantized=artefact.precision == "int8")

    def context(self, device: Device) -> Mapping[str, str]:
        """OpenVINO's version, the host's hardware, and the options: each changes a time.

        Raises:
            MeasurementError: the OpenVINO device is not there.
            ConfigError: the device has an option that is not known.
        """
        options = _options(device)
        name = str(options["device_name"])
        core = _core(name)
        described = host_context(threads=device.threads)
        if not name.startswith("CPU"):
            described["hardware"] = f"{core.get_property(name, 'FULL_DEVICE_NAME')}, host {described['hardware']}"
        return {
            "runtime_version": _import().__version__,
            "provider": f"OpenVINO {name}",
            "inference_precision": str(options["inference_precision"]),
            "cpu_pinning": str(options["cpu_pinning"]).lower(),
            **described,
        }


class OpenVinoSession:
    """A compiled model with two requests: one for given inputs, one whose tensors are set once and only timed."""

    def __init__(self, compiled: ov.CompiledModel, path: Path, *, quantized: bool) -> None:
        self._compiled: ov.CompiledModel | None = compiled
        self._path = path
        self._quantized = quantized
        self._request: Any = None
        self._timed: Any = None

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs for these inputs, in the model's order; the N samples are run in batches of the model's size."""
        compiled = self._open()
        batch = self._check(inputs)
        if self._request is None:
            self._request = compiled.create_infer_request()
        parts: list[list[Array]] = []
        try:
            for start in range(0, len(inputs[0]), batch):
                for i, array in enumerate(inputs):
                    part = np.ascontiguousarray(array[start : start + batch])
                    self._request.set_input_tensor(i, _import().Tensor(part))
                self._request.infer(share_outputs=True)
                parts.append([self._request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))])
        except RuntimeError as e:
            raise MeasurementError(f"OpenVINO cannot run {self._path}: {_last_line(e)}") from e
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))

    def time_ns(self, *, iterations: int) -> int:
        """Nanoseconds of that many synchronous requests on preset tensors, by the monotonic clock."""
        compiled = self._open()
        if self._timed is None:
            self._timed = compiled.create_infer_request()
            rng = np.random.default_rng(_SEED)
            for i, port in enumerate(compiled.inputs):
                array = random_array(rng, tuple(port.shape), _dtype(port))
                self._timed.set_input_tensor(i, _import().Tensor(array))
        infer = self._timed.infer
        try:
            start = time.perf_counter_ns()
            for _ in range(iterations):
                infer(share_outputs=True)  # views of the outputs: no copy in the loop
            return time.perf_counter_ns() - start
        except RuntimeError as e:
            raise MeasurementError(f"OpenVINO cannot run {self._path}: {_last_line(e)}") from e

    def info(self) -> Mapping[str, str]:
        """Where it runs, with which settings, and the layers that run with the type each computes in.

        `float_convolutions`, of a quantized file only, names the convolutions and linear layers that OpenVINO did not
        find integers for.
        """
        compiled = self._open()
        layers = compiled.get_runtime_model().get_ordered_ops()
        told = {
            "provider": f"OpenVINO {', '.join(compiled.get_property('EXECUTION_DEVICES'))}",
            "layers": listing(layer_counts(layers)),
            "version": _import().__version__,
        }
        if self._quantized:
            told["float_convolutions"] = ", ".join(float_convolutions(layers)) or "none"
        for key, property_name in (
            ("threads", "INFERENCE_NUM_THREADS"),
            ("inference_precision", "INFERENCE_PRECISION_HINT"),
            ("cpu_pinning", "ENABLE_CPU_PINNING"),
        ):
            if property_name in compiled.get_property("SUPPORTED_PROPERTIES"):
                value = compiled.get_property(property_name)
                told[key] = value.get_type_name() if hasattr(value, "get_type_name") else str(value).lower()
        return told

    def costs(self) -> Mapping[str, float]:
        """Nothing: OpenVINO does not tell what a model's memory is on a CPU."""
        return {}

    def __enter__(self) -> OpenVinoSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self._request = self._timed = None
        self._compiled = None  # the last reference: OpenVINO frees the model

    def _open(self) -> ov.CompiledModel:
        if self._compiled is None:
            raise MeasurementError(f"the session of {self._path} is closed; load the artefact again")
        return self._compiled

    def _check(self, inputs: Sequence[Array]) -> int:
        """The model's batch size; OpenVINO itself would cast other types and read past a short array's end."""
        ports = self._open().inputs
        if len(inputs) != len(ports):
            raise MeasurementError(f"{self._path} has {len(ports)} inputs, but {len(inputs)} arrays were given")
        batch = int(ports[0].shape[0]) if ports and len(ports[0].shape) else 1
        for array, port in zip(inputs, ports, strict=True):
            wanted, shape = _dtype(port), tuple(port.shape)
            fits = array.dtype == wanted and array.shape[1:] == shape[1:] and array.ndim == len(shape)
            if not fits or not len(array) or len(array) % batch or len(array) != len(inputs[0]):
                raise MeasurementError(
                    f"input {port.any_name!r} of {self._path} takes {wanted} of shape {shape}, or several of these in "
                    f"one array; given: {array.dtype} of shape {array.shape}"
                )
        return batch


# ---------------------------------------------------------------- loading


def _import() -> Any:
    """OpenVINO, without the message that it sends over the network when it is imported.

    Its package reports every import unless its telemetry package cannot be imported. A process that has imported
    OpenVINO before has made its own choice.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    with _unimportable(_TELEMETRY):
        import openvino
    return openvino


@contextmanager
def _unimportable(name: str) -> Iterator[None]:
    present = name in sys.modules
    if not present:
        sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "there is none"
    try:
        yield
    finally:
        if not present:
            del sys.modules[name]


def _options(device: Device) -> dict[str, str | bool]:
    options: dict[str, Any] = dict(_DEFAULTS)
    for name, value in device.options.items():
        if name not in _DEFAULTS:
            raise ConfigError(
                f"device {device.name!r} has an unknown option {name!r}; runtime 'openvino' knows: "
                f"{', '.join(_DEFAULTS)}"
            )
        if type(value) is not type(_DEFAULTS[name]):
            kind = "true or false" if isinstance(_DEFAULTS[name], bool) else "a text"
            raise ConfigError(f"device {device.name!r}: option {name} is {value!r}; allowed: {kind}")
        options[name] = value
    if options["inference_precision"] not in _FLOATS:
        raise ConfigError(
            f"device {device.name!r}: option inference_precision is {options['inference_precision']!r}; allowed: "
            f"{', '.join(_FLOATS)}"
        )
    chooser = str(options["device_name"]).partition(":")[0]
    if chooser in _CHOOSERS:
        there = ", ".join(_import().Core().available_devices)
        raise ConfigError(
            f"device {device.name!r}: option device_name is {options['device_name']!r}, which decides by itself where "
            f"to run; name the one that is meant; there are: {there}"
        )
    return options


def _core(device_name: str) -> ov.Core:
    """OpenVINO, once it is known that it has this device."""
    core: ov.Core = _import().Core()
    there = core.available_devices
    if device_name not in there and not any(name.startswith(f"{device_name}.") for name in there):
        raise MeasurementError(
            f"OpenVINO has no device {device_name!r} here; there are: {', '.join(there)}. Name one of them in the "
            "device's option device_name, or install the driver"
        )
    return core


def _settings(core: ov.Core, options: Mapping[str, str | bool], *, threads: int) -> dict[str, Any]:
    """For one stream of the shortest latency; a setting that only CPUs have is left out elsewhere."""
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": str(options["inference_precision"]),
    }
    if str(options["device_name"]).startswith("CPU"):
        settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": options["cpu_pinning"]}
    known = core.get_property(str(options["device_name"]), "SUPPORTED_PROPERTIES")
    return {name: value for name, value in settings.items() if name in known}


def _read(core: ov.Core, path: Path) -> ov.Model:
    try:
        return core.read_model(path.read_bytes())  # (a path's ending would decide how it is read)
    except RuntimeError as e:
        if any(text in str(e) for text in _NOT_A_MODEL):
            raise ArtefactError(f"{path} is not an ONNX model: {_last_line(e)}") from e
        raise MeasurementError(f"OpenVINO refuses {path}: {_last_line(e)}") from e


def _fix_batch(model: ov.Model, path: Path) -> None:
    """Makes a free first dimension 1."""
    shapes = {}
    for port in model.inputs:
        shape = port.partial_shape
        if shape.rank.is_static and len(shape) and shape[0].is_dynamic:
            shape[0] = 1
        if shape.is_dynamic:
            raise MeasurementError(
                f"input {port.any_name!r} of {path} has the shape {port.partial_shape}; only the batch dimension may "
                "be free"
            )
        shapes[port] = shape
    if model.is_dynamic():
        model.reshape(shapes)


def _check_placement(compiled: ov.CompiledModel, device_name: str, *, threads: int) -> None:
    """What OpenVINO would run otherwise than asked for would be measured as something else."""
    where = compiled.get_property("EXECUTION_DEVICES")
    if any(name != device_name and not name.startswith(f"{device_name}.") for name in where):
        raise MeasurementError(f"OpenVINO would run the model on {', '.join(where)}; asked for: {device_name}")
    if device_name.startswith("CPU") and (used := compiled.get_property("INFERENCE_NUM_THREADS")) != threads:
        raise MeasurementError(
            f"OpenVINO would use {used} threads, {threads} were asked for; it never takes more than this process has "
            "cores: lower the device's threads, or widen its cores"
        )


def _dtype(port: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(port.element_type.to_dtype())
    return dtype


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with where in its sources they come from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return " ".join(told[-3:]) or " ".join(lines[-1:]) or type(error).__name__

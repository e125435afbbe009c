"""From a file to a compiled model: OpenVINO itself, its settings, and whether it runs what it was given as asked.

Knows OpenVINO's core and models; never a session, torch or times.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import ArtefactError, ConfigError, MeasurementError, MissingPackageError
from hwnas.foreign import as_written
from hwnas.types import Device

if TYPE_CHECKING:
    import openvino as ov

# What OpenVINO's binding raises: its own errors, and a message of a damaged file that is no text.
ERRORS = (RuntimeError, ValueError)
_DEFAULTS: Mapping[str, str | bool] = {"device_name": "CPU", "inference_precision": "f32", "cpu_pinning": False}
FLOATS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}  # OpenVINO's name -> ours
_DEVICE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:,()-]{0,99}")
_CHOOSERS = ("AUTO", "MULTI", "HETERO", "BATCH")  # OpenVINO's own devices, which decide at run time where to run
_TELEMETRY = "openvino_telemetry"
# What OpenVINO says of a file that holds no model; of one that it cannot compute it says other things.
_NOT_A_MODEL = ("Unable to read the model", "Error during import of ONNX model")


def import_openvino() -> Any:
    """OpenVINO, without the message that it sends over the network when it is imported.

    Its package reports every import unless its telemetry package cannot be imported. A process that has imported
    OpenVINO before has made its own choice.

    Raises:
        MissingPackageError: it is not installed.
    """
    if imported := sys.modules.get("openvino"):
        return imported
    try:
        with _unimportable(_TELEMETRY):
            import openvino
    except ModuleNotFoundError as e:
        raise MissingPackageError(e.name or "openvino", "openvino", needed_for="runtime 'openvino'") from e
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


def options_of(device: Device) -> dict[str, str | bool]:
    """A description's options with the defaults of those it leaves out.

    Raises:
        ConfigError: an option, or a value of one, is not known.
    """
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
    if options["inference_precision"] not in FLOATS:
        raise ConfigError(
            f"device {device.name!r}: option inference_precision is {options['inference_precision']!r}; allowed: "
            f"{', '.join(FLOATS)}"
        )
    if not _DEVICE_NAME.fullmatch(str(options["device_name"])):
        raise ConfigError(
            f"device {device.name!r}: option device_name is {as_written(options['device_name'])}; allowed: a name that "
            "OpenVINO gives a device, as CPU or GPU.0"
        )
    chooser = str(options["device_name"]).partition(":")[0]
    if chooser in _CHOOSERS:
        raise ConfigError(
            f"device {device.name!r}: option device_name is {options['device_name']!r}, which decides by itself where "
            f"to run; name the one that is meant, as CPU, GPU or NPU"
        )
    return options


def core_with(device_name: str) -> ov.Core:
    """OpenVINO, once it is known that it has this device."""
    core: ov.Core = import_openvino().Core()
    there = core.available_devices
    if device_name not in there and not any(name.startswith(f"{device_name}.") for name in there):
        raise MeasurementError(
            f"OpenVINO has no device {device_name!r} here; there are: {', '.join(there)}. Name one of them in the "
            "device's option device_name, or install the driver"
        )
    return core


def compile_model(path: Path, device: Device) -> ov.CompiledModel:
    """A file compiled for batch 1, on the device and with the threads that a description names.

    Raises:
        ArtefactError: the file is not an ONNX model.
        MeasurementError: OpenVINO refuses the model, has no such device, or would run it otherwise than asked for.
        ConfigError: the description has an option, or a value of one, that is not known.
    """
    options = options_of(device)
    name = str(options["device_name"])
    core = core_with(name)
    model = _read(core, path)
    _fix_batch(model, path)
    try:
        compiled: ov.CompiledModel = core.compile_model(model, name, _settings(core, options, threads=device.threads))
    except ERRORS as e:
        raise MeasurementError(f"OpenVINO refuses {path}: {last_line(e)}") from e
    _check_placement(compiled, name, threads=device.threads)
    _check_numbers(compiled, str(options["inference_precision"]))
    return compiled


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
    except ERRORS as e:
        if isinstance(e, UnicodeError) or any(text in str(e) for text in _NOT_A_MODEL):
            raise ArtefactError(f"{path} is not an ONNX model: {last_line(e)}") from e
        raise MeasurementError(f"OpenVINO refuses {path}: {last_line(e)}") from e


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


def _check_numbers(compiled: ov.CompiledModel, wanted: str) -> None:
    """A processor without instructions for half precision computes in single: another precision, by another name."""
    if "INFERENCE_PRECISION_HINT" not in compiled.get_property("SUPPORTED_PROPERTIES"):
        return
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != wanted:
        raise MeasurementError(
            f"OpenVINO would compute in {used} here, the device's option inference_precision asks for {wanted}: this "
            f"processor has no instructions for it; set it to {used}"
        )


def last_line(error: Exception) -> str:
    """OpenVINO's messages begin with where in its sources they come from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return " ".join(told[-3:]) or " ".join(lines[-1:]) or type(error).__name__

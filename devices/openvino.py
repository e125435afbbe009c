"""OpenVINO: loads, runs and times .onnx files as exporters/openvino.py writes them.

One compiled model of batch 1 is what runs and what is timed: OpenVINO picks its kernels for a shape, and a batch
that may vary would be timed with others. Several samples are run one after the other.

Tried on a CPU only; the options for GPU and NPU follow OpenVINO's documentation and have not met the hardware.
Knows OpenVINO's models and requests; never torch, what a model is for, or where times are kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.errors import MeasurementError
from hwnas.measure.artefacts import check_artefact
from hwnas.precisions import EXACT, INTEGERS, WITHOUT_VNNI, is_quantized
from hwnas.types import Array, Artefact, Device, PrecisionRule, Session

from ._openvino_graph import float_convolutions, layer_counts
from ._openvino_model import ERRORS, FLOATS, compile_model, core_with, import_openvino, last_line, options_of
from ._shared import listing, random_array
from .host import host_context, saturates_int8

if TYPE_CHECKING:
    import openvino as ov

_SEED = 0  # of the timed inputs: the same in every process

# found for certain; what is between them only where OpenVINO fuses it
_WEIGHTED = frozenset({"conv1d", "conv2d", "linear"})
_INT8 = PrecisionRule(operators=_WEIGHTED, how="8-bit products, added up in 32 bits")
_HALF = PrecisionRule(how="where the description's option inference_precision says so")
PRECISIONS: Mapping[str, PrecisionRule] = {
    "fp32": PrecisionRule(),
    "fp16": _HALF,
    "bf16": _HALF,
    "int8": _INT8,
    "int8-pt": _INT8,
    "int8-w7": _INT8,
}


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
    precisions = PRECISIONS
    quantization = "asymmetric"

    @staticmethod
    def check_options(device: Device) -> None:
        """Check `device.options` without the runtime.

        Raises:
            ConfigError, UnknownNameError: one is not known, or has a wrong value.
        """
        options_of(device)

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Compile a file for the device's threads and OpenVINO device.

        Raises:
            ArtefactError: the file is absent, changed or not an ONNX model.
            MeasurementError: the precision is not legal, OpenVINO refuses the model, it would run elsewhere than
                asked for or with other threads, or the OpenVINO device is not there.
            ConfigError: the device has an option, or a value of one, that is not known.
        """
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        compiled = compile_model(artefact.path, device)
        return OpenVinoSession(compiled, artefact.path, quantized=is_quantized(artefact.precision))

    def substitutes(self, device: Device, context: Mapping[str, str]) -> Mapping[str, str]:
        """Floats as `inference_precision` says; int8 with weights of 7 bits on x86 processors without VNNI."""
        options = options_of(device)
        found = {EXACT: FLOATS[str(options["inference_precision"])]}
        if saturates_int8(context) and str(options["device_name"]).startswith("CPU"):
            found[INTEGERS] = WITHOUT_VNNI
        return found

    def context(self, device: Device) -> Mapping[str, str]:
        """OpenVINO's version, the host's hardware, and the options: each changes a time.

        Raises:
            MeasurementError: the OpenVINO device is not there.
            ConfigError: the device has an option that is not known.
        """
        options = options_of(device)
        name = str(options["device_name"])
        core = core_with(name)
        described = host_context(threads=device.threads)
        if not name.startswith("CPU"):
            described["hardware"] = f"{core.get_property(name, 'FULL_DEVICE_NAME')}, host {described['hardware']}"
        return {
            "runtime_version": import_openvino().__version__,
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
                    self._request.set_input_tensor(i, import_openvino().Tensor(part))
                self._request.infer(share_outputs=True)
                parts.append([self._request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))])
        except ERRORS as e:
            raise MeasurementError(f"OpenVINO cannot run {self._path}: {last_line(e)}") from e
        return tuple(np.concatenate(outputs) for outputs in zip(*parts, strict=True))

    def time_ns(self, *, iterations: int) -> int:
        """Nanoseconds of that many synchronous requests on preset tensors, by the monotonic clock."""
        compiled = self._open()
        if self._timed is None:
            self._timed = compiled.create_infer_request()
            rng = np.random.default_rng(_SEED)
            for i, port in enumerate(compiled.inputs):
                array = random_array(rng, tuple(port.shape), _dtype(port))
                self._timed.set_input_tensor(i, import_openvino().Tensor(array))
        infer = self._timed.infer
        try:
            start = time.perf_counter_ns()
            for _ in range(iterations):
                infer(share_outputs=True)  # views of the outputs: no copy in the loop
            return time.perf_counter_ns() - start
        except ERRORS as e:
            raise MeasurementError(f"OpenVINO cannot run {self._path}: {last_line(e)}") from e

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
            "version": import_openvino().__version__,
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
        """The model's batch size, if the inputs are what it takes: OpenVINO would silently convert other types."""
        ports = self._open().inputs
        if len(inputs) != len(ports) or not ports:
            raise MeasurementError(f"{self._path} has {len(ports)} inputs, but {len(inputs)} arrays were given")
        batch = int(ports[0].shape[0]) if len(ports[0].shape) else 1
        for array, port in zip(inputs, ports, strict=True):
            wanted, shape = _dtype(port), tuple(port.shape)
            samples = len(array) if array.ndim else 0
            fits = array.dtype == wanted and array.ndim == len(shape) and array.shape[1:] == shape[1:]
            if not fits or not samples or samples % batch or samples != len(inputs[0]):
                raise MeasurementError(
                    f"input {port.any_name!r} of {self._path} takes {wanted} of shape {shape}, or several of these in "
                    f"one array; given: {array.dtype} of shape {array.shape}"
                )
        return batch


def _dtype(port: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(port.element_type.to_dtype())
    return dtype

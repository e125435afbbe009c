"""ONNX Runtime: loads, runs and times .onnx files.

Knows sessions and bindings (providers are in _onnx_providers.py); never torch, what a model is for, or where times
are kept.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hwnas.errors import ArtefactError, MeasurementError
from hwnas.measure.artefacts import check_artefact
from hwnas.precisions import EXACT, INTEGERS, WITHOUT_VNNI
from hwnas.scratch import scratch
from hwnas.types import Array, Artefact, Device, PrecisionRule, Session

from ._onnx_providers import SATURATING, Provider, check_available, check_placement, float_type, placement, provider_of
from ._shared import listing, random_array
from .host import host_context, saturates_int8

if TYPE_CHECKING:
    import onnxruntime as ort

_SEED = 0  # of the timed inputs: the same in every process
_QUIET = 3  # errors only: warnings about optimisations would fill the worker's standard error
_NOT_A_MODEL = ("InvalidProtobuf", "NoSuchFile", "NoModel")  # ONNX Runtime's names for a file that holds none
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


_INTEGERS = frozenset(
    {"conv1d", "conv2d", "linear", "add", "mul", "sigmoid", "concat", "adaptive_avg_pool2d"}  # QLinear... kernels
    | {"relu", "relu6", "max_pool2d", "reshape", "permute"}  # clipping, and what moves 8-bit numbers as they are
)
_QDQ = "8-bit products, added up in 32 bits"
PRECISIONS: Mapping[str, PrecisionRule] = {
    "fp32": PrecisionRule(),
    "tf32": PrecisionRule(how="by a provider that is told to (provider.use_tf32)"),
    "fp16": PrecisionRule(how="by a provider that is told to"),
    "bf16": PrecisionRule(how="by a provider that is told to"),
    "int8": PrecisionRule(operators=_INTEGERS, how=_QDQ),
    "int8-pt": PrecisionRule(operators=_INTEGERS, how=_QDQ),
    "int8-w7": PrecisionRule(operators=_INTEGERS, how=f"{_QDQ}, in 16 without VNNI"),
}


class OnnxRuntime:
    """The adapter.

    `device.options`:
        provider: the execution provider that must run the model: `CPU` (default), `CUDA`, `TensorRT`, `OpenVINO`,
            `XNNPACK`, ..., or ONNX Runtime's own name of one.
        provider.<option>: an option of that provider, passed on: `"provider.device_id" = 1`.
        allow_cpu_fallback: whether operators that the provider does not take may run on the CPU (default: an error
            that names them); `info` tells which do.
    """

    name = "onnxruntime"
    formats = frozenset({"onnx"})
    precisions = PRECISIONS
    quantization = "asymmetric"
    setting_notes: ClassVar[Mapping[str, str]] = {"provider": "of execution"}

    @staticmethod
    def check_options(device: Device) -> None:
        """Check `device.options` without the runtime.

        Raises:
            ConfigError, UnknownNameError: one is not known, or has a wrong value.
        """
        provider_of(device)

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Load a file with the device's threads and provider.

        Raises:
            ArtefactError: the file is absent, changed or not an ONNX model.
            MeasurementError: the precision is not legal, ONNX Runtime refuses the model, or the provider asked for
                would not run all of it.
            ConfigError: the device has an option that is not known.
            UnknownNameError: there is no such provider.
        """
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        provider = provider_of(device)
        session = _create(artefact.path, provider)
        check_placement(session, provider, artefact.path)
        return OnnxSession(session, artefact.path, provider)

    def substitutes(self, device: Device, context: Mapping[str, str]) -> Mapping[str, str]:
        """Floats as the provider's options say; int8 with weights of 7 bits on x86 processors without VNNI.

        There the CPU's kernels add products of uint8 and int8 in 16 bits, which saturate (VPMADDUBSW).
        """
        provider = provider_of(device)
        found = {EXACT: float_type(provider)}
        if saturates_int8(context) and (provider.name in SATURATING or provider.allow_cpu_fallback):
            found[INTEGERS] = WITHOUT_VNNI
        return found

    def context(self, device: Device) -> Mapping[str, str]:
        """ONNX Runtime's version, the host's hardware, the provider and its options.

        ONNX Runtime does not tell an accelerator's name: boards that differ in it need descriptions of their own.
        """
        import onnxruntime as ort

        provider = provider_of(device)
        options = ", ".join(f"{name}={value}" for name, value in sorted(provider.options.items()))
        return {
            "runtime_version": str(ort.__version__),
            "provider": provider.name,
            **({"provider_options": options} if options else {}),
            **host_context(threads=device.threads),
        }


class OnnxSession:
    """A loaded model with inputs and outputs bound once, so that a timed run is one call."""

    def __init__(self, session: ort.InferenceSession, path: Path, provider: Provider) -> None:
        self._session: ort.InferenceSession | None = session
        self._path = path
        self._provider = provider
        self._binding: Any = None

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs for these inputs, in the model's order."""
        session = self._open()
        names = [i.name for i in session.get_inputs()]
        if len(inputs) != len(names):
            raise MeasurementError(
                f"{self._path} has {len(names)} inputs ({', '.join(names)}), but {len(inputs)} arrays were given"
            )
        try:
            return tuple(session.run(None, dict(zip(names, inputs, strict=True))))
        except _ort_errors() as e:
            raise MeasurementError(f"ONNX Runtime cannot run {self._path}: {e}") from e

    def time_ns(self, *, iterations: int) -> int:
        """Nanoseconds of that many runs at batch 1, by the monotonic clock; each run ends before the next begins."""
        session = self._open()
        if self._binding is None:
            self._binding = self._bind(session)
        run, binding = session.run_with_iobinding, self._binding
        try:
            if self._provider.memory == "cpu":
                start = time.perf_counter_ns()
                for _ in range(iterations):
                    run(binding)
                return time.perf_counter_ns() - start
            wait = binding.synchronize_outputs  # an accelerator may still work when `run` returns
            binding.synchronize_inputs()
            start = time.perf_counter_ns()
            for _ in range(iterations):
                run(binding)
                wait()
            return time.perf_counter_ns() - start
        except _ort_errors() as e:
            raise MeasurementError(f"ONNX Runtime cannot run {self._path}: {e}") from e

    def info(self) -> Mapping[str, str]:
        """Provider, version, settings, and the operators that really run, after fusion, with their counts."""
        import onnxruntime as ort

        session = self._open()
        return {
            "provider": self._provider.name,
            "providers": ", ".join(session.get_providers()),
            **placement(session, self._provider),
            "operators": listing(self._operators()),
            "version": str(ort.__version__),
            "threads": str(session.get_session_options().intra_op_num_threads),
        }

    def costs(self) -> Mapping[str, float]:
        """Nothing: ONNX Runtime's arena is shared by all sessions of a process."""
        return {}

    def __enter__(self) -> OnnxSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self._binding = None
        self._session = None  # the last reference: ONNX Runtime frees the model

    def _open(self) -> ort.InferenceSession:
        if self._session is None:
            raise MeasurementError(f"the session of {self._path} is closed; load the artefact again")
        return self._session

    def _bind(self, session: ort.InferenceSession) -> Any:
        """Fixed random inputs and preallocated outputs: a bound run neither copies feeds nor allocates results.

        They lie in the memory of the provider's accelerator, where its bindings reach that.
        """
        import onnxruntime as ort

        memory, device_id = self._provider.memory, self._provider.device_id
        feeds = _random_inputs(session, self._path)
        outputs = self.run(list(feeds.values()))  # their shapes may be symbolic in the file
        try:
            binding = session.io_binding()
            for name, array in feeds.items():
                binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, memory, device_id))
            for meta, array in zip(session.get_outputs(), outputs, strict=True):
                value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), memory, device_id)
                binding.bind_ortvalue_output(meta.name, value)
        except _ort_errors() as e:
            raise MeasurementError(
                f"{self._provider.name} cannot take tensors in {memory} memory of device {device_id}: {e}"
            ) from e
        return binding

    def _operators(self) -> Counter[str]:
        """Operators executed in one run, from ONNX Runtime's own profile: it needs no parser of models."""
        with scratch("operators") as folder:
            session = _create(self._path, self._provider, profile=Path(folder, "profile"))
            session.run(None, _random_inputs(session, self._path))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        nodes = {e["name"]: e["args"]["op_name"] for e in events if "op_name" in e.get("args", {})}
        return Counter(op for name, op in nodes.items() if name.endswith("_kernel_time"))


def _create(path: Path, provider: Provider, *, profile: Path | None = None) -> ort.InferenceSession:
    import onnxruntime as ort

    check_available(provider, ort.get_available_providers())
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL  # parallel pays for many branches, which we have not
    options.intra_op_num_threads = provider.threads
    options.inter_op_num_threads = 1
    # Threads of a pool spin while they wait, which a deployment wants within a run. Several sessions share this
    # process, so they stop at the end of each run: a candidate's idle threads must not take the next one's cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # The arena and the memory pattern stay on, as they are where the model ships: without them every run pays
    # the system's allocator. A group's sessions are few, and their arenas are freed with them.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = True
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return ort.InferenceSession(
            os.fspath(path),
            options,
            providers=[(provider.name, dict(provider.options))],
            enable_fallback=0,  # else a provider that fails is replaced by another one, with a note on standard output
        )
    except _ort_errors() as e:
        if type(e).__name__ in _NOT_A_MODEL:
            raise ArtefactError(f"{path} is not an ONNX model: {e}") from e
        raise MeasurementError(f"ONNX Runtime refuses {path}: {e}") from e


def _random_inputs(session: ort.InferenceSession, path: Path) -> dict[str, Array]:
    """Seeded inputs of batch 1: a symbolic first dimension becomes 1."""
    rng = np.random.default_rng(_SEED)
    feeds: dict[str, Array] = {}
    for meta in session.get_inputs():
        shape = [1 if i == 0 and not isinstance(d, int) else d for i, d in enumerate(meta.shape)]
        if any(not isinstance(d, int) for d in shape):
            raise MeasurementError(
                f"input {meta.name!r} of {path} has the shape {meta.shape}; only the batch dimension may be free"
            )
        if meta.type not in _DTYPES:
            raise MeasurementError(f"input {meta.name!r} of {path} is {meta.type}; known: {', '.join(_DTYPES)}")
        feeds[meta.name] = random_array(rng, shape, np.dtype(_DTYPES[meta.type]))
    return feeds


def _ort_errors() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises of its own; its classes have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    classes = (c for c in vars(state).values() if isinstance(c, type) and issubclass(c, Exception))
    return (*classes, RuntimeError)  # the last: what its C++ throws unclassified

"""ONNX Runtime: loads, runs and times .onnx files.

Knows sessions and execution providers; never torch, what a model is for, or where times are kept.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.errors import ArtefactError, ConfigError, MeasurementError
from hwnas.measure.artefacts import check_artefact
from hwnas.types import PRECISIONS, Array, Artefact, Device, Session

from .host import host_context

if TYPE_CHECKING:
    import onnxruntime as ort

_DEFAULT_PROVIDER = "CPUExecutionProvider"
_OPTIONS = ("provider",)
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


class OnnxRuntime:
    """The adapter. `device.options`: `provider`, the execution provider that must run the model."""

    name = "onnxruntime"
    formats = frozenset({"onnx"})
    precisions = frozenset(PRECISIONS)
    quantization = "asymmetric"

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Load a file with the device's threads and provider.

        Raises:
            ArtefactError: the file is absent, changed or not an ONNX model.
            MeasurementError: the precision is not legal, ONNX Runtime refuses the model, or the provider asked for
                would not run any of it.
            ConfigError: the device has an option that is not known.
        """
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        for option in device.options:
            if option not in _OPTIONS:
                raise ConfigError(
                    f"device {device.name!r} has an unknown option {option!r}; runtime {self.name!r} knows: "
                    f"{', '.join(_OPTIONS)}"
                )
        provider = str(device.options.get("provider", _DEFAULT_PROVIDER))
        session = _create(artefact.path, provider, device.threads)
        _refuse_fallback(session, provider, artefact.path)
        return OnnxSession(session, artefact.path, provider, device.threads)

    def context(self, device: Device) -> Mapping[str, str]:
        """ONNX Runtime's version, the host's hardware, and the provider."""
        import onnxruntime as ort

        return {
            "runtime_version": str(ort.__version__),
            "provider": str(device.options.get("provider", _DEFAULT_PROVIDER)),
            **host_context(threads=device.threads),
        }


class OnnxSession:
    """A loaded model with inputs and outputs bound once, so that a timed run is one call."""

    def __init__(self, session: ort.InferenceSession, path: Path, provider: str, threads: int) -> None:
        self._session: ort.InferenceSession | None = session
        self._path = path
        self._provider = provider
        self._threads = threads
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
        """Nanoseconds of that many runs at batch 1, by the monotonic clock."""
        session = self._open()
        if self._binding is None:
            self._binding = self._bind(session)
        run, binding = session.run_with_iobinding, self._binding
        try:
            start = time.perf_counter_ns()
            for _ in range(iterations):
                run(binding)
            return time.perf_counter_ns() - start
        except _ort_errors() as e:
            raise MeasurementError(f"ONNX Runtime cannot run {self._path}: {e}") from e

    def info(self) -> Mapping[str, str]:
        """Provider, version, settings, and the operators that really run, after fusion, with their counts."""
        import onnxruntime as ort

        session = self._open()
        return {
            "provider": self._provider,
            "providers": ", ".join(session.get_providers()),
            "nodes_by_provider": _listing(_nodes_by_provider(session)),
            "operators": _listing(self._operators()),
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
        """Fixed random inputs and preallocated outputs: a bound run neither copies feeds nor allocates results."""
        import onnxruntime as ort

        feeds = _random_inputs(session, self._path)
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        outputs = self.run(list(feeds.values()))  # their shapes may be symbolic in the file
        for meta, array in zip(session.get_outputs(), outputs, strict=True):
            binding.bind_ortvalue_output(meta.name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)))
        return binding

    def _operators(self) -> Counter[str]:
        """Operators executed in one run, from ONNX Runtime's own profile: it needs no parser of models."""
        with tempfile.TemporaryDirectory(prefix="hwnas-profile-") as folder:
            session = _create(self._path, self._provider, self._threads, profile=Path(folder, "profile"))
            session.run(None, _random_inputs(session, self._path))
            events = json.loads(Path(session.end_profiling()).read_text())
        nodes = {e["name"]: e["args"]["op_name"] for e in events if "op_name" in e.get("args", {})}
        return Counter(op for name, op in nodes.items() if name.endswith("_kernel_time"))


def _create(path: Path, provider: str, threads: int, *, profile: Path | None = None) -> ort.InferenceSession:
    import onnxruntime as ort

    available = ort.get_available_providers()
    if provider not in available:  # ONNX Runtime would warn and run on the CPU
        raise MeasurementError(
            f"execution provider {provider!r} is not in this build of ONNX Runtime; available: {', '.join(available)}"
        )
    options = ort.SessionOptions()
    options.log_severity_level = _QUIET
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL  # parallel pays for many branches, which we have not
    options.intra_op_num_threads = threads
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
        return ort.InferenceSession(os.fspath(path), options, providers=[provider])
    except _ort_errors() as e:
        if type(e).__name__ in _NOT_A_MODEL:
            raise ArtefactError(f"{path} is not an ONNX model: {e}") from e
        raise MeasurementError(f"ONNX Runtime refuses {path}: {e}") from e


def _refuse_fallback(session: ort.InferenceSession, provider: str, path: Path) -> None:
    """A model of which the provider asked for runs nothing would be measured on another one."""
    nodes = _nodes_by_provider(session)
    if session.get_providers()[0] != provider or (nodes and not nodes[provider]):
        raise MeasurementError(
            f"{path} was to run on {provider}, but ONNX Runtime runs it on "
            f"{', '.join(nodes) or ', '.join(session.get_providers())}; "
            "name that provider in the device's options, or make this one work"
        )


def _nodes_by_provider(session: ort.InferenceSession) -> Counter[str]:
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return counts


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
        feeds[meta.name] = _random_array(rng, shape, np.dtype(_DTYPES[meta.type]))
    return feeds


def _random_array(rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True)
    return np.zeros(shape, dtype)  # indices and flags: zero is always in range


def _listing(counts: Mapping[str, int]) -> str:
    """`QLinearConv 5, QLinearAdd 1`: the most frequent first."""
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _ort_errors() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises of its own; its classes have no common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    classes = (c for c in vars(state).values() if isinstance(c, type) and issubclass(c, Exception))
    return (*classes, RuntimeError)  # the last: what its C++ throws unclassified

"""LiteRT (TFLite): loads, runs and times .tflite files.

Knows interpreters and XNNPACK; never torch, what a model is for, or where times are kept. Imports numpy and the
runtime alone: `ai_edge_litert`, or its predecessor `tflite_runtime` on boards that have no other.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import ArtefactError, ConfigError, MeasurementError, MissingPackageError
from hwnas.measure.artefacts import check_artefact
from hwnas.types import Array, Artefact, Device, PrecisionRule, Session

from ._shared import listing, random_array
from .host import host_context

_NEEDED_FOR = "runtime 'litert'"
_OPTIONS = ("xnnpack",)
_SEED = 0  # of the timed inputs: the same in every process
_IDENTIFIER = slice(4, 8)
_TFLITE = b"TFL3"
_DELEGATE = "DELEGATE"  # what an interpreter calls the part of the graph that another library runs
_XNNPACK, _BUILT_IN = "XNNPACK", "built-in kernels"


INTEGER_OPERATORS = frozenset(  # whose int8 kernels TFLite specifies
    {"conv1d", "conv2d", "conv_transpose2d", "linear", "add", "sub", "mul", "mean", "max_pool2d", "avg_pool2d"}
    | {"adaptive_avg_pool2d", "sigmoid", "softmax", "relu", "relu6", "concat", "split", "slice", "pad", "resize"}
    | {"reshape", "permute"}
)
# XNNPACK and the built-in kernels add products in 32 bits on every processor
_INT8 = PrecisionRule(operators=INTEGER_OPERATORS, how="8-bit products, added up in 32 bits")
PRECISIONS: Mapping[str, PrecisionRule] = {"fp32": PrecisionRule(), "int8": _INT8, "int8-pt": _INT8}


class LiteRtRuntime:
    """The adapter.

    `device.options`: `xnnpack`. True: XNNPACK must run a model, or at least a part of it. False: the interpreter's
    own kernels do. Left out: as the installed runtime decides by itself; old ones leave int8 to their own kernels.
    """

    name = "litert"
    formats = frozenset({"tflite"})
    precisions = PRECISIONS
    quantization = "asymmetric"

    @staticmethod
    def check_options(device: Device) -> None:
        """Check `device.options` without the runtime.

        Raises:
            ConfigError, UnknownNameError: one is not known, or has a wrong value.
        """
        _wanted(device)

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Load a file with the device's threads.

        Raises:
            ArtefactError: the file is absent, changed or not a TFLite model.
            MeasurementError: the precision is not legal, LiteRT refuses the model, or XNNPACK was asked for and
                would not run any of it.
            ConfigError: the device has an option that is not known, or a value that is not allowed.
            MissingPackageError: neither `ai_edge_litert` nor `tflite_runtime` is installed.
        """
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        xnnpack = _wanted(device)
        interpreter = _create(artefact.path, device.threads, xnnpack=xnnpack is not False)
        session = LiteRtSession(interpreter, artefact.path, device.threads)
        if xnnpack and not session.operators()[0]:
            raise MeasurementError(
                f"{artefact.path} was to run on {_XNNPACK}, but the installed runtime leaves all of it to its "
                f"{_BUILT_IN}; leave 'xnnpack' out of the device's options to measure those"
            )
        return session

    def context(self, device: Device) -> Mapping[str, str]:
        """The runtime's version and package, the host's hardware, and whether XNNPACK is used."""
        version, package = _version()
        wanted = {True: _XNNPACK, False: _BUILT_IN, None: "default"}[_wanted(device)]
        return {
            "runtime_version": version,
            "package": package,
            "provider": wanted,
            **host_context(threads=device.threads),
        }


class LiteRtSession:
    """A loaded model with its tensors allocated."""

    def __init__(self, interpreter: Any, path: Path, threads: int) -> None:
        self._interpreter = interpreter
        self._path = path
        self._threads = threads

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs for these inputs, in the model's order; a model of batch 1 runs once for each sample."""
        interpreter = self._open()
        details = interpreter.get_input_details()
        if len(inputs) != len(details):
            names = ", ".join(d["name"] for d in details)
            raise MeasurementError(
                f"{self._path} has {len(details)} inputs ({names}), but {len(inputs)} arrays were given"
            )
        counts = {self._runs(array, detail) for array, detail in zip(inputs, details, strict=True)}
        if len(counts) != 1:
            raise MeasurementError(f"the inputs of {self._path} were given with different numbers of samples")
        (runs,) = counts
        results = [self._run_once(interpreter, details, inputs, i) for i in range(runs)]
        return tuple(np.concatenate(of_all) for of_all in zip(*results, strict=True))

    def time_ns(self, *, iterations: int) -> int:
        """Nanoseconds of that many runs at batch 1, by the monotonic clock."""
        interpreter = self._open()
        rng = np.random.default_rng(_SEED)
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], _random(rng, detail))
        invoke = interpreter.invoke
        try:
            start = time.perf_counter_ns()
            for _ in range(iterations):
                invoke()
            return time.perf_counter_ns() - start
        except (RuntimeError, ValueError) as e:
            raise MeasurementError(f"LiteRT cannot run {self._path}: {e}") from e

    def info(self) -> Mapping[str, str]:
        """Provider, whether all of the graph is accelerated, the operators on either side, version, threads."""
        accelerated, left = self.operators()
        version, package = _version()
        return {
            "provider": _XNNPACK if accelerated else _BUILT_IN,
            "fully_accelerated": "no" if left else "yes",
            "operators": listing(accelerated + left),
            "operators_on_xnnpack": listing(accelerated) or "none",
            "operators_left": listing(left) or "none",
            "version": f"{package} {version}",
            "threads": str(self._threads),
        }

    def costs(self) -> Mapping[str, float]:
        """Nothing: the interpreter does not tell the size of its arena, nor XNNPACK that of its workspace."""
        return {}

    def operators(self) -> tuple[Counter[str], Counter[str]]:
        """The model's operators that XNNPACK runs, and those that are left to the interpreter's own kernels.

        A delegated operator stays in the interpreter's list, but nothing executed reads what it would give: one
        walk from the outputs back, by way of the delegate where it makes a tensor, meets the others only.
        """
        nodes = self._open()._get_ops_details()  # the only place where the interpreter tells
        by_delegate = {int(t): n for n in nodes if n["op_name"] == _DELEGATE for t in n["outputs"]}
        made_by = {int(t): n for n in nodes if n["op_name"] != _DELEGATE for t in n["outputs"]} | by_delegate
        ahead = [int(d["index"]) for d in self._open().get_output_details()]
        executed: set[int] = set()
        while ahead:
            node = made_by.get(ahead.pop())
            if node is not None and node["index"] not in executed:
                executed.add(node["index"])
                ahead.extend(int(t) for t in node["inputs"])
        model = [n for n in nodes if n["op_name"] != _DELEGATE]
        left = Counter(str(n["op_name"]) for n in model if n["index"] in executed)
        return Counter(str(n["op_name"]) for n in model) - left, left

    def __enter__(self) -> LiteRtSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self._interpreter = None  # the last reference: the interpreter frees the model

    def _open(self) -> Any:
        if self._interpreter is None:
            raise MeasurementError(f"the session of {self._path} is closed; load the artefact again")
        return self._interpreter

    def _runs(self, array: Array, detail: Mapping[str, Any]) -> int:
        """How often the model must run for that many samples: once, or if its batch is 1, for each."""
        shape, dtype = tuple(map(int, detail["shape"])), np.dtype(detail["dtype"])
        fits = array.shape == shape or (shape[:1] == (1,) and array.shape[1:] == shape[1:] and array.size > 0)
        if not fits or array.dtype != dtype:
            raise MeasurementError(
                f"input {detail['name']!r} of {self._path} takes {dtype} {shape}, but {array.dtype} {array.shape} was "
                "given"
            )
        return 1 if array.shape == shape else len(array)

    def _run_once(self, interpreter: Any, details: Sequence[Any], inputs: Sequence[Array], i: int) -> list[Array]:
        try:
            for array, detail in zip(inputs, details, strict=True):
                size = int(detail["shape"][0])
                interpreter.set_tensor(detail["index"], np.ascontiguousarray(array[i * size : (i + 1) * size]))
            interpreter.invoke()
            return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
        except (RuntimeError, ValueError) as e:
            raise MeasurementError(f"LiteRT cannot run {self._path}: {e}") from e


def _random(rng: np.random.Generator, detail: Mapping[str, Any]) -> Array:
    return random_array(rng, tuple(map(int, detail["shape"])), np.dtype(detail["dtype"]))


def _wanted(device: Device) -> bool | None:
    for option in device.options:
        if option not in _OPTIONS:
            raise ConfigError(
                f"device {device.name!r} has an unknown option {option!r}; runtime {LiteRtRuntime.name!r} knows: "
                f"{', '.join(_OPTIONS)}"
            )
    value = device.options.get("xnnpack")
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"option 'xnnpack' of device {device.name!r} is {value!r}; it must be true or false")
    return value


def _create(path: Path, threads: int, *, xnnpack: bool) -> Any:
    module = _interpreters()
    content = Path(path).read_bytes()
    if content[_IDENTIFIER] != _TFLITE:
        raise ArtefactError(f"{path} is not a TFLite model: it does not have the identifier {_TFLITE.decode()!r}")
    resolvers = module.OpResolverType
    resolver = resolvers.AUTO if xnnpack else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = module.Interpreter(
            model_content=content, num_threads=threads, experimental_op_resolver_type=resolver
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as e:
        if "flatbuffer" in str(e).lower():  # the words of its verifier
            raise ArtefactError(f"{path} is not a TFLite model: {e}") from e
        raise MeasurementError(f"LiteRT refuses {path}: {e}") from e
    return interpreter


def _interpreters() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ModuleNotFoundError:
        try:
            from tflite_runtime import interpreter
        except ModuleNotFoundError as e:
            raise MissingPackageError("ai_edge_litert", "litert", needed_for=_NEEDED_FOR) from e
    return interpreter


def _version() -> tuple[str, str]:
    """Version and package."""
    package = sys.modules[_interpreters().__name__.partition(".")[0]]
    return str(package.__version__), package.__name__

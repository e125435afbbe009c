"""ONNX files into TensorRT engines, kept on disk so that the same engine is built once.

An engine belongs to a file, a version of TensorRT, a GPU and some settings, and is found again by the hash of them
all. Precisions are the network's own (a strongly typed network): what the file says is what runs. Knows TensorRT's
builder, not how an engine is run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwnas import _places
from hwnas.errors import ArtefactError, ConfigError, MeasurementError
from hwnas.files import write_json, write_whole

from . import _tensorrt_layers
from ._tensorrt_half import compute_in_half
from ._tensorrt_layers import Layer
from ._tensorrt_layouts import free_formats
from ._tensorrt_library import Library

# fp32 is what torch computes. tf32 rounds the factors of products to 11 bits, as TensorRT does unless it is told
# otherwise; fp16 rounds everything.
FLOAT_TYPES = ("fp32", "tf32", "fp16")
_KEPT_BYTES = 2 << 30  # of engines on disk
_SCHEMA = 1  # of what is kept on disk, and of how engines are built: a change of either forgets them all


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """How an engine is built.

    Attributes:
        target: compute capability of a GPU that is not there (`sm_86`), which only TensorRT-RTX builds for; "" for
            the one that is.
        gpu: name of the GPU that is there, "" if none is: an engine is tuned for it.
        float_type: what float layers compute in: one of FLOAT_TYPES.
        workspace_mib: device memory that a layer may use besides its tensors.
        optimization_level: 0 (build fast) to 5 (search long).
    """

    target: str = ""
    gpu: str = ""
    float_type: str = "fp32"
    workspace_mib: int = 1024
    optimization_level: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A built engine.

    Attributes:
        plan: the serialized engine.
        layers: as the builder told them; empty where only a loaded engine tells.
        reused: it was built before.
    """

    plan: bytes
    layers: tuple[Layer, ...]
    reused: bool


def cache_folder() -> Path:
    """Where engines and caches are kept: `$XDG_CACHE_HOME/hwnas/tensorrt`, by default below `~/.cache`."""
    return _places.cache_folder() / "hwnas" / "tensorrt"


def cache_path(library: Library, settings: BuildSettings, ending: str) -> Path:
    """The file that all engines of this library and GPU share: timings of kernels, compiled kernels."""
    return cache_folder() / f"{_hash([library.name, library.version, settings.target, settings.gpu])}.{ending}"


def build_engine(path: Path, library: Library, settings: BuildSettings) -> Engine:
    """The engine of a file: the kept one, or a new one.

    Raises:
        ArtefactError: the file is absent, or no ONNX model.
        MeasurementError: TensorRT refuses the model; in its own words.
        ConfigError: it cannot build for the target; lists those it can.
    """
    try:
        model = Path(path).read_bytes()
    except OSError as e:
        raise ArtefactError(f"cannot read the artefact {path}: {e.strerror}") from e
    digest = hashlib.sha256(model).hexdigest()
    key = _hash([_SCHEMA, digest, library.name, library.version, asdict(settings)])
    plan_path, layers_path = (cache_folder() / f"{key}.{ending}" for ending in ("engine", "json"))
    kept = _find_kept(plan_path, layers_path)
    if kept is not None:
        return kept
    engine = _Build(library, settings, path).run(model)
    with suppress(OSError):  # a full or read-only disk costs time, not the result
        write_json(layers_path, _tensorrt_layers.to_json(engine.layers))
        write_whole(plan_path, engine.plan)  # last: it is what makes the pair complete
        _forget_oldest(_KEPT_BYTES)
    return engine


def _find_kept(plan_path: Path, layers_path: Path) -> Engine | None:
    try:
        plan = plan_path.read_bytes()
        layers = _tensorrt_layers.from_json(json.loads(layers_path.read_text(encoding="utf-8")))
        os.utime(plan_path)  # used now: it is forgotten last
    except (OSError, ValueError, TypeError, KeyError):  # absent or damaged: built anew
        return None
    return Engine(plan=plan, layers=layers, reused=True)


def _forget_oldest(limit_bytes: int) -> None:
    """Delete the engines that were not used for longest until the rest is within the limit."""
    found = sorted(((e.stat().st_mtime_ns, e.stat().st_size, e) for e in cache_folder().glob("*.engine")), reverse=True)
    total = 0
    for _, size, path in found:
        total += size
        if total > limit_bytes:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def _hash(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def make_logger(module: Any, keep: Callable[[str], None]) -> Any:
    """A logger for TensorRT that passes errors on, and what `Layers:` the builder made; the rest is not shown."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR) or message.startswith("Layers:"):
                keep(message)

    return Logger()


class _Build:
    """One build: the library's objects, which must outlive each other, and what it said."""

    def __init__(self, library: Library, settings: BuildSettings, path: Path) -> None:
        self._trt = library.module
        self._library = library
        self._settings = settings
        self._path = path
        self._said: list[str] = []
        self._logger = make_logger(self._trt, self._said.append)

    def run(self, model: bytes) -> Engine:
        trt = self._trt
        builder = trt.Builder(self._logger)
        network = self._network(builder)
        self._parse(network, model)
        weights = compute_in_half(network, trt) if self._settings.float_type == "fp16" else []
        self._free_layouts(network)
        config = self._config(builder)
        timings = self._load_timings(config)
        plan = builder.build_serialized_network(network, config)
        weights.clear()  # read until here
        if plan is None:
            words = self._words()
            self._recover(builder)
            raise MeasurementError(f"{self._library.name} cannot build {self._path}: {words}")
        self._keep_timings(config, timings)
        told = next((message for message in self._said if message.startswith("Layers:")), "")
        return Engine(plan=bytes(plan), layers=_tensorrt_layers.layers_from_log(told), reused=False)

    def _network(self, builder: Any) -> Any:
        return builder.create_network(1 << int(self._trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))

    def _config(self, builder: Any) -> Any:
        config = builder.create_builder_config()
        config.profiling_verbosity = self._trt.ProfilingVerbosity.DETAILED
        config.builder_optimization_level = self._settings.optimization_level
        config.set_memory_pool_limit(self._trt.MemoryPoolType.WORKSPACE, self._settings.workspace_mib << 20)
        if self._settings.float_type == "fp32":
            config.clear_flag(self._trt.BuilderFlag.TF32)
        else:
            config.set_flag(self._trt.BuilderFlag.TF32)
        self._aim(config)
        return config

    def _recover(self, builder: Any) -> None:
        """Build next to nothing: TensorRT-RTX 1.7 makes the engine after a failed one for the failed one's target."""
        network = self._network(builder)
        nothing = network.add_identity(network.add_input("x", self._trt.DataType.FLOAT, (1,)))
        network.mark_output(nothing.get_output(0))
        builder.build_serialized_network(network, self._config(builder))

    def _parse(self, network: Any, model: bytes) -> None:
        trt = self._trt
        parser = trt.OnnxParser(network, self._logger)
        parsed = parser.parse(model)
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        unreadable = any(e.code() == trt.ErrorCode.MODEL_DESERIALIZE_FAILED for e in errors)
        if unreadable or (parsed and not network.num_outputs):  # some text is read as a model of nothing
            raise ArtefactError(f"{self._path} is not an ONNX model")
        if not parsed:
            told = "; ".join(f"{e.node_name() or 'model'}: {e.desc()}" for e in errors)
            raise MeasurementError(f"{self._library.name} refuses {self._path}: {told or self._words()}")

    def _free_layouts(self, network: Any) -> None:
        """Let TensorRT choose how images lie at a block's ends, as it chooses inside a network."""
        ends = [network.get_input(i) for i in range(network.num_inputs)]
        ends += [network.get_output(i) for i in range(network.num_outputs)]
        for tensor in ends:
            names = free_formats(tuple(tensor.shape), str(tensor.dtype.name))
            tensor.allowed_formats = sum(1 << int(getattr(self._trt.TensorFormat, name)) for name in names)

    def _aim(self, config: Any) -> None:
        target = self._settings.target
        if not target:
            if self._library.cross_builds:
                config.num_compute_capabilities = 1
                config.set_compute_capability(self._trt.ComputeCapability.CURRENT, 0)
            return
        if not self._library.cross_builds:
            raise MeasurementError(
                f"{self._library.name} builds for the GPU that is there only; building for {target} without one takes "
                "TensorRT-RTX: pip install 'hwnas[tensorrt]', where the full TensorRT is not installed"
            )
        known = self._trt.ComputeCapability.__members__
        name = target.upper().replace("_", "")
        if name not in known or not name.startswith("SM"):
            targets = ", ".join(sorted(f"sm_{k[2:]}" for k in known if k.startswith("SM")))
            raise ConfigError(
                f"{self._library.name} {self._library.version} has no target {target!r}; known: {targets}"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(known[name], 0)

    def _load_timings(self, config: Any) -> Path | None:
        """Give the builder the kernels' times of earlier builds. TensorRT-RTX, which times nothing, has none."""
        if self._library.name != "TensorRT":
            return None
        path = cache_path(self._library, self._settings, "timings")
        try:
            known = path.read_bytes()
        except OSError:
            known = b""
        cache = config.create_timing_cache(known)
        config.set_timing_cache(cache, ignore_mismatch=False)
        return path

    def _keep_timings(self, config: Any, path: Path | None) -> None:
        if path is None:
            return
        with suppress(OSError):  # a full or read-only disk costs time, not the result
            write_whole(path, bytes(config.get_timing_cache().serialize()))

    def _words(self) -> str:
        return "; ".join(m for m in self._said if not m.startswith("Layers:")) or "it does not say why"

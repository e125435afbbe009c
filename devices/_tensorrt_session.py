"""An engine in a GPU: buffers bound once, runs queued in one stream, times by events around them.

Knows TensorRT's loaded engines and the GPU, not how engines are built. It has never run on a GPU: see tensorrt.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import MeasurementError
from hwnas.files import write_whole
from hwnas.types import Array

from . import _tensorrt_layers
from ._shared import random_array
from ._tensorrt_cuda import Cuda
from ._tensorrt_engine import BuildSettings, Engine, cache_path, make_logger
from ._tensorrt_layouts import pack, packed_shape, unpack
from ._tensorrt_library import Library

_SEED = 0  # of the timed inputs: the same in every process


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """An input or output of the engine, and its device memory.

    Attributes:
        name: in the engine.
        shape: (N, ...) as the network has it.
        dtype: of an element.
        layout: the name of TensorRT's format.
        address: of its memory.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    layout: str
    address: int

    @property
    def given_dtype(self) -> np.dtype[Any]:
        """Of the arrays people give and get: a block's half ends are float32 there, as the artefact says."""
        return np.dtype(np.float32) if self.dtype.kind == "f" else self.dtype

    @property
    def packed(self) -> Array:
        """An empty array with the bytes of this tensor."""
        return np.empty(packed_shape(self.shape, self.layout), self.dtype)


class TensorRtSession:
    """A loaded engine."""

    def __init__(
        self, engine: Engine, library: Library, cuda: Cuda, path: Path, *, settings: BuildSettings, cuda_graph: bool
    ) -> None:
        """Load the engine into the GPU.

        Raises:
            MeasurementError: TensorRT refuses it, or the GPU's memory is too small.
        """
        self._library = library
        self._cuda = cuda
        self._path = path
        self._reused = engine.reused
        self._settings = settings
        self._use_graph = cuda_graph
        self._said: list[str] = []
        self._logger = make_logger(library.module, self._said.append)
        self._compiled: Any = None  # TensorRT-RTX's cache of compiled kernels
        self._graph: Any = None
        self._ready = False  # the random inputs are in the GPU, and a graph is captured
        self._inputs: list[_End] = []
        self._outputs: list[_End] = []
        self._loaded: Any = None
        self._context: Any = None
        try:
            cuda.activate()
            self._load(engine.plan)
            self._bind()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs for these inputs; several samples are run one after the other, as engines have batch 1."""
        self._check_open()
        self._check_inputs(inputs)
        self._ready = False  # the timed inputs are overwritten
        batch = self._inputs[0].shape[0]
        count = inputs[0].shape[0]
        results: list[tuple[Array, ...]] = []
        for start in range(0, count, batch):
            for end, array in zip(self._inputs, inputs, strict=True):
                sample = array[start : start + batch].astype(end.dtype, copy=False)
                self._cuda.upload(pack(sample, end.layout), end.address)
            self._queue()
            results.append(tuple(self._fetch(end) for end in self._outputs))
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))

    def time_ns(self, *, iterations: int) -> int:
        """Nanoseconds of that many runs on fixed random inputs, between two events in the GPU's stream."""
        self._check_open()
        self._prepare()
        return self._cuda.time_ns(self._launch(), iterations=iterations)

    def info(self) -> Mapping[str, str]:
        """Provider, GPU, layers by kind, types of products, what floats are, and whether it was built before."""
        self._check_open()
        trt = self._library.module
        inspector = self._loaded.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        return {
            "provider": f"{self._library.name} {self._library.version}",
            "gpu": f"{self._cuda.name} ({self._cuda.target})",
            "float_type": self._settings.float_type,
            "cuda_graph": str(self._use_graph),
            "engine": "reused" if self._reused else "built",
            "layouts": ", ".join(f"{end.name} {end.layout}" for end in (*self._inputs, *self._outputs)),
            **_tensorrt_layers.summary(_tensorrt_layers.layers_from_inspector(text)),
        }

    def costs(self) -> Mapping[str, float]:
        """`memory_bytes`: device memory for activations and scratch, as the engine states it; not its weights."""
        self._check_open()
        name = "device_memory_size_v2" if hasattr(self._loaded, "device_memory_size_v2") else "device_memory_size"
        return {"memory_bytes": float(getattr(self._loaded, name))}

    def __enter__(self) -> TensorRtSession:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._graph is not None:
            self._cuda.forget(self._graph)
        if self._compiled is not None:
            self._keep_compiled()
        for end in (*self._inputs, *self._outputs):
            self._cuda.free(end.address)
        self._inputs, self._outputs = [], []
        self._graph = self._compiled = self._context = self._loaded = None  # the context before its engine
        self._cuda.close()

    def _load(self, plan: bytes) -> None:
        runtime = self._library.module.Runtime(self._logger)
        self._loaded = runtime.deserialize_cuda_engine(plan)
        if self._loaded is not None:
            self._context = self._create_context()
        if self._loaded is None or self._context is None:
            raise MeasurementError(f"{self._library.name} cannot load the engine of {self._path}: {self._words()}")

    def _create_context(self) -> Any:
        if not hasattr(self._loaded, "create_runtime_config"):
            return self._loaded.create_execution_context()
        # TensorRT-RTX compiles kernels when an engine is first run; kept, they are not compiled in every process
        config = self._loaded.create_runtime_config()
        if hasattr(config, "create_runtime_cache"):
            self._compiled = config.create_runtime_cache()
            with suppress(OSError):  # none yet
                self._compiled.deserialize(self._compiled_path().read_bytes())
            config.set_runtime_cache(self._compiled)
        return self._loaded.create_execution_context(config)

    def _compiled_path(self) -> Path:
        return cache_path(self._library, self._settings, "kernels")

    def _keep_compiled(self) -> None:
        with suppress(OSError):  # a full or read-only disk costs time, not the result
            write_whole(self._compiled_path(), bytes(self._compiled.serialize()))

    def _bind(self) -> None:
        trt, loaded = self._library.module, self._loaded
        for i in range(loaded.num_io_tensors):
            name = loaded.get_tensor_name(i)
            shape = tuple(int(n) for n in loaded.get_tensor_shape(name))
            if any(n < 0 for n in shape):
                raise MeasurementError(
                    f"{self._path} leaves the shape {shape} of {name!r} open; export it with a fixed batch"
                )
            dtype = np.dtype(trt.nptype(loaded.get_tensor_dtype(name)))
            layout = str(loaded.get_tensor_format(name).name)
            size_bytes = int(np.prod(packed_shape(shape, layout))) * dtype.itemsize
            end = _End(name=name, shape=shape, dtype=dtype, layout=layout, address=self._cuda.allocate(size_bytes))
            is_input = loaded.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (self._inputs if is_input else self._outputs).append(end)
            self._context.set_tensor_address(name, end.address)

    def _queue(self) -> None:
        if not self._context.execute_async_v3(self._cuda.stream):
            raise MeasurementError(f"{self._library.name} cannot run the engine of {self._path}: {self._words()}")

    def _prepare(self) -> None:
        if not self._ready:
            rng = np.random.default_rng(_SEED)
            for end in self._inputs:
                self._cuda.upload(pack(random_array(rng, end.shape, end.dtype), end.layout), end.address)
            self._queue()  # the first run allocates, and compiles in TensorRT-RTX: neither may be captured
            self._cuda.wait()
            self._ready = True
        if self._use_graph and self._graph is None:
            try:
                self._graph = self._cuda.capture(self._queue)
            except MeasurementError as e:
                raise MeasurementError(
                    f"the engine of {self._path} cannot be captured in a CUDA graph ({e}); set the device's option "
                    "cuda_graph = false"
                ) from e

    def _launch(self) -> Callable[[], None]:
        if self._graph is None:
            return self._queue
        graph, launch = self._graph, self._cuda.launch
        return lambda: launch(graph)

    def _fetch(self, end: _End) -> Array:
        packed = end.packed
        self._cuda.download(end.address, packed)
        return unpack(packed, end.shape, end.layout).astype(end.given_dtype, copy=False)

    def _check_inputs(self, inputs: Sequence[Array]) -> None:
        wanted = ", ".join(f"{end.name} {end.given_dtype} {end.shape}" for end in self._inputs)
        fits = len(inputs) == len(self._inputs) and all(
            array.dtype == end.given_dtype
            and array.shape[1:] == end.shape[1:]
            and array.shape[:1] == inputs[0].shape[:1]
            and array.size > 0
            and array.shape[0] % end.shape[0] == 0
            for array, end in zip(inputs, self._inputs, strict=True)
        )
        if not fits:
            given = ", ".join(f"{array.dtype} {array.shape}" for array in inputs)
            raise MeasurementError(f"{self._path} takes {wanted}, but was given {given or 'nothing'}")

    def _check_open(self) -> None:
        if self._context is None:
            raise MeasurementError(f"the session of {self._path} is closed; load the artefact again")

    def _words(self) -> str:
        return "; ".join(m for m in self._said if not m.startswith("Layers:")) or "it does not say why"

"""The few calls of the CUDA driver that running an engine takes: memory, a stream, events, a graph.

It is the driver's own library, which every machine with an NVIDIA GPU has, so that a board needs no toolkit. Knows
bytes and handles, not TensorRT. Without a GPU only the search for one has ever run; the rest is tried on a driver
made up in `tests/devices/made_up_tensorrt.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np

from hwnas.errors import MeasurementError
from hwnas.types import Array

_NAMES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
_CC_MAJOR, _CC_MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_CAPTURE_THREAD_LOCAL = 1  # CUstreamCaptureMode


class NoGpuError(MeasurementError):
    """There is no GPU that CUDA can use.

    What to do: take a machine with an NVIDIA GPU and its driver, or another device.
    """


def _library() -> Any:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NoGpuError("this machine has no NVIDIA driver (libcuda)")


class Cuda:
    """One GPU, its primary context, and one stream in which everything is done.

    Args:
        index: of the GPU.
        library: of the driver; None looks for it.
    """

    def __init__(self, *, index: int = 0, library: Any = None) -> None:
        """Raises NoGpuError if there is no such GPU."""
        self._library = library if library is not None else _library()
        self._stream: c_void_p | None = None
        count = c_int()
        try:
            self._call("cuInit", c_uint(0))
            self._call("cuDeviceGetCount", byref(count))
        except MeasurementError as e:
            raise NoGpuError(f"the NVIDIA driver finds no GPU ({e})") from e
        if not 0 <= index < count.value:
            raise NoGpuError(f"there is no GPU {index}; this machine has {count.value}")
        self._device = c_int()
        self._call("cuDeviceGet", byref(self._device), c_int(index))

    @property
    def name(self) -> str:
        """Of the GPU, as its driver has it."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, c_int(len(text)), self._device)
        return text.value.decode(errors="replace")

    @property
    def target(self) -> str:
        """The GPU's compute capability: `sm_87`."""
        return f"sm_{self._attribute(_CC_MAJOR)}{self._attribute(_CC_MINOR)}"

    @property
    def driver_version(self) -> str:
        """The CUDA version the driver knows: `12.6`."""
        version = c_int()
        self._call("cuDriverGetVersion", byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def activate(self) -> None:
        """Make this GPU the one that TensorRT finds in this thread."""
        self._open()

    @property
    def stream(self) -> int:
        """The stream's handle, for TensorRT."""
        stream = self._open()
        assert stream.value is not None
        return stream.value

    def allocate(self, size_bytes: int) -> int:
        """The address of new device memory, filled with zeros."""
        stream, size = self._open(), c_size_t(max(1, size_bytes))
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        self._call("cuMemsetD8Async", address, c_ubyte(0), size, stream)  # in the stream: before what is copied there
        return address.value

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cuMemFree_v2", c_uint64(address))

    def upload(self, array: Array, address: int) -> None:
        """Copy a contiguous array to the device, and wait."""
        self._call("cuMemcpyHtoDAsync_v2", c_uint64(address), _pointer(array), c_size_t(array.nbytes), self._open())
        self.wait()

    def download(self, address: int, array: Array) -> None:
        """Fill a contiguous array from the device, after all that was queued."""
        self._call("cuMemcpyDtoHAsync_v2", _pointer(array), c_uint64(address), c_size_t(array.nbytes), self._open())
        self.wait()

    def wait(self) -> None:
        """Until everything queued is done."""
        self._call("cuStreamSynchronize", self._open())

    def time_ns(self, queue: Callable[[], None], *, iterations: int) -> int:
        """Nanoseconds between two events around what `queue` puts into the stream, that many times."""
        start, end = c_void_p(), c_void_p()
        stream = self._open()
        self._call("cuEventCreate", byref(start), c_uint(0))
        self._call("cuEventCreate", byref(end), c_uint(0))
        try:
            self._call("cuEventRecord", start, stream)
            for _ in range(iterations):
                queue()
            self._call("cuEventRecord", end, stream)
            self._call("cuEventSynchronize", end)
            elapsed_ms = c_float()
            self._call("cuEventElapsedTime", byref(elapsed_ms), start, end)
        finally:
            self._call("cuEventDestroy_v2", start)
            self._call("cuEventDestroy_v2", end)
        return max(1, round(elapsed_ms.value * 1e6))

    def capture(self, queue: Callable[[], None]) -> c_void_p:
        """What `queue` puts into the stream, as a graph that launches in one call."""
        stream, graph, launchable = self._open(), c_void_p(), c_void_p()
        self._call("cuStreamBeginCapture_v2", stream, c_int(_CAPTURE_THREAD_LOCAL))
        try:
            queue()
        finally:  # also ends a capture that failed, or the stream stays unusable
            self._call("cuStreamEndCapture", stream, byref(graph))
        self._call("cuGraphInstantiateWithFlags", byref(launchable), graph, ctypes.c_ulonglong(0))
        self._call("cuGraphDestroy", graph)
        return launchable

    def launch(self, graph: c_void_p) -> None:
        """Put a captured graph into the stream."""
        self._call("cuGraphLaunch", graph, self._open())

    def forget(self, graph: c_void_p) -> None:
        """Free a captured graph."""
        self._call("cuGraphExecDestroy", graph)

    def close(self) -> None:
        """Free the stream and let the context go."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._call("cuStreamDestroy_v2", stream)
            self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _open(self) -> c_void_p:
        """The stream; the first call makes the GPU's primary context current, which TensorRT uses too."""
        if self._stream is None:
            context, stream = c_void_p(), c_void_p()
            self._call("cuDevicePrimaryCtxRetain", byref(context), self._device)
            self._call("cuCtxSetCurrent", context)
            self._call("cuStreamCreate", byref(stream), c_uint(1))  # it does not wait for the default stream
            self._stream = stream
        return self._stream

    def _attribute(self, number: int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), c_int(number), self._device)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise MeasurementError(f"CUDA's {function} failed: {self._words(status)}")

    def _words(self, status: int) -> str:
        text = c_char_p()
        self._library.cuGetErrorString(c_int(status), byref(text))
        return f"{text.value.decode()} ({status})" if text.value else f"error {status}"


def _pointer(array: Array) -> c_void_p:
    assert array.flags.c_contiguous, np.shape(array)
    return c_void_p(array.ctypes.data)

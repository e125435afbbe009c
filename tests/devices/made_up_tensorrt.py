"""A CUDA driver and a TensorRT made up in Python, to try what runs engines without a GPU.

The driver's memory is ours, its clock is a counter, and the engine doubles an int8 image that lies in HWC16.
"""

# ruff: noqa: N802, N815  the names are CUDA's and TensorRT's

import ctypes
from enum import Enum

import numpy as np

from hwnas.precisions import is_quantized
from hwnas.types import Block

OUT_OF_MEMORY, NOT_READY = 2, 600
RUN_MS = 0.25  # of the clock, for a run of the engine
LAUNCH_MS = 0.05  # what a run costs besides, unless a graph launches it


def deep_blocks(precision, *, depth):
    """A network for images (3, 8, 8) whose work grows with its depth."""
    conv = (("activation", "relu"), ("kernel_size", 3), ("stride", 1))
    mbconv = tuple(sorted((*conv, ("hidden_channels", 32), ("se_channels", 0))))
    head = (("activation", "relu"), ("features", 0), ("hidden_channels", 16))
    image, shape = (3, 8, 8), (8, 8, 8)
    parts = [("conv", image, shape, conv), *[("mbconv", shape, shape, mbconv)] * depth, ("head", shape, (4,), head)]
    blocks = [
        Block(kind=kind, in_shape=a, out_shape=b, precision=precision, attributes=attributes)
        for kind, a, b, attributes in parts
    ]
    if not is_quantized(precision):
        return blocks
    ends = [
        Block(kind=k, in_shape=s, out_shape=s, precision=precision)
        for k, s in (("quantize", image), ("dequantize", (4,)))
    ]
    return [ends[0], *blocks, ends[1]]


class MadeUpDriver:
    """The functions of libcuda that are called, with what ctypes gives them."""

    def __init__(self, *, gpus=1):
        self.gpus = gpus
        self.clock_ms = 0.0
        self.memory = {}
        self.streams, self.events, self.graphs = set(), {}, {}
        self.capturing = None
        self.contexts = 0
        self.fail = ""  # the name of a function
        self._handles = iter(range(1, 10_000))

    def __getattribute__(self, name):
        if name.startswith("cu") and name == object.__getattribute__(self, "fail"):
            return lambda *arguments: OUT_OF_MEMORY
        return object.__getattribute__(self, name)

    @property
    def left(self):
        """Whatever was made and not freed."""
        return [*self.memory, *self.streams, *self.events, *self.graphs, *range(self.contexts)]

    def cuInit(self, flags):
        return 0 if self.gpus else 100

    def cuGetErrorString(self, status, text):
        text._obj.value = {100: b"no CUDA-capable device is detected", 2: b"out of memory"}.get(status.value)
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index.value
        return 0

    def cuDeviceGetName(self, text, size, device):
        text.value = b"Made-up GPU"
        return 0

    def cuDeviceGetAttribute(self, value, number, device):
        value._obj.value = {75: 8, 76: 7}[number.value]
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = 12060
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        self.contexts += 1
        context._obj.value = 7
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device):
        self.contexts -= 1
        return 0

    def cuCtxSetCurrent(self, context):
        return 0 if context.value == 7 else 201

    def cuStreamCreate(self, stream, flags):
        stream._obj.value = next(self._handles)
        self.streams.add(stream._obj.value)
        return 0

    def cuStreamDestroy_v2(self, stream):
        self.streams.remove(stream.value)
        return 0

    def cuStreamSynchronize(self, stream):
        return 0 if stream.value in self.streams else 400

    def cuMemAlloc_v2(self, address, size):
        memory = ctypes.create_string_buffer(b"\xff" * size.value, size.value)
        address._obj.value = ctypes.addressof(memory)
        self.memory[address._obj.value] = memory
        return 0

    def cuMemsetD8Async(self, address, value, size, stream):
        ctypes.memset(address.value, value.value, size.value)
        return 0

    def cuMemFree_v2(self, address):
        del self.memory[address.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, address, pointer, size, stream):
        assert size.value <= len(self.memory[address.value])
        ctypes.memmove(address.value, pointer.value, size.value)
        return 0

    def cuMemcpyDtoHAsync_v2(self, pointer, address, size, stream):
        assert size.value <= len(self.memory[address.value])
        ctypes.memmove(pointer.value, address.value, size.value)
        return 0

    def cuEventCreate(self, event, flags):
        event._obj.value = next(self._handles)
        self.events[event._obj.value] = None
        return 0

    def cuEventRecord(self, event, stream):
        self.events[event.value] = self.clock_ms
        return 0

    def cuEventSynchronize(self, event):
        return 0

    def cuEventElapsedTime(self, elapsed, start, end):
        elapsed._obj.value = self.events[end.value] - self.events[start.value]
        return 0

    def cuEventDestroy_v2(self, event):
        del self.events[event.value]
        return 0

    def cuStreamBeginCapture_v2(self, stream, mode):
        self.capturing = []
        return 0

    def cuStreamEndCapture(self, stream, graph):
        graph._obj.value = next(self._handles)
        self.graphs[graph._obj.value], self.capturing = self.capturing, None
        return 0

    def cuGraphInstantiateWithFlags(self, launchable, graph, flags):
        launchable._obj.value = next(self._handles)
        self.graphs[launchable._obj.value] = self.graphs[graph.value]
        return 0

    def cuGraphDestroy(self, graph):
        del self.graphs[graph.value]
        return 0

    cuGraphExecDestroy = cuGraphDestroy

    def cuGraphLaunch(self, graph, stream):
        for run in self.graphs[graph.value]:
            run()
            self.clock_ms += RUN_MS
        return 0


class TensorIOMode(Enum):
    INPUT = 0
    OUTPUT = 1


class TensorFormat(Enum):
    LINEAR = 0
    HWC16 = 11


class MadeUpEngine:
    """Takes `input` (1, 5, 2, 3) int8 in HWC16, gives `output` (1, 5, 2, 3) float32: twice as much."""

    num_io_tensors = 2
    device_memory_size_v2 = 4096
    shape = (1, 5, 2, 3)

    def __init__(self, driver):
        self.driver = driver

    def get_tensor_name(self, index):
        return ("input", "output")[index]

    def get_tensor_shape(self, name):
        return self.shape

    def get_tensor_dtype(self, name):
        return {"input": np.int8, "output": np.float32}[name]

    def get_tensor_format(self, name):
        return {"input": TensorFormat.HWC16, "output": TensorFormat.LINEAR}[name]

    def get_tensor_mode(self, name):
        return {"input": TensorIOMode.INPUT, "output": TensorIOMode.OUTPUT}[name]

    def create_execution_context(self):
        return MadeUpContext(self)

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, format):
        assert format == "json"
        return """{"Layers": [
            {"Name": "conv", "LayerType": "CaskConvolution",
             "Inputs": [{"Format/Datatype": "Channel major INT8 format"}],
             "Outputs": [{"Format/Datatype": "Row major linear FP32"}], "Metadata": "[ONNX Layer: /conv/Conv]"},
            {"Name": "copy", "LayerType": "Reformat", "Inputs": [], "Outputs": []}]}"""


class MadeUpRtxEngine(MadeUpEngine):
    """TensorRT-RTX's, which keeps what it compiled in a cache; `given` is what that cache began with."""

    given = None

    def create_runtime_config(self):
        return self

    def create_runtime_cache(self):
        return self

    def deserialize(self, data):
        type(self).given = data

    def serialize(self):
        return b"kernels"

    def set_runtime_cache(self, cache):
        assert cache is self

    def create_execution_context(self, config):
        return MadeUpContext(self)


class MadeUpContext:
    def __init__(self, engine):
        self.engine, self.driver = engine, engine.driver
        self.addresses = {}

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        assert stream in self.driver.streams
        if self.driver.capturing is not None:
            self.driver.capturing.append(self._run)
        else:
            self._run()
            self.driver.clock_ms += RUN_MS + LAUNCH_MS
        return True

    def _run(self):
        given = np.frombuffer(self.driver.memory[self.addresses["input"]], np.int8, 2 * 3 * 16)
        pixels = given.reshape(2, 3, 16)[:, :, :5]
        result = 2 * pixels.transpose(2, 0, 1).astype(self.engine.get_tensor_dtype("output"))
        ctypes.memmove(self.addresses["output"], result.tobytes(), result.nbytes)


class MadeUpTensorRt:
    """The module."""

    TensorIOMode = TensorIOMode

    class LayerInformationFormat:
        JSON = "json"

    class ILogger:
        ERROR, INTERNAL_ERROR = "error", "internal error"

        def __init__(self):
            pass

    def __init__(self, driver, *, engine=MadeUpEngine):
        self.driver = driver
        self.engine = engine

    def Runtime(self, logger):
        self.logger = logger
        return self

    def deserialize_cuda_engine(self, plan):
        if plan != b"plan":
            self.logger.log("error", "the plan is for another GPU")
            return None
        return self.engine(self.driver)

    def nptype(self, dtype):
        return dtype

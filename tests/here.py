"""What this machine's processor makes of int8: tests of real runtimes promise no more than it computes."""

from hwnas.devices import load_device
from hwnas.devices.host import host_context
from hwnas.devices.onnxruntime import OnnxRuntime
from hwnas.precisions import computed_in

INTEGERS = computed_in(OnnxRuntime(), load_device("cpu"), host_context(threads=1))["int8"]

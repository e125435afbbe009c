"""An x86 processor without VNNI, which QEMU plays where this machine has it: 8-bit weights saturate, 7-bit ones do not.

The emulator runs this very Python with the ONNX Runtime that is installed here.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

QEMU = "qemu-x86_64-static"
_RUN = """
import json, sys
import numpy as np
import onnxruntime as ort
x = np.ones((1, 64, 4, 4), np.float32)
sessions = [ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in sys.argv[1:]]
print(json.dumps([float(s.run(None, {"x": x})[0].max()) for s in sessions]))
"""


def write_convolution(path: Path, *, largest: int) -> Path:
    """64 channels of 1.0 times weights of 1.0, whose quantized value is `largest`: every output is 64."""
    values = {
        "scale": np.float32(1 / 255),
        "zero": np.uint8(0),
        "weights": np.full((8, 64, 1, 1), largest, np.int8),
        "weight_scale": np.full(8, 1 / largest, np.float32),
        "weight_zero": np.zeros(8, np.int8),
        "out_scale": np.float32(64 / 255),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_quantized"]),
        helper.make_node("DequantizeLinear", ["x_quantized", "scale", "zero"], ["given"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["kernel"], axis=0),
        helper.make_node("Conv", ["given", "kernel"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "out_scale", "zero"], ["y_quantized"]),
        helper.make_node("DequantizeLinear", ["y_quantized", "out_scale", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), str(path))
    return path


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not installed (Debian's qemu-user-static)")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the emulator runs this machine's own Python")
def test_8_bit_weights_saturate_there_and_7_bit_weights_do_not(tmp_path: Path) -> None:
    paths = [str(write_convolution(tmp_path / f"{largest}.onnx", largest=largest)) for largest in (127, 63)]
    done = subprocess.run(
        [QEMU, "-cpu", "Haswell", sys.executable, "-c", _RUN, *paths],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    of_8_bits, of_7_bits = json.loads(done.stdout.splitlines()[-1])
    assert of_7_bits == pytest.approx(64, rel=1e-3)
    if of_8_bits == pytest.approx(64, rel=1e-3):
        pytest.skip("this version of the emulator has no AVX2, or this ONNX Runtime no longer saturates without VNNI")
    assert of_8_bits == pytest.approx(32.25, rel=0.01)  # each sum of two products ends at 32,767 of 64,770


def test_sums_of_16_bits_as_the_processor_adds_them() -> None:
    """VPMADDUBSW: the fault and its mend, in arithmetic, whatever processor this is."""
    activations = np.full(64, 255, np.int64)
    for largest, exact in ((127, False), (63, True)):
        products = (activations * largest).reshape(-1, 2).sum(1)
        saturated = products.clip(-(2**15), 2**15 - 1)
        assert bool(saturated.sum() == products.sum()) is exact

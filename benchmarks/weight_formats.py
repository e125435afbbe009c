"""Whether weights of four bits pay on ONNX Runtime: single linear layers in fp32, int8 and with int4 weights.

Weights alone in integers (int4 in groups of 32 with a scale each, `MatMulNBits`) make a file smaller; floats are
computed with them, or int8 activations that are rounded on the way (`accuracy_level` 4). Layers of the transformer
spaces that come with hwnas, of larger ones, and classifiers; one thread, fastest of many batches, in turns.
Convolutions have no such kernel. Weights are random: latency does not depend on them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script

if TYPE_CHECKING:
    import onnx

# name -> positions, features in, features out
LAYERS: Mapping[str, tuple[int, int, int]] = {
    "vit_tiny_mlp": (64, 96, 384),
    "autoformer_tiny_mlp": (196, 192, 768),
    "vit_base_mlp": (196, 768, 3072),
    "classifier_1280": (1, 1280, 1000),
    "vector_4096": (1, 4096, 4096),
}
FORMATS = ("fp32", "int8", "int4w", "int4w_a8")
_GROUP = 32  # of weights that share a scale
_BATCH_MS, _ROUNDS = 2.0, 40


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"in which every layer is timed ({_ROUNDS})")
    bench = Benchmark("weight_formats", parser, argv)
    rounds = 2 if bench.smoke else bench.options.rounds
    layers = {"vit_tiny_mlp": LAYERS["vit_tiny_mlp"]} if bench.smoke else LAYERS
    figures = []
    details: dict[str, Any] = {}
    for name, shape in layers.items():
        found = timed(shape, rounds=rounds)
        details[name] = found
        figures.append(Figure(name=f"{name}_fp32_ms", value=found["fp32"]["ms"]))
        figures += [
            Figure(name=f"{name}_{form}_times_as_fast", value=found["fp32"]["ms"] / found[form]["ms"])
            for form in FORMATS[1:]
        ]
        figures.append(Figure(name=f"{name}_int4w_size", value=found["int4w"]["bytes"] / found["fp32"]["bytes"]))
    return bench.publish(figures, details=details)


def timed(shape: tuple[int, int, int], *, rounds: int) -> dict[str, dict[str, float]]:
    """Format -> milliseconds of a run, and bytes of the file.

    Args:
        shape: positions, features in, features out.
        rounds: of all formats in turns; the fastest batch counts.
    """
    import numpy as np
    import onnxruntime

    positions, features, _ = shape
    x = np.random.default_rng(0).standard_normal((positions, features), dtype=np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions, sizes = {}, {}
    with tempfile.TemporaryDirectory(prefix="hwnas-formats-") as folder:
        for form in FORMATS:
            path = Path(folder, f"{form}.onnx")
            path.write_bytes(layer(form, shape).SerializeToString())
            sizes[form] = path.stat().st_size
            sessions[form] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    best = dict.fromkeys(FORMATS, float("inf"))
    runs = {form: max(1, round(_BATCH_MS / batch_ms(session, x, 3))) for form, session in sessions.items()}
    for _ in range(rounds):
        for form, session in sessions.items():
            best[form] = min(best[form], batch_ms(session, x, runs[form]))
    return {form: {"ms": best[form], "bytes": float(sizes[form])} for form in FORMATS}


def batch_ms(session: Any, x: Any, n: int) -> float:
    """Milliseconds of a run, of so many one after the other."""
    import time

    began = time.perf_counter()
    for _ in range(n):
        session.run(None, {"x": x})
    return 1e3 * (time.perf_counter() - began) / n


def layer(form: str, shape: tuple[int, int, int]) -> onnx.ModelProto:
    """A linear layer from floats to floats as a file, its weights in a format."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    positions, k, n = shape
    rng = np.random.default_rng(1)
    weights: dict[str, Any] = {}
    if form == "fp32":
        weights["w"] = rng.standard_normal((k, n), dtype=np.float32)
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    elif form == "int8":
        scale, zero = np.array(0.03, np.float32), np.array(0, np.int8)
        weights |= {"s": scale, "z": zero, "w": rng.integers(-127, 128, (k, n), dtype=np.int8)}
        weights |= {"ws": np.full(n, 0.01, np.float32), "wz": np.zeros(n, np.int8)}
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
            helper.make_node("MatMul", ["xd", "wd"], ["m"]),
            helper.make_node("QuantizeLinear", ["m", "s", "z"], ["mq"]),
            helper.make_node("DequantizeLinear", ["mq", "s", "z"], ["y"]),
        ]
    else:
        groups = k // _GROUP
        weights["w"] = rng.integers(0, 256, (n, groups, _GROUP // 2), dtype=np.uint8)
        weights["ws"] = np.full((n, groups), 0.01, np.float32)
        level = {"accuracy_level": 4} if form == "int4w_a8" else {}
        attributes = {"K": k, "N": n, "bits": 4, "block_size": _GROUP, **level}
        nodes = [helper.make_node("MatMulNBits", ["x", "w", "ws"], ["y"], domain="com.microsoft", **attributes)]
    graph = helper.make_graph(
        nodes,
        form,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [positions, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [positions, n])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=10)


if __name__ == "__main__":
    script(main)

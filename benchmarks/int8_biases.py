"""What rounding costs networks with ImageNet's weights, with and without corrected biases, and how torch and a runtime
differ in it.

MobileNetV2 and EfficientNet-Lite0 at 224 px, rounded after their training on some photographs (`_photographs.py`) and
held against the networks in floats on others: the signal-to-noise ratio of logits, and how often the first class is the
same. The same files through ONNX Runtime: how far it is from torch's integers, and from the floats.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from _common import Benchmark, Figure, script
from _photographs import photographs

from hwnas.torch_process import prepare_torch
from hwnas.types import Array

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS = ("mobilenet_v2", "lite0")  # functions of `_pretrained.py`
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--calibration", type=int, default=64, help="photographs by which ranges are found (64)")
    parser.add_argument("--images", type=int, default=256, help="others that are tried (256)")
    bench = Benchmark("int8_biases", parser, argv)
    prepare_torch(1)
    figures: list[Figure] = []
    for name in ["mlperf_resnet8"] if bench.smoke else bench.options.networks:
        n = (16, 16) if bench.smoke else (bench.options.calibration, bench.options.images)
        for corrected in (False, True):
            found = _rounded(name, calibration=n[0], images=n[1], corrected=corrected, smoke=bench.smoke)
            label = f"{name}_{'corrected' if corrected else 'as_rounded'}"
            figures += [Figure(name=f"{label}_{key}", value=value) for key, value in found.items()]
    return bench.publish(figures)


def _rounded(name: str, *, calibration: int, images: int, corrected: bool, smoke: bool) -> dict[str, float]:
    """What int8 is of one network."""
    import torch
    from _adapt_sweep import with_precision
    from _adapt_targets import Target, error_ratio

    from hwnas.precisions import INTEGERS, is_quantized
    from hwnas.spaces.adapted.wishes import Wishes, adapt
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.quantization import quantize
    from hwnas.supernet.tracing import trace_with_numbers

    side = 32 if smoke else 224
    graph, numbers = trace_with_numbers(_module(name, smoke=smoke), torch.zeros(1, 3, side, side), training=False)
    space = adapt(name, [graph], Wishes(width=(1.0,), residual=(1.0,), depth=False, kernel=False))
    target = Target.of("onnxruntime")
    network = AdaptedSupernet(space, numbers).extract(
        [
            (slot, replace(block, precision=target.computed[INTEGERS]) if is_quantized(block.precision) else block)
            for slot, block in with_precision(space, space.largest(), INTEGERS)
        ]
    )
    few, others = (_normalised(photographs(n, side=side, seed=seed)) for n, seed in ((calibration, 0), (images, 1)))
    model = quantize(network, few.split(32), correct_biases=corrected)
    with torch.inference_mode():
        floats, integers = (torch.cat([m(x) for x in others.split(32)]).numpy() for m in (network.eval(), model))
    _, through = target.outputs(model, others, INTEGERS)
    assert through is not None
    return {
        "snr_db": _snr_db(floats, integers),
        "same_class_percent": _same(floats, integers),
        "runtime_snr_db": _snr_db(floats, through),
        "runtime_same_class_percent": _same(floats, through),
        "runtime_as_torch_percent": _same(integers, through),
        "runtime_error_ratio": error_ratio(through, integers, floats),
    }


def _module(name: str, *, smoke: bool) -> nn.Module:
    from hwnas.supernet.given import load_given

    if smoke:
        return load_given("python:_tiny_networks:ResNet8").eval()
    import _pretrained

    return load_given(f"python:_pretrained:{name}", weights=_pretrained.weights(name)).eval()


def _normalised(images: Array) -> Tensor:
    """(N, H, W, C) pixels -> (N, C, H, W) as networks for ImageNet see them."""
    import torch

    from hwnas.data.tensors import normalise, to_unit_range

    return normalise(to_unit_range(torch.from_numpy(images).permute(0, 3, 1, 2)), mean=_MEAN, std=_STD)


def _snr_db(floats: Array, found: Array) -> float:
    """Of logits: the mean square of what is wanted over that of the error."""
    return float(10 * np.log10(np.square(floats).sum() / np.square(found - floats).sum()))


def _same(first: Array, second: Array) -> float:
    """Per cent of images whose first class is the same."""
    return float(100 * (first.argmax(1) == second.argmax(1)).mean())


if __name__ == "__main__":
    script(main)

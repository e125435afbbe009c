"""Runtimes that networks are tried on, and how near their outputs must be to torch's.

Knows files and arrays of outputs; never where a network comes from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas import registry
from hwnas.errors import SpaceError
from hwnas.precisions import EXACT, INTEGERS, computed_in, is_quantized
from hwnas.types import Array, Device, Exporter, Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

FP32 = 1e-4  # of an output, relative to the largest: the same operators by other code
INT8_STEPS = 4  # of the scale of the outputs: what exporters are held to
# Or else, of the error that int8 has in torch: a number on the edge between two integers, which two programs round to
# different sides, moves others over their edges, so that after many layers both are as far from each other as int8 is
# from fp32. But neither is further from that; with an operator that is wrong, it is.
INT8_ERROR = 1.25

# name on the command line -> description of the device whose runtime reads the files
FORMATS: Mapping[str, str] = {
    "onnxruntime": "cpu",
    "litert": "cpu-litert",
    "openvino": "cpu-openvino",
    "vela": "ethos-u55-128",
}
COMPILED_ONLY = ("vela",)  # its estimates need no run


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What files are made for.

    Attributes:
        name: one of FORMATS.
        exporter: of the files.
        runtime: that reads them.
        device: its description.
        computed: `fp32` and `int8` -> the name of what it computes them in here.
    """

    name: str
    exporter: Exporter
    runtime: Runtime
    device: Device
    computed: Mapping[str, str]

    @classmethod
    def of(cls, name: str) -> Target:
        """The target of one of FORMATS.

        Raises:
            MissingPackageError: its runtime is not installed.
        """
        from hwnas.devices import load_device

        device = load_device(FORMATS[name])
        runtime: Runtime = registry.load("runtimes", device.runtime)()
        format = next(f for f in registry.names("exporters") if f in runtime.formats)
        return cls(
            name=name,
            exporter=registry.load("exporters", format)(),
            runtime=runtime,
            device=device,
            computed=computed_in(runtime, device, runtime.context(device)),
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of `fp32` and `int8` that the device has."""
        return tuple(p for p in (EXACT, INTEGERS) if p in self.device.precisions)

    def outputs(self, model: nn.Module, x: Tensor, precision: str) -> tuple[int, Array | None]:
        """Write a network and run the file.

        Args:
            model: as it is deployed.
            x: samples.
            precision: `fp32` or `int8`.

        Returns:
            Bytes of the file, and what it gives; None where it is compiled and not run.
        """
        with tempfile.TemporaryDirectory(prefix="hwnas-zoo-") as folder:
            path = Path(folder, f"network.{self.exporter.format}")
            artefact = self.exporter.export(model, x[:1], path, precision=self.computed[precision])
            with self.runtime.load(artefact, self.device) as session:
                found = None if self.name in COMPILED_ONLY else through(session, artefact, x)
            return artefact.size_bytes, found


def through(session: Any, artefact: Any, x: Tensor) -> Array:
    """What a file gives for these inputs, one after the other, as float32."""
    from hwnas.measure.interface import answers, to_artefact

    samples = [sample[None] for sample in x.numpy()]
    if x.is_floating_point():
        given = [to_artefact(s, artefact.input) for s in samples]
    else:  # token ids; a file that says nothing of theirs takes them as torch does
        spec = artefact.input.dtype
        given = [s.astype(spec) if spec.startswith("int") else s for s in samples]
    return np.concatenate([answers(session.run([one]), artefact) for one in given])


def apart(row: Array, model: nn.Module | None) -> list[Array]:
    """What a network gives, each of several outputs by itself."""
    from hwnas.row_parts import split_outputs
    from hwnas.supernet.parting import parts_of

    parts = () if model is None else parts_of(model)
    return list(split_outputs(row, parts).values()) if parts else [row]


def measured(found: Array, expected: Array, model: nn.Module) -> dict[str, float]:
    """How far a runtime's outputs are from torch's: absolutely, relative to the largest, in steps of their scale.

    Of several outputs each is measured by its own, and the worst counts.
    """
    outputs = apart(expected, model)
    quantizer = getattr(model, "output_quantizer", None) if len(outputs) == 1 else None
    scale = None if quantizer is None else float(quantizer.scale)
    each = [_measured(a, b, scale) for a, b in zip(apart(found, model), outputs, strict=True)]
    worst = {name: max(m[name] for m in each) for name in ("largest_output", "relative_difference", "steps")}
    return {**worst, "identical": min(m["identical"] for m in each)}


def _measured(found: Array, expected: Array, scale: float | None) -> dict[str, float]:
    difference = np.abs(found - expected)
    step = float(np.ptp(expected)) / 255 if scale is None else scale
    return {
        "largest_output": float(np.abs(expected).max()),
        "relative_difference": float(difference.max() / np.abs(expected).max()),
        "steps": float(difference.max() / step),
        # differences are whole steps, but for the rounding of the floats they are given in
        "identical": float((difference < 0.01 * step).mean()),
    }


def error_ratio(found: Array, expected: Array, floats: Array, model: nn.Module | None = None) -> float:
    """How far a runtime's int8 is from fp32, over how far torch's is: roots of mean squares; of the worst output."""
    ratios = []
    for given, known, exact in zip(*(apart(row, model) for row in (found, expected, floats)), strict=True):
        errors = [float(np.sqrt(np.mean((y - exact) ** 2))) for y in (given, known)]
        ratios.append(errors[0] / max(errors[1], 1e-12))
    return max(ratios)


def hold(run: Mapping[str, Any], precision: str) -> None:
    """Hold what was measured against what is allowed.

    Raises:
        SpaceError: it is more.
    """
    if not is_quantized(precision):
        if not run["relative_difference"] <= FP32:
            raise SpaceError(f"outputs differ by {run['relative_difference']:.1e} of the largest")
    elif not (run["steps"] <= INT8_STEPS + 0.01 or run["error_ratio"] <= INT8_ERROR):
        raise SpaceError(
            f"outputs differ by {run['steps']:.1f} steps, and their error is {run['error_ratio']:.2f} times torch's; "
            f"{run['identical']:.0%} are identical"
        )

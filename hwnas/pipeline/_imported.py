"""Whether a network that was read from an ONNX file computes what the file does, by ONNX Runtime.

Knows the network and the file; the runtime runs in a process of its own. Never what the network is for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas._places import user_path
from hwnas.errors import ModelError
from hwnas.files import sha256_file
from hwnas.foreign import shown
from hwnas.measure import Worker
from hwnas.pipeline.parity import TOLERANCE
from hwnas.types import Array, Artefact, Device

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.supernet.importing import OnnxNetwork

_SMALLEST = 1e-30  # of a largest output: zeros are equal to zeros
_RUNTIME, _SAMPLES = "onnxruntime", 2  # two: what a file says of one sample must be true of several


def check_imported(network: OnnxNetwork, path: str | Path) -> None:
    """Hold a network to the outputs of its file on random samples, to 1e-4 of the largest.

    Args:
        network: as it was read.
        path: of the file.

    Raises:
        ModelError: the outputs differ, or it does not run on several samples.
        MeasurementError: ONNX Runtime does not run the file.
    """
    import torch

    from hwnas.supernet.given import example_inputs

    path = user_path(path)
    given = example_inputs(network.inputs, _SAMPLES)
    where = f"the ONNX file {shown(path)}"
    try:
        with torch.no_grad():
            made = network(*given)
    except RuntimeError as e:
        raise ModelError(
            f"{where} cannot be taken: it is written for one sample, and not every operator can be run on several "
            f"({str(e).splitlines()[0]}). Export it with an open batch axis"
        ) from e
    ours = [made] if isinstance(made, torch.Tensor) else list(made)
    artefact = Artefact(
        path=path, format="onnx", precision="fp32", sha256=sha256_file(path), size_bytes=path.stat().st_size
    )
    with Worker(Device(name="here", runtime=_RUNTIME)) as worker:
        for i in range(_SAMPLES):
            theirs = worker.run(artefact, [_as_in_file(x[i : i + 1], network) for x in given])
            for name, our, their in zip(network.outputs, ours, theirs, strict=True):
                _compare(name, _numbers(our[i : i + 1], network), their, where=where)


def _as_in_file(x: Tensor, network: OnnxNetwork) -> Array:
    numbers: Array = x.numpy()
    return np.ascontiguousarray(numbers.transpose(0, 2, 3, 1)) if network.channels_last else numbers


def _numbers(output: Tensor, network: OnnxNetwork) -> Array:
    numbers: Array = (output if network.softmax_axis is None else output.softmax(network.softmax_axis)).numpy()
    return numbers


def _compare(name: str, ours: Array, theirs: Array, *, where: str) -> None:
    if ours.shape != theirs.shape:
        raise ModelError(
            f"{where} cannot be taken: its output {name!r} is {theirs.shape} of one sample, and what was made of it "
            f"gives {ours.shape} for each of several"
        )
    difference, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    if not difference <= TOLERANCE * max(largest, _SMALLEST):
        raise ModelError(
            f"{where} cannot be taken: its output {name!r} is off by {difference:.2g} from ONNX Runtime's, whose "
            f"largest is {largest:.2g} (allowed: {TOLERANCE:g} of it). This is a mistake in hwnas.supernet.importing: "
            "please report it with the file"
        )

"""The few images that ship with a deployment, with what torch computed for them. Knows arrays, not networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.errors import ArtefactError
from hwnas.files import write_whole
from hwnas.foreign import ForeignFileError, inner_path
from hwnas.types import Array

SAMPLES = "samples.safetensors"
_LARGEST_BYTES = 1 << 30  # they are a few images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """What a deployment is verified on.

    Attributes:
        inputs: (N, C, H, W) float32, as the network takes them.
        outputs: (N, classes) float32 logits.
    """

    inputs: Array
    outputs: Array

    def write(self, folder: Path) -> None:
        """Write them into a deployment, whole."""
        from safetensors.numpy import save

        write_whole(Path(folder) / SAMPLES, save({"inputs": self.inputs, "outputs": self.outputs}))

    @classmethod
    def read(cls, folder: Path) -> Samples:
        """The samples of a deployment.

        Raises:
            ArtefactError: the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(folder) / SAMPLES
        try:
            if inner_path(Path(folder), SAMPLES).stat().st_size > _LARGEST_BYTES:
                raise ForeignFileError(f"it is larger than {_LARGEST_BYTES:,} bytes")
            stored = load_file(path)
            inputs, outputs = stored["inputs"], stored["outputs"]
        except (OSError, ForeignFileError, SafetensorError, KeyError) as e:
            raise ArtefactError(f"{path} is missing or damaged ({e}); export the network again") from e
        if inputs.ndim != 4 or outputs.ndim != 2 or len(inputs) != len(outputs) or inputs.dtype != np.float32:
            raise ArtefactError(f"{path} holds other arrays than expected; export the network again")
        return cls(inputs=inputs, outputs=outputs)

"""The few images that ship with a deployment, with what torch computed for them. Knows arrays, not networks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.data.preprocess import Preprocessing
from hwnas.deployment.mistakes import Mistake
from hwnas.errors import ArtefactError, IntegrityError
from hwnas.files import write_whole
from hwnas.foreign import ForeignFileError, inner_path, read_foreign
from hwnas.integrity import open_tensors
from hwnas.types import Array

SAMPLES = "samples.safetensors"
_LARGEST_BYTES = 1 << 30  # they are a few images
_JPEG = b"\xff\xd8"

RawImage = bytes | Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """What a deployment is verified on.

    Attributes:
        raw: the samples before any step: a file's content, (H, W, C) uint8 pixels, or (C, ...) float32 of another kind;
            none in a deployment of the first schema.
        inputs: (N, C, ...) float32, as the network takes them.
        outputs: (N, ...) float32, of a classifier (N, classes) logits.
        mistakes: other test images, for the page: of the most frequent confusions.
    """

    raw: tuple[RawImage, ...]
    inputs: Array
    outputs: Array
    mistakes: tuple[Mistake, ...] = ()

    def write(self, folder: Path) -> None:
        """Write them into a deployment, whole."""
        from safetensors.numpy import save

        raw = {
            f"raw.{i}": np.frombuffer(image, np.uint8) if isinstance(image, bytes) else np.ascontiguousarray(image)
            for i, image in enumerate(self.raw)
        }
        # files as (n,) bytes, pixels as (H, W, C): their dimensions tell which
        stored = {"inputs": self.inputs, "outputs": self.outputs, **raw}
        names = {f"mistake.{i}": json.dumps([m.true, m.predicted]) for i, m in enumerate(self.mistakes)}
        stored |= {f"mistake.{i}": np.ascontiguousarray(m.image) for i, m in enumerate(self.mistakes)}
        write_whole(Path(folder) / SAMPLES, save(stored, metadata=names))

    @classmethod
    def read(cls, folder: Path, *, raw: bool = True) -> Samples:
        """The samples of a deployment.

        Args:
            folder: of the deployment.
            raw: it has images as they were before any step.

        Raises:
            ArtefactError: the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = Path(folder) / SAMPLES
        try:
            data = read_foreign(inner_path(Path(folder), SAMPLES), limit_bytes=_LARGEST_BYTES)
            stored = load(data)
            images = tuple(_raw(stored[f"raw.{i}"]) for i in range(sum(name.startswith("raw.") for name in stored)))
            inputs, outputs = stored["inputs"], stored["outputs"]
            mistakes = tuple(_mistakes(data, stored))
        except (OSError, ForeignFileError, IntegrityError, SafetensorError, KeyError, ValueError) as e:
            raise ArtefactError(f"{path} is missing or damaged ({e}); export the network again") from e
        # the file is from elsewhere, so nothing is taken for granted
        right = inputs.ndim >= 2 and outputs.ndim >= 2 and len(inputs) == len(outputs) and inputs.dtype == np.float32
        if not right or (raw and len(images) != len(inputs)):
            raise ArtefactError(f"{path} holds other arrays than expected; export the network again")
        return cls(raw=images, inputs=inputs, outputs=outputs, mistakes=mistakes)

    def preprocessing_problems(self, steps: Preprocessing) -> list[str]:
        """What is wrong with steps that shall lead from the raw images to the inputs; empty if nothing is.

        Decoders of JPEG may differ by a level or two; everything else must be equal to 1e-5 of the inputs' range.

        Raises:
            DataError: an image cannot be read by these steps.
        """
        span = max(1.0, float(np.abs(self.inputs).max()))
        for i, (image, expected) in enumerate(zip(self.raw, self.inputs, strict=True)):
            found = steps.apply(image)
            if found.shape != expected.shape:
                return [f"preprocessing leads to the shape {found.shape}, the network takes {expected.shape}"]
            lossy = isinstance(image, bytes) and image.startswith(_JPEG)
            difference = np.abs(found - expected)
            # another JPEG decoder moves single pixels by more than their mean
            worst, allowed = (difference.mean(), 0.01) if lossy else (difference.max(), 1e-5)
            # `not <=`, so that NaN is a problem too
            if not worst <= allowed * span:
                return [f"preprocessing of sample {i} differs by {worst:.2g} from what the network was tested with"]
        return []


def _raw(stored: Array) -> RawImage:
    if stored.dtype == np.float32 and stored.ndim:
        return stored
    if stored.dtype != np.uint8 or stored.ndim not in (1, 3):
        raise KeyError("a sample is no file, no pixels and no numbers")
    return stored.tobytes() if stored.ndim == 1 else stored


def _mistakes(data: bytes, stored: Mapping[str, Array]) -> Iterator[Mistake]:
    for name, text in open_tensors(data, is_older=lambda _: True).items():
        true, predicted = json.loads(text)
        image = stored[name]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise KeyError(f"{name} is no image")
        yield Mistake(image=image, true=str(true), predicted=str(predicted))


def raw_images(pixels: Array, files: Sequence[Path] | None, *, limit_bytes: int) -> tuple[RawImage, ...]:
    """Images as they were found: their files' content, as long as all together stay within a size; else their pixels.

    Args:
        pixels: (N, H, W, C) uint8, or (N, C, ...) float32 samples of another kind.
        files: they come from; None: from none.
        limit_bytes: of all files' content.
    """
    raw: list[RawImage] = []
    left = limit_bytes
    for i, image in enumerate(pixels):
        path = Path(files[i]) if files is not None else None
        # files: only they show that decoding is repeated as well; photographs of megabytes stay out
        if path is not None and path.is_file() and path.stat().st_size <= left:
            content = path.read_bytes()
            left -= len(content)
            raw.append(content)
        else:
            raw.append(image.copy())
    return tuple(raw)

"""A deployment in use: from a sample to what its task asks, an image to its class, without torch, by the runtime here.

    with hwnas.deployment.load("deployments/cpu_best") as network:
        network.predict("photo.jpg").class_name

It needs numpy, Pillow for image files, and the runtime; no other package. Knows what ships and runtimes' adapters; must
never know torch, tables or search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hwnas import registry
from hwnas.data.rows import row_of_sample
from hwnas.deployment.predictions import AnyPrediction, prediction_of
from hwnas.deployment.shipped import Shipped, read_shipped
from hwnas.errors import DataError
from hwnas.types import Array, Runtime, Session

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from hwnas.deployment.manifest import Manifest

AnyImage: TypeAlias = "Path | str | bytes | PillowImage | Array | Mapping[str, Array] | Sequence[Array]"


class LoadedDeployment:
    """A deployment that predicts. Use as a context manager, or `close` it: it holds the runtime's memory.

    The artefact runs in this process, on this machine, whatever board it was made for. One thread at a time.

    Attributes:
        folder: of the deployment.
        shipped: the network, and how it is run.
    """

    def __init__(self, folder: Path, shipped: Shipped) -> None:
        self.folder = folder
        self.shipped = shipped
        self._session: Session | None = None

    @property
    def manifest(self) -> Manifest:
        """What was promised and found; read when it is asked for, for which pydantic is needed.

        Raises:
            ArtefactError: it is damaged, where predicting does not need it.
        """
        from hwnas.deployment.manifest import Manifest

        return Manifest.read(self.folder)

    def __enter__(self) -> LoadedDeployment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the runtime's memory."""
        if self._session is not None:
            self._session.__exit__(None, None, None)
            self._session = None

    def preprocess(self, image: AnyImage) -> Array:
        """The network's input for one image: every step of the manifest's `preprocessing`, in order.

        Args:
            image: a path, a file's content, a Pillow image, or an array of pixels, (H, W) or (H, W, C) uint8, turned as
                it is to be seen. Of a network of other samples an array of numbers, (C, ...); of one of several inputs
                a dictionary of such arrays, or they in their order.

        Returns:
            (C, H, W) float32, or (C, ...); several inputs are one row.

        Raises:
            DataError: it is no such image, or not like those that the network was trained on.
        """
        if self.shipped.input_parts:
            return self.shipped.preprocessing.apply(row_of_sample(image, self.shipped.input_parts))
        if isinstance(image, Mapping):
            raise DataError(f"the network takes one input, not {len(image)} by name; give an image or an array")
        single: Any = image  # what is no image is refused there
        return self.shipped.preprocessing.apply(single)

    def preprocess_batch(self, images: Iterable[AnyImage]) -> Array:
        """(N, C, H, W) float32, see `preprocess`."""
        prepared = [self.preprocess(image) for image in images]
        return np.stack(prepared) if prepared else np.empty((0, *self.shipped.input_shape), np.float32)

    def predict(self, image: AnyImage) -> AnyPrediction:
        """What the network says of one sample: of a classifier its class, and its score.

        Raises:
            DataError: as for `preprocess`.
            HwnasError: the runtime is not installed here, or refuses the artefact.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Iterable[AnyImage]) -> list[AnyPrediction]:
        """The same of several samples, see `predict`."""
        prepared = self.preprocess_batch(images)
        if not len(prepared):  # some runtimes refuse a batch of nothing
            return []
        shipped = self.shipped
        return [prediction_of(row, shipped.output, names=shipped.classes) for row in self.logits(prepared)]

    def logits(self, inputs: Array) -> Array:
        """(N, C, ...) float32 as `preprocess_batch` gives -> (N, ...) float32, of a classifier (N, classes).

        Several outputs are one row, (N, sum of their sizes), as `shipped.output.parts` says.
        """
        from hwnas.measure.interface import answers, to_artefact

        # (N, C, H, W), laid out and typed as the artefact has it
        artefact = self.shipped.artefact
        return answers(self._open().run([to_artefact(inputs, artefact.input)]), artefact)

    def _open(self) -> Session:
        # loaded with the first image: preprocessing alone needs no runtime installed
        if self._session is None:
            runtime: Runtime = registry.load("runtimes", self.shipped.runtime)()
            self._session = runtime.load(self.shipped.artefact, self.shipped.device).__enter__()
        return self._session


def load(folder: Path | str) -> LoadedDeployment:
    """A deployment, to be used here; nothing is measured or contacted.

    Args:
        folder: with the manifest and the artefact.

    Raises:
        ArtefactError: the folder is no deployment, a file of it is missing or changed, or it was made when manifests
            did not hold every step of the preprocessing.
    """
    # the artefact is hashed once here, not with each image
    return LoadedDeployment(Path(folder), read_shipped(Path(folder)))

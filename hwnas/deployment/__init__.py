"""A deployment: a folder with the artefact, what was promised and what was measured.

    model.onnx            the artefact (and what the maker's compiler made of it, where the board runs that)
    reference.onnx        the drift anchor: a fixed network that times the machine's drift
    model.pt2             the same network in floats, for its owner to go on with in torch
    samples.safetensors   a few images as they were found, as the network takes them, and what torch computed for them
    manifest.json         everything else (`Manifest`), and the checksums of the files above and of itself
    report.html           the same for people

It is enough to verify the network again on a machine that has only the runtime; to predict with it (`load`), numpy and
Pillow are enough beside that. This package must never know torch, tables or search.
"""

from typing import TYPE_CHECKING

from hwnas.deployment.folder import MANIFEST, SCHEMA
from hwnas.deployment.loading import LoadedDeployment, load
from hwnas.deployment.predictions import AnyPrediction, Labels, Mask, NamedOutputs, Outputs, Prediction, Values
from hwnas.deployment.shipped import OutputMeaning, Shipped

if TYPE_CHECKING:
    from hwnas.deployment.by_class import ByClass, guessing_note
    from hwnas.deployment.by_pixel import ByPixel
    from hwnas.deployment.manifest import (
        PROGRAM,
        Accuracy,
        ArtefactInfo,
        DeviceInfo,
        InputInfo,
        InputPart,
        Latency,
        Manifest,
        Measured,
        OutputInfo,
        Parity,
        PartInfo,
        PrecisionSpeedup,
        SlowBlock,
        TensorInfo,
        check_files,
        checked_artefact,
    )
    from hwnas.deployment.mistakes import Mistake
    from hwnas.deployment.samples import SAMPLES, Samples
else:

    def __getattr__(name: str) -> object:
        # what checks documents is not on a board that only predicts
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from hwnas.deployment import by_class, by_pixel, manifest, mistakes, samples

        return next(
            getattr(module, name)
            for module in (manifest, by_class, by_pixel, mistakes, samples)
            if hasattr(module, name)
        )


__all__ = [
    "MANIFEST",
    "PROGRAM",
    "SAMPLES",
    "SCHEMA",
    "Accuracy",
    "AnyPrediction",
    "ArtefactInfo",
    "ByClass",
    "ByPixel",
    "DeviceInfo",
    "InputInfo",
    "InputPart",
    "Labels",
    "Latency",
    "LoadedDeployment",
    "Manifest",
    "Mask",
    "Measured",
    "Mistake",
    "NamedOutputs",
    "OutputInfo",
    "OutputMeaning",
    "Outputs",
    "Parity",
    "PartInfo",
    "PrecisionSpeedup",
    "Prediction",
    "Samples",
    "Shipped",
    "SlowBlock",
    "TensorInfo",
    "Values",
    "check_files",
    "checked_artefact",
    "guessing_note",
    "load",
]

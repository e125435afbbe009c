"""What running a deployment needs of its manifest, read with numpy alone: a board has no more.

`Manifest` has all of it, and checks all of it, with a library for that; a test holds both together. Knows the names in
a manifest; never what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.data.preprocess import Preprocessing
from hwnas.deployment.folder import FIRST_SCHEMA, MANIFEST, check_file, read_manifest
from hwnas.errors import ArtefactError, DataError
from hwnas.foreign import as_written
from hwnas.row_parts import RowPart
from hwnas.types import Artefact, Device, Option, TensorSpec

LAYOUTS = ("NCHW", "NHWC")
DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32")
MOST_THREADS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputMeaning:
    """What a network's outputs mean.

    Attributes:
        task: `classification`, `multi_label`, `regression`, `segmentation`, `outputs`, or a user's own.
        mean: of values that an output of 0 means, one each; None where outputs mean what they are.
        std: and how much more one more means.
        parts: several outputs, side by side in one row; none of a network of one.
    """

    task: str = "classification"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    parts: tuple[RowPart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A deployment's network, and how it is run.

    Attributes:
        artefact: the file, as the manifest signs for it.
        runtime: that runs it.
        device: as it was described, without its connection: it is here.
        input_shape: (C, ...) of one sample.
        input_parts: several inputs, side by side in one row; none of a network of one.
        preprocessing: every step that leads there.
        output: what outputs mean.
        classes: what outputs are called.
    """

    artefact: Artefact
    runtime: str
    device: Device
    input_shape: tuple[int, ...]
    input_parts: tuple[RowPart, ...]
    preprocessing: Preprocessing
    output: OutputMeaning
    classes: tuple[str, ...]


def read_shipped(folder: Path) -> Shipped:
    """A deployment's network, whose file is the one that was verified.

    Raises:
        ArtefactError: the folder is no deployment, a file of it is missing or changed, or it was made when manifests
            did not hold every step of the preprocessing.
    """
    value = read_manifest(folder)
    if value["schema_number"] == FIRST_SCHEMA:
        raise ArtefactError(
            f"{folder} has schema {FIRST_SCHEMA}, which does not hold every step from an image to the network's input; "
            "export the network again"
        )
    manifest = _Fields(value, path=folder / MANIFEST)
    runtime = manifest.text("runtime")
    try:
        steps = Preprocessing.from_json(value.get("preprocessing"))
    except DataError as e:
        raise ArtefactError(f"{folder / MANIFEST}: {e}; export the network again, or use the hwnas that made it") from e
    artefact = _artefact(folder, manifest.object("artefact"), precision=manifest.text("precision"))
    output = _output(manifest.object("output")) if "output" in value else OutputMeaning()
    if len(output.parts) != len(artefact.outputs):
        raise ArtefactError(
            f"{folder / MANIFEST}: the file has another number of outputs than are named; export the network again"
        )
    given = manifest.object("input")
    return Shipped(
        artefact=artefact,
        runtime=runtime,
        device=_device(manifest.object("device")),
        input_shape=tuple(map(int, given.numbers("shape", at_least=1, whole=True))),
        input_parts=tuple(map(_part, given.objects("parts"))) if "parts" in given.value else (),
        preprocessing=steps,
        output=output,
        classes=manifest.texts("classes"),
    )


def _artefact(folder: Path, info: _Fields, *, precision: str) -> Artefact:
    path = check_file(folder, info.text("path"), sha256=info.text("sha256"))
    batch = info.value.get("batch")
    if batch not in (None, "any") and (type(batch) is not int or batch < 1):
        raise info.wrong("batch", '"any" or a whole number from 1')
    return Artefact(
        path=path,
        format=info.text("format"),
        precision=precision,
        sha256=info.text("sha256"),
        size_bytes=path.stat().st_size,
        input=_tensor(info.object("input")),
        output=_tensor(info.object("output")),
        outputs=tuple(map(_tensor, info.objects("outputs"))) if "outputs" in info.value else (),
        batch=batch,
    )


def _tensor(info: _Fields) -> TensorSpec:
    (scale,) = info.numbers("scale", at_least=0)
    (zero_point,) = info.numbers("zero_point", at_least=-(2**31), whole=True)
    if not scale > 0 or zero_point >= 2**31:
        raise info.wrong("scale", "above zero, and zero_point of 32 bits")
    return TensorSpec(
        layout=info.text("layout", allowed=LAYOUTS),
        dtype=info.text("dtype", allowed=DTYPES),
        scale=scale,
        zero_point=int(zero_point),
    )


def _device(info: _Fields) -> Device:
    (threads,) = info.numbers("threads", at_least=1, whole=True)
    if threads > MOST_THREADS:
        raise info.wrong("threads", f"at most {MOST_THREADS}")
    options = info.object("options").value
    if not all(isinstance(option, Option) for option in options.values()):
        raise info.wrong("options", "texts and numbers")
    # neither a connection nor cores: this machine is the board, and cores are numbered by the machine
    return Device(name=info.text("name"), runtime=info.text("runtime"), threads=int(threads), options=dict(options))


def _output(info: _Fields) -> OutputMeaning:
    mean, std = (
        info.numbers(name, at_least=least) if info.value.get(name) is not None else None
        for name, least in (("mean", -math.inf), ("std", 0))
    )
    return OutputMeaning(
        task=info.text("task"),
        mean=mean,
        std=std,
        parts=tuple(map(_part, info.objects("parts"))) if "parts" in info.value else (),
    )


def _part(info: _Fields) -> RowPart:
    return RowPart(name=info.text("name"), shape=tuple(map(int, info.numbers("shape", at_least=1, whole=True))))


class _Fields:
    """An object of a manifest, whose values are of the kinds that are asked for, or refused.

    Args:
        value: the object.
        path: of the manifest.
        where: the object stands in it.
    """

    def __init__(self, value: Mapping[str, Any], *, path: Path, where: str = "") -> None:
        self.value = value
        self._path = path
        self._where = where

    def wrong(self, name: str, wanted: str) -> ArtefactError:
        """The error for a value that is not what it must be."""
        found = as_written(self.value.get(name))
        return ArtefactError(
            f"{self._path}: {self._where}{name} is {found}, but must be {wanted}; export the network again"
        )

    def object(self, name: str) -> _Fields:
        """An object within it."""
        found = self.value.get(name)
        if not isinstance(found, dict):
            raise self.wrong(name, "an object")
        return _Fields(found, path=self._path, where=f"{self._where}{name}.")

    def objects(self, name: str) -> list[_Fields]:
        """A list of objects within it."""
        found = self.value.get(name)
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise self.wrong(name, "a list of objects")
        return [_Fields(each, path=self._path, where=f"{self._where}{name}.{i}.") for i, each in enumerate(found)]

    def text(self, name: str, *, allowed: tuple[str, ...] = ()) -> str:
        """A text; one of those allowed, if any are named."""
        found = self.value.get(name)
        if not isinstance(found, str) or (allowed and found not in allowed):
            raise self.wrong(name, f"one of {', '.join(allowed)}" if allowed else "a text")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        found = self.value.get(name)
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise self.wrong(name, "a list of texts")
        return tuple(found)

    def numbers(self, name: str, *, at_least: float, whole: bool = False) -> tuple[float, ...]:
        """A number, or a list of them, each finite."""
        found = self.value.get(name)
        listed: list[Any] = found if isinstance(found, list) else [found]
        kinds = (int,) if whole else (int, float)
        if not listed or not all(type(n) in kinds and math.isfinite(n) and n >= at_least for n in listed):
            raise self.wrong(name, f"{'whole ' * whole}numbers from {at_least:g}")
        return tuple(map(float, listed))

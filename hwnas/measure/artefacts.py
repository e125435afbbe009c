"""Descriptions of files to be measured, and the checks every runtime makes before it loads one.

Knows paths, formats, precisions and hashes; never what is inside a file, nor a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hwnas.errors import ArtefactError, MeasurementError
from hwnas.files import sha256_file
from hwnas.precisions import is_allowed
from hwnas.types import Artefact, Device


def artefact_from_file(path: Path, *, format: str, precision: str) -> Artefact:
    """Describe a file that exists: its hash and size are read from it.

    Raises:
        ArtefactError: there is no such file.
    """
    path = Path(path)
    try:
        size_bytes, digest = path.stat().st_size, sha256_file(path)
    except OSError as e:
        raise ArtefactError(f"cannot read the artefact {path}: {e.strerror}") from e
    return Artefact(path=path, format=format, precision=precision, sha256=digest, size_bytes=size_bytes)


def check_artefact(artefact: Artefact, device: Device, *, formats: Iterable[str], precisions: Iterable[str]) -> None:
    """Check that a runtime may load this file for this device, and that the file is the one described.

    Args:
        artefact: what is to be loaded.
        device: where; its legal precisions count too.
        formats: what the runtime reads.
        precisions: what the runtime computes in.

    Raises:
        ArtefactError: the format is another one, the file is absent, or its content has changed.
        MeasurementError: the precision is not legal on the device or not known to the runtime.
    """
    formats = sorted(formats)
    if artefact.format not in formats:
        raise ArtefactError(
            f"{artefact.path} has format {artefact.format!r}; runtime {device.runtime!r} reads {', '.join(formats)}"
        )
    # what the runtime computes in and the device allows: both must agree
    legal = sorted(p for p in precisions if is_allowed(p, device))
    if artefact.precision not in legal:
        raise MeasurementError(
            f"{artefact.path} is {artefact.precision}, which is not legal on device {device.name!r} with runtime "
            f"{device.runtime!r}; legal: {', '.join(legal) or 'none'}"
        )
    found = artefact_from_file(artefact.path, format=artefact.format, precision=artefact.precision)
    if found.sha256 != artefact.sha256:
        raise ArtefactError(
            f"{artefact.path} has changed: it was described with sha256 {artefact.sha256[:12]}… and "
            f"{artefact.size_bytes} bytes, and now has {found.sha256[:12]}… and {found.size_bytes} bytes; "
            "export it again"
        )

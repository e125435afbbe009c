"""A deployment's folder: its manifest as a document, and its files by their names there, which may be anybody's.

Knows files and checksums, not what a manifest says; needs nothing but Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.errors import ArtefactError
from hwnas.files import sha256_file
from hwnas.foreign import ForeignFileError, as_written, inner_path, quoted, read_foreign
from hwnas.integrity import open_document

MANIFEST = "manifest.json"
SCHEMA = 2
FIRST_SCHEMA = 1  # without a checksum, and without every step of the preprocessing
_LARGEST_BYTES = 16 << 20  # of a manifest; one of a large network is a hundredth of it


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a deployment as a document, of a schema that this version reads, and undamaged.

    Raises:
        ArtefactError: the folder has none, or it cannot be read.
    """
    path = inner_file(folder, MANIFEST)
    if not path.is_file():
        raise ArtefactError(f"{folder} is no deployment: it has no {MANIFEST}. Deployments are made by `hwnas export`")
    try:
        text = read_foreign(path, limit_bytes=_LARGEST_BYTES)
        # before the schema is believed: the checksum covers it
        value = open_document(text, is_older=lambda v: v.get("schema_number") != SCHEMA)
    except ValueError as e:
        raise ArtefactError(f"{path} is damaged ({e}); export the network again") from e
    schema = value.get("schema_number")
    # `type`: True is an `int` that equals 1
    if type(schema) is not int or schema not in (FIRST_SCHEMA, SCHEMA):
        raise ArtefactError(f"{path} has schema {as_written(schema)}; this version reads {FIRST_SCHEMA} and {SCHEMA}")
    return value


def check_file(folder: Path, name: str, *, sha256: str) -> Path:
    """A file of a deployment, if it is the one its manifest signs for.

    Raises:
        ArtefactError: it is missing, its content changed, or its name leads out of the folder.
    """
    path = inner_file(folder, name)
    if not path.is_file():
        raise ArtefactError(f"{folder} lacks {quoted(name)}, which its manifest names; export the network again")
    found = sha256_file(path)
    if found != sha256:
        raise ArtefactError(
            f"{path} is not the file that was verified: its SHA-256 is {found[:12]}..., the manifest has "
            f"{sha256[:12]}...; export the network again"
        )
    return path


def inner_file(folder: Path, name: str) -> Path:
    """A file of a deployment by its name there, which may be anybody's.

    Raises:
        ArtefactError: it leads out of the folder.
    """
    try:
        return inner_path(Path(folder), name)
    except ForeignFileError as e:
        raise ArtefactError(f"{folder} names the file {as_written(name)}: {e}") from e

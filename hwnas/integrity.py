"""Checksums inside files: what was written is what is read, or it is told. Knows bytes and JSON; no disk, no meaning.

Three forms, one for each kind of file hwnas writes. All raise `IntegrityError`, a `ValueError`; the reader of a kind
of file turns it into its own error, which says what to do.

- A JSON document carries `sha256` as its last field: `seal_document`, `open_document`. The digest is of the canonical
  content, so another layout of the same values is the same document.
- A line of a file of JSON lines carries its number and a `checksum`: `seal_line`, `open_line`. The number tells lost,
  doubled and moved lines; the checksum is bound to the file's first line, so a line of another file is no line of this
  one. Each line stands for itself: a damaged one does not take its neighbours with it. See `hwnas.appending` for files.
- A safetensors file carries `sha256` in its metadata: `seal_tensors`, `open_tensors`. The digest is of names, types,
  shapes, all bytes, and the rest of the metadata.

A file of a schema that had no checksum yet is read where the reader says how to tell one (`is_older`): by its schema
number, so that damage to the checksum's name does not make a file of today look like one of yesterday.

They find accidents, not forgers: whoever can write a file can write its checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hwnas.errors import IntegrityError

SHA256 = "sha256"  # the field of a document, the metadata key of a safetensors file
LINE = "line"  # the fields of a line
CHECKSUM = "checksum"
_LINE_END = re.compile(rb',"checksum":"([0-9a-f]{16})"\}$')
_LENGTH_BYTES = 8  # of the header's length, at the beginning of a safetensors file
_METADATA = "__metadata__"


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text, strictly: UTF-8, no NaN or Infinity, no name twice in one object.

    Raises:
        IntegrityError: it is not such a text.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError as e:
        raise IntegrityError("it is nested too deeply") from e
    except ValueError as e:
        raise IntegrityError(str(e)) from e


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return values


def digest(value: Any) -> str:
    """SHA-256 in hex of a JSON value in one canonical spelling: names sorted, no spaces, ASCII.

    Raises:
        IntegrityError: the value holds NaN or infinity, which JSON has not.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as e:
        raise IntegrityError(str(e)) from e
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- documents


def seal_document(values: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its digest as the last field.

    Raises:
        IntegrityError: a value is not finite.
    """
    content = {name: value for name, value in values.items() if name != SHA256}
    return {**content, SHA256: digest(content)}


def open_document(text: bytes | str, *, is_older: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
    """The values of a sealed document, without the digest.

    Args:
        text: of the document.
        is_older: whether one without a digest was written before there were any; None: none was.

    Raises:
        IntegrityError: the text is no JSON object, it has no digest, or its content has another one.
    """
    values = parse_json(text)
    if not isinstance(values, dict):
        raise IntegrityError(f"it holds {type(values).__name__} where an object is expected")
    if SHA256 not in values:
        if is_older is not None and is_older(values):
            return values
        raise IntegrityError("its checksum (sha256) is missing")
    told = values.pop(SHA256)
    if told != digest(values):
        raise IntegrityError("its content does not match its checksum (sha256)")
    return values


# ---------------------------------------------------------------- lines


def seal_line(values: Mapping[str, Any], *, number: int, first: str = "") -> str:
    """A line of a file, with its newline.

    Args:
        values: of the line; the fields `line` and `checksum` are added.
        number: of the line, the file's first being 1.
        first: checksum of the file's first line; empty for that line itself.

    Raises:
        ValueError: a value is not finite.
    """
    text = json.dumps({**values, LINE: number}, allow_nan=False, separators=(",", ":"))[:-1]
    return f'{text},"{CHECKSUM}":"{_checksum(text.encode(), first)}"}}\n'


def open_line(line: bytes, *, first: str = "") -> tuple[int, dict[str, Any]]:
    """The number and the values of a line, without the two fields that `seal_line` added.

    Args:
        line: without its newline.
        first: as for `seal_line`.

    Raises:
        IntegrityError: it has no checksum, or another content than the one it was written with.
    """
    end = _LINE_END.search(line)
    if end is None:
        raise IntegrityError("its checksum is missing")
    if end[1].decode() != _checksum(line[: end.start()], first):
        raise IntegrityError("its content does not match its checksum")
    values = parse_json(line)
    del values[CHECKSUM]
    return int(values.pop(LINE)), values


def line_checksum(line: bytes) -> str:
    """The checksum a line carries, right or wrong: of the first line it is what the others are bound to.

    Raises:
        IntegrityError: it carries none.
    """
    end = _LINE_END.search(line)
    if end is None:
        raise IntegrityError("its checksum is missing")
    return end[1].decode()


def _checksum(text: bytes, first: str) -> str:
    return hashlib.sha256(first.encode() + b"\n" + text).hexdigest()[:16]


# ---------------------------------------------------------------- tensors


def seal_tensors(data: bytes) -> bytes:
    """The bytes of a safetensors file, with its digest in the metadata; always the same bytes for the same content.

    Args:
        data: of a safetensors file, as `safetensors.numpy.save` and `safetensors.torch.save` give them.
    """
    header, content = _split(data)
    header[_METADATA] = {k: v for k, v in header.get(_METADATA, {}).items() if k != SHA256}
    header[_METADATA][SHA256] = _tensors_digest(header, content)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)  # the format aligns the tensors
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + content


def open_tensors(data: bytes, *, is_older: Callable[[dict[str, str]], bool] | None = None) -> dict[str, str]:
    """The metadata of a safetensors file whose content is what was written; give the same bytes to safetensors.

    Args:
        data: the whole file.
        is_older: as for `open_document`, of the metadata.

    Raises:
        IntegrityError: it is no safetensors file, has no digest, or its content has another one.
    """
    header, content = _split(data)
    metadata = dict(header.get(_METADATA, {}))
    told = metadata.pop(SHA256, None)
    if told is None:
        if is_older is not None and is_older(metadata):
            return metadata
        raise IntegrityError("its checksum (sha256) is missing")
    if told != _tensors_digest({**header, _METADATA: metadata}, content):
        raise IntegrityError("its content does not match its checksum (sha256)")
    return metadata


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and tensors of a safetensors file."""
    size = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or size > len(data) - _LENGTH_BYTES:
        raise IntegrityError("it is no whole safetensors file")
    header = parse_json(data[_LENGTH_BYTES : _LENGTH_BYTES + size])
    if not isinstance(header, dict) or not isinstance(header.get(_METADATA, {}), dict):
        raise IntegrityError("it is no safetensors file")
    return header, memoryview(data)[_LENGTH_BYTES + size :]


def _tensors_digest(header: Mapping[str, Any], content: memoryview) -> str:
    return digest([header, hashlib.sha256(content).hexdigest()])

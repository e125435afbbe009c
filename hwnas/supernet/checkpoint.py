"""Checkpoints: one safetensors file with its JSON description inside, written whole, the one before kept.

Since schema 2 a file carries its checksum; one of schema 1 is read, and is one of today after the next save. Knows
tensors and JSON, not what they mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hwnas.errors import CheckpointError
from hwnas.files import write_whole
from hwnas.foreign import read_foreign
from hwnas.integrity import open_tensors, parse_json, seal_tensors

SCHEMA = 2
_PLAIN_SCHEMA = 1  # without a checksum
_KEY = "hwnas"
_LARGEST_BYTES = 64 << 30  # of a file; it may be anybody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Tensors by name with a description (step, settings, fingerprints)."""

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


def previous(path: Path) -> Path:
    """Where the checkpoint before the last one is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the old one stays readable until the new one is complete, and after it as `previous`.

    Raises:
        OSError: the disk is full or the folder is not writable; both old files are untouched.
    """
    # contiguous: weights train with channels last in memory, and safetensors writes no other order than the usual
    data = safetensors.torch.save(
        {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()},
        metadata={_KEY: json.dumps({**checkpoint.meta, "schema": SCHEMA})},
    )
    incoming = path.with_name(path.name + ".new")
    try:
        write_whole(incoming, seal_tensors(data))
    except OSError:
        incoming.unlink(missing_ok=True)
        raise
    if path.exists() and (not previous(path).exists() or _is_sound(path)):  # a damaged one is no one to go back to
        os.replace(path, previous(path))
    os.replace(incoming, path)


def _is_sound(path: Path) -> bool:
    try:
        load_checkpoint(path)
    except CheckpointError:
        return False
    return True


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is missing, damaged or of another schema.
    """
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        data = read_foreign(path, limit_bytes=_LARGEST_BYTES)
        meta = _read_meta(open_tensors(data, is_older=lambda m: _read_meta(m).get("schema") != SCHEMA))
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, OSError) as e:
        raise CheckpointError(f"the checkpoint {path} is damaged or not ours ({e})") from e
    if meta.get("schema") not in (_PLAIN_SCHEMA, SCHEMA):
        raise CheckpointError(f"{path} has schema {meta.get('schema')!r}; this version reads {SCHEMA}")
    return Checkpoint(tensors=tensors, meta=meta)


def _read_meta(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The description of a checkpoint.

    Raises:
        ValueError: there is none.
    """
    found = parse_json(metadata.get(_KEY, "null"))
    if not isinstance(found, dict):
        raise ValueError("it has no description")
    return found


def load_newest(path: Path, *, warn: Callable[[str], None] | None = None) -> Checkpoint | None:
    """The newest readable checkpoint of a run: the last, else the one before it; None if there never was one.

    Args:
        path: of the last one.
        warn: told of every newer one that is damaged.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    # `.new` is whole wherever it is there: a process killed between the two renames of `save_checkpoint` leaves it, and
    # nothing at `path`
    candidates = [p for p in (path, path.with_name(path.name + ".new"), previous(path)) if p.exists()]
    if not candidates:
        return None
    errors = []
    for candidate in candidates:
        try:
            found = load_checkpoint(candidate)
        except CheckpointError as e:
            errors.append(str(e))
            continue
        if errors and warn is not None:
            warn(f"{'; '.join(errors)}; going on from the one before, {candidate}, at step {found.meta.get('step')}")
        return found
    raise CheckpointError("; ".join(errors) + ". Delete them to start anew")

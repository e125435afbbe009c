"""Checkpoints: one safetensors file with its JSON description inside, written whole, the one before kept.

Knows tensors and JSON, not what they mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hwnas.errors import CheckpointError
from hwnas.files import write_whole

SCHEMA = 1


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
    data = safetensors.torch.save(
        {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()},
        metadata={"hwnas": json.dumps({"schema": SCHEMA, **checkpoint.meta})},
    )
    incoming = path.with_name(path.name + ".new")
    try:
        write_whole(incoming, data)
    except OSError:
        incoming.unlink(missing_ok=True)
        raise
    if path.exists():
        os.replace(path, previous(path))
    os.replace(incoming, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is missing, damaged or of another schema.
    """
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as f:
            meta = json.loads((f.metadata() or {})["hwnas"])
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError, OSError) as e:
        raise CheckpointError(f"the checkpoint {path} is damaged or not ours ({e})") from e
    if meta.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} has schema {meta.get('schema')!r}; this version reads {SCHEMA}")
    return Checkpoint(tensors=tensors, meta=meta)


def load_newest(path: Path) -> Checkpoint | None:
    """The newest readable checkpoint of a run: the last, else the one before it; None if there never was one.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    candidates = [p for p in (path, path.with_name(path.name + ".new"), previous(path)) if p.exists()]
    if not candidates:
        return None
    errors = []
    for candidate in candidates:
        try:
            return load_checkpoint(candidate)
        except CheckpointError as e:
            errors.append(str(e))
    raise CheckpointError("; ".join(errors) + ". Delete them to start anew")

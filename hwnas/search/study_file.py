"""A finished study as one compact file: safetensors with the columns, its metadata as JSON, and its checksum.

Written whole, read in milliseconds, and needs neither Optuna nor the space's code; a file of schema 1, which had no
checksum, is read. This module knows columns and JSON, never storages or samplers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.allowed import limits_from_json, limits_to_json
from hwnas.errors import StudyError
from hwnas.files import write_whole
from hwnas.integrity import open_tensors, parse_json, seal_tensors
from hwnas.search.study import FailedTrial, Study
from hwnas.types import Choice, Direction

SCHEMA = 2
_PLAIN_SCHEMA = 1  # without a checksum
_KEY = "hwnas_study"


def choices_to_json(choices: tuple[Choice, ...]) -> list[dict[str, Any]]:
    """Choices as JSON values; `choices_from_json` reads them back."""
    return [
        {"name": c.name, "options": list(c.options), "parent": c.parent, "active_when": sorted(c.active_when)}
        for c in choices
    ]


def choices_from_json(values: list[dict[str, Any]]) -> tuple[Choice, ...]:
    """The inverse of `choices_to_json`."""
    return tuple(
        Choice(
            name=v["name"],
            options=tuple(v["options"]),
            parent=v["parent"],
            active_when=frozenset(v["active_when"]),
        )
        for v in values
    )


def save_study(study: Study, path: Path | str) -> None:
    """Write a study, whole: a reader sees the old file or the new one. `load_study` reads it without Optuna.

    Raises:
        OSError: the file cannot be written; an older one is untouched.
    """
    from safetensors.numpy import save

    metrics, bounded, measured = list(study.values), list(study.upper), list(study.standard_errors)
    # the narrowest integer that holds every option: a byte instead of eight for the presets
    widest = max((len(c.options) for c in study.choices), default=1)
    columns = {
        "numbers": study.numbers.astype(np.int64),
        "encodings": np.ascontiguousarray(study.encodings, dtype=np.min_scalar_type(widest)),
        "values": _stack([study.values[m] for m in metrics], len(study)),
        "upper": _stack([study.upper[m] for m in bounded], len(study)),
        "standard_errors": _stack([study.standard_errors[m] for m in measured], len(study)),
        "feasible": study.feasible.astype(np.uint8),
    }
    # in the metadata, as one JSON text: safetensors allows texts only
    header = {
        "schema": SCHEMA,
        "name": study.name,
        "space": study.space_name,
        "choices": choices_to_json(study.choices),
        "directions": {m: str(d) for m, d in study.directions.items()},
        "limits": limits_to_json(study.limits),
        "metrics": metrics,
        "bounded": bounded,
        "measured": measured,
        "sources": dict(study.sources),
        "failed": [[f.number, f.architecture, f.reason] for f in study.failed],
        "note": study.note,
        "provenance": dict(study.provenance),
    }
    # `allow_nan=False`: NaN is no JSON, and other readers refuse the file
    write_whole(Path(path), seal_tensors(save(columns, metadata={_KEY: json.dumps(header, allow_nan=False)})))


def load_study(path: Path | str) -> Study:
    """A study written by `save_study`.

    Raises:
        StudyError: the file is missing, damaged, not a study, or of a newer schema.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    if not path.is_file():
        raise StudyError(f"there is no study file {path}; `hwnas search` writes one")
    try:
        data = path.read_bytes()
        # checked before the columns are read: a flipped bit in them is a valid number
        metadata = open_tensors(data, is_older=lambda m: _header(m).get("schema") != SCHEMA)
        header, columns = _header(metadata), load(data)
    except (SafetensorError, ValueError, OSError) as e:
        raise StudyError(
            f"{path} is not what was written ({e}); write it again from its journal with `hwnas search`"
        ) from e
    if not header:
        raise StudyError(f"{path} is a safetensors file but not a study; `hwnas search` writes studies")
    if header.get("schema") not in (_PLAIN_SCHEMA, SCHEMA):
        raise StudyError(f"{path} has schema {header.get('schema')}; this version reads schema {SCHEMA}")
    try:
        return _study(header, columns)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise StudyError(f"{path} is not a complete study file ({e!r}); write it again with `hwnas search`") from e


def _header(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a file says of its study; empty if it holds none."""
    found = parse_json(metadata.get(_KEY, "{}"))
    return found if isinstance(found, dict) else {}


def _study(header: dict[str, Any], columns: dict[str, Any]) -> Study:
    return Study(
        name=header["name"],
        space_name=header["space"],
        choices=choices_from_json(header["choices"]),
        directions={m: Direction(d) for m, d in header["directions"].items()},
        limits=limits_from_json(header["limits"]),
        numbers=columns["numbers"],
        encodings=columns["encodings"],
        values={m: columns["values"][i] for i, m in enumerate(header["metrics"])},
        upper={m: columns["upper"][i] for i, m in enumerate(header["bounded"])},
        # a file from before these were kept has none
        standard_errors={m: columns["standard_errors"][i] for i, m in enumerate(header.get("measured", ()))},
        # (N,) uint8 -> bool
        feasible=columns["feasible"].astype(bool),
        sources=header["sources"],
        failed=tuple(FailedTrial(number=n, architecture=a, reason=r) for n, a, r in header["failed"]),
        note=header["note"],
        provenance=dict(header.get("provenance", {})),  # older files have none
    )


def _stack(rows: list[Any], n: int) -> Any:
    """(metrics, N) float64, also for no metrics."""
    return np.ascontiguousarray(rows, dtype=np.float64).reshape(len(rows), n)

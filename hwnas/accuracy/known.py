"""Accuracies that were measured once, kept as JSON lines: a later search, on any device, need not measure them again.

The file's first line says under what conditions the accuracies hold, each further one is a network. Several processes
may append to one file. Knows blocks and files; never devices, tables, the search, or how an accuracy is measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.appending import append_lines, complete_lines
from hwnas.errors import StudyError
from hwnas.types import Option

if TYPE_CHECKING:
    from hwnas.supernet.elastic import NamedBlocks

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """All that decides a sub-network's accuracy besides its blocks.

    Attributes:
        checkpoint_sha256: of the supernet's file, which also tells the data.
        quantization: of int8 activations, as `Runtime.quantization`.
        validation_samples: images accuracy is measured on; None: all.
        recalibration_samples: training images for BatchNorm statistics.
        calibration_samples: training images for int8 ranges.
        version: of hwnas, whose quantization this is.
    """

    checkpoint_sha256: str
    quantization: str
    validation_samples: int | None
    recalibration_samples: int
    calibration_samples: int
    version: str

    def fingerprint(self) -> str:
        """Short, and another for other conditions."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNetwork:
    """A network whose accuracy was measured.

    Attributes:
        key: see `network_key`.
        architecture: choice name -> option, with a precision for every block, also where the device leaves none to
            choose.
        accuracy: in [0, 1].
    """

    key: str
    architecture: Mapping[str, Option]
    accuracy: float


def network_key(blocks: NamedBlocks) -> str:
    """What tells a network apart from all others of one supernet: which block stands in which slot.

    Changes of precision follow from the blocks beside them and do not count.
    """
    lines = [f"{slot} {b.key}" for slot, b in blocks if b.kind not in ("quantize", "dequantize")]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


class KnownAccuracies:
    """The networks in one file. What other processes append is seen when a network is not found.

    Args:
        folder: of the file, made with the first network.
        conditions: the accuracies hold under; others have another file.

    Raises:
        StudyError: a complete line of the file is damaged; names it.
    """

    def __init__(self, folder: Path, conditions: Conditions) -> None:
        self.path = Path(folder) / f"accuracies-{conditions.fingerprint()}.jsonl"
        self._first = _line({"kind": "accuracies", "schema": SCHEMA, **asdict(conditions)})
        self._networks: dict[str, KnownNetwork] = {}
        self._read_lines = 0
        self._read_bytes = 0
        self._read()

    @property
    def networks(self) -> tuple[KnownNetwork, ...]:
        """All that are known, in the order they were measured in."""
        return tuple(self._networks.values())

    def find(self, key: str) -> float | None:
        """The accuracy of a network, None if nobody has measured it yet."""
        if key not in self._networks:
            self._read()
        known = self._networks.get(key)
        return None if known is None else known.accuracy

    def add(self, network: KnownNetwork) -> None:
        """Append a network.

        Raises:
            OSError: the file cannot be written; it holds what it held before.
        """
        append_lines(self.path, [_line(asdict(network))], first_line=self._first)
        self._networks[network.key] = network

    def _read(self) -> None:
        """Take in the lines that were appended since the last time."""
        if not self.path.exists():
            return
        for line in complete_lines(self.path, start=self._read_bytes):
            self._read_lines += 1
            self._read_bytes += len(line) + 1
            try:
                values = json.loads(line)
                if self._read_lines > 1:
                    network = _network(values)
                    self._networks.setdefault(network.key, network)
                elif (values["kind"], values["schema"]) != ("accuracies", SCHEMA):
                    raise ValueError(f"{values['kind']!r} of schema {values['schema']!r}")
            except (ValueError, TypeError, KeyError) as e:
                raise StudyError(
                    f"{self.path}, line {self._read_lines} is damaged ({type(e).__name__}: {e}); delete the file: "
                    "the accuracies in it will be measured again"
                ) from e


def _network(values: Mapping[str, Any]) -> KnownNetwork:
    accuracy, key, architecture = values["accuracy"], values["key"], values["architecture"]
    if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy is {accuracy!r}")
    if not isinstance(key, str) or not isinstance(architecture, dict):
        raise TypeError("a network needs a key and an architecture")
    return KnownNetwork(key=key, architecture=architecture, accuracy=float(accuracy))


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"

"""Accuracies that were measured once, kept as JSON lines: a later search, on any device, need not measure them again.

The file's first line says under what conditions the accuracies hold, each further one is a network. Several processes
may append to one file. Every line carries its checksum: what is damaged is put aside when the file is opened, and
measured again. Knows blocks and files; never devices, tables, the search, or how an accuracy is measured.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.appending import (
    append_sealed,
    complete_lines,
    is_unsealed,
    read_sealed,
    repair_sealed,
    upgrade_sealed,
)
from hwnas.errors import IntegrityError, StudyError
from hwnas.integrity import line_checksum, open_line
from hwnas.precisions import is_conversion, simulated_as
from hwnas.types import Option

if TYPE_CHECKING:
    from hwnas.supernet.elastic import NamedBlocks

SCHEMA = 3  # since 3, keys of blocks leave out attributes at their defaults
_UNSEALED_SCHEMA = 1  # without checksums


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """All that decides a sub-network's accuracy besides its blocks.

    Attributes:
        checkpoint_sha256: of the supernet's file, which also tells the data; of a given network's weights and the data.
        quantization: of int8 activations, as `Runtime.quantization`.
        validation_samples: images accuracy is measured on; None: all.
        recalibration_samples: training images for BatchNorm statistics.
        calibration_samples: training images for int8 ranges.
        version: of hwnas, whose quantization this is, and of how it evaluates.
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
        accuracy: what it is ranked by: a share of which 1 is perfect.
        standard_error: of it; None in a file of an earlier version.
    """

    key: str
    architecture: Mapping[str, Option]
    accuracy: float
    standard_error: float | None = None


def network_key(blocks: NamedBlocks) -> str:
    """What tells a network apart from all others of one supernet: which block stands in which slot.

    Changes of precision follow from the blocks beside them and do not count; floats that torch computes alike are one.
    """
    lines = [
        f"{slot} {replace(b, precision=simulated_as(b.precision)).key}"
        for slot, b in blocks
        if not is_conversion(b.kind)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


class KnownAccuracies:
    """The networks in one file. What other processes append is seen when a network is not found.

    Args:
        folder: of the file, made with the first network.
        conditions: the accuracies hold under; others have another file.
        key_of: architecture of a network -> its key today, None if it is not in the space. The networks of a file of an
            earlier schema get these keys; those that get none are not found again.

    Attributes:
        repaired: what was wrong with the file when it was opened, a sentence each; what was damaged is put aside in
            `<file>.damaged`.

    Raises:
        StudyError: a line of the file is sound and no network; names it.
        OSError: the file is damaged and cannot be repaired.
    """

    def __init__(
        self,
        folder: Path,
        conditions: Conditions,
        *,
        key_of: Callable[[Mapping[str, Option]], str | None] = lambda architecture: None,
    ) -> None:
        self.path = Path(folder) / f"accuracies-{conditions.fingerprint()}.jsonl"
        self._first = {"kind": "accuracies", "schema": SCHEMA, **asdict(conditions)}
        # in the order of the file: a later search begins with these in this order
        self._networks: dict[str, KnownNetwork] = {}
        self._checksum = ""  # of the first line, once it was read
        self._read_lines = 0
        self._read_bytes = 0
        # before it is read: reading refuses what repairing puts aside
        self.repaired = self._repair(key_of)
        self._read()

    @property
    def networks(self) -> tuple[KnownNetwork, ...]:
        """All that are known, in the order they were measured in."""
        return tuple(self._networks.values())

    def find(self, key: str) -> KnownNetwork | None:
        """A network, None if nobody has measured it yet."""
        # only then: another process may have measured it since, and a look at the file costs less than measuring
        if key not in self._networks:
            self._read()
        return self._networks.get(key)

    def add(self, network: KnownNetwork) -> None:
        """Append a network.

        Raises:
            StudyError: the file was damaged meanwhile.
            OSError: the file cannot be written; it holds what it held before.
        """
        try:
            # the file before memory: what is known here must be known to others
            append_sealed(self.path, [asdict(network)], first=self._first)
        except IntegrityError as e:
            raise self._damaged(e) from e
        self._networks[network.key] = network

    # ------------------------------------------------------------ the file

    def _repair(self, key_of: Callable[[Mapping[str, Option]], str | None]) -> tuple[str, ...]:
        if not self.path.exists():
            return ()

        def converted(values: Mapping[str, Any]) -> Mapping[str, Any]:
            architecture = values.get("architecture")
            key = key_of(architecture) if isinstance(architecture, dict) else None
            return values if key is None else {**values, "key": key}

        lines = complete_lines(self.path)
        sealed = not (lines and is_unsealed(lines[0], schema=_UNSEALED_SCHEMA))
        # without checksums damage cannot be told from content
        problems = repair_sealed(self.path) if sealed else ()
        try:
            if self.path.exists():
                upgrade_sealed(self.path, unsealed=_UNSEALED_SCHEMA, becomes=SCHEMA, convert=converted)
        except IntegrityError as e:
            raise self._damaged(e) from e
        return tuple(f"{self.path}: {problem}" for problem in problems)

    def _read(self) -> None:
        """Take in the lines that were appended since the last time."""
        if not self.path.exists():
            return
        try:
            for line in complete_lines(self.path, start=self._read_bytes):
                self._take(line)
        except IntegrityError:  # another process may have put a repaired file in its place
            self._read_whole()

    def _take(self, line: bytes) -> None:
        number, values = open_line(line, first=self._checksum)
        if number != self._read_lines + 1:
            raise IntegrityError(f"line {self._read_lines + 1} says that it is line {number}")
        self._read_lines += 1
        # with the line's end, which `complete_lines` takes off
        self._read_bytes += len(line) + 1
        self._checksum = self._checksum or line_checksum(line)
        self._keep(self._read_lines, values)

    def _read_whole(self) -> None:
        try:
            lines = complete_lines(self.path)
            entries = read_sealed(self.path)
        except IntegrityError as e:
            raise self._damaged(e) from e
        self._checksum = line_checksum(lines[0])
        self._read_lines, self._read_bytes = len(entries), sum(len(line) + 1 for line in lines[: len(entries)])
        for number, values in enumerate(entries, start=1):
            self._keep(number, values)

    def _keep(self, number: int, values: Mapping[str, Any]) -> None:
        try:
            if number > 1:
                network = _network(values)
                # the first counts: two processes may have measured one
                # network at the same time, and searches saw that one
                self._networks.setdefault(network.key, network)
            elif (values["kind"], values["schema"]) != ("accuracies", SCHEMA):
                raise ValueError(f"{values['kind']!r} of schema {values['schema']!r}")
        except (ValueError, TypeError, KeyError) as e:
            raise self._damaged(f"line {number} is damaged ({type(e).__name__}: {e})") from e

    def _damaged(self, what: object) -> StudyError:
        return StudyError(
            f"{self.path}: {what}; run the same command again, or delete the file: the accuracies in it will be "
            "measured again"
        )


def _network(values: Mapping[str, Any]) -> KnownNetwork:
    accuracy, key, architecture = values["accuracy"], values["key"], values["architecture"]
    if not _is_number(accuracy) or not accuracy <= 1:
        raise ValueError(f"accuracy is {accuracy!r}")
    error = values.get("standard_error")
    if error is not None and (not _is_number(error) or not error >= 0):
        raise ValueError(f"standard_error is {error!r}")
    if not isinstance(key, str) or not isinstance(architecture, dict):
        raise TypeError("a network needs a key and an architecture")
    return KnownNetwork(
        key=key,
        architecture=architecture,
        accuracy=float(accuracy),
        standard_error=None if error is None else float(error),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

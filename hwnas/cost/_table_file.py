"""The lines of the latency table's file, and back.

Since schema 2 every line carries its checksum; since schema 3 keys of blocks leave out attributes at their defaults;
since schema 4 there are pairs of neighbouring blocks. Tables of earlier schemas are read, their keys as they are
written today. Knows JSON; neither the disk
(`hwnas.appending` does) nor what an entry is used for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwnas.appending import complete_lines, is_unsealed, read_sealed
from hwnas.errors import IntegrityError, TableError
from hwnas.integrity import parse_json
from hwnas.spaces.kinds import current_key
from hwnas.types import Device, MeasurementFailure, Statistic

# a new schema is a new number here and a conversion in `with_current_keys`; older files stay readable
SCHEMA = 4
UNSEALED_SCHEMA = 1  # without checksums
KEYS_SCHEMA = 3  # keys are as they are written today

_IN_FILES = {"minimum": "fastest"}  # fields of `Statistic` whose word in files, tables' and audits', is another
_MAY_DIFFER = ("governor", "date", "reference_ms")  # the drift correction is for these


@dataclass(frozen=True, slots=True, kw_only=True)
class TableContext:
    """In what circumstances a table's entries were measured: its file's first line.

    Attributes:
        device: name of the description.
        hardware: processor or accelerator, with what decides its kernels.
        runtime: registered name.
        runtime_version: of the runtime.
        threads: the runtime may use.
        precision: of the entries.
        options: the device's runtime options as `key=value` pairs; empty for none.
        governor: of the clock, `unknown` where the system does not tell.
        date: of the table's first measurement, ISO 8601.
        reference_sha256: of the drift anchor's file; tables call the anchor reference, and so do these fields.
        reference_ms: its time when the table was begun: every entry is corrected to it.
        source: `measured`, `estimated by ...` where a compiler stands for the hardware, or `emulated: ...`.
    """

    device: str
    hardware: str
    runtime: str
    runtime_version: str
    threads: int
    precision: str
    reference_sha256: str
    reference_ms: float
    options: str = ""
    governor: str = "unknown"
    date: str = ""
    source: str = "measured"

    @classmethod
    def of(
        cls,
        device: Device,
        runtime_context: Mapping[str, str],
        *,
        precision: str,
        reference_sha256: str,
        reference_ms: float,
    ) -> TableContext:
        """The context of measurements taken now.

        Args:
            device: on which.
            runtime_context: what `Runtime.context` says: `runtime_version`, `hardware`, `governor`.
            precision: of the entries.
            reference_sha256: of the drift anchor's file.
            reference_ms: its time now.
        """
        return cls(
            device=device.name,
            hardware=runtime_context["hardware"],
            runtime=device.runtime,
            runtime_version=runtime_context["runtime_version"],
            threads=device.threads,
            precision=precision,
            options=",".join(f"{k}={v}" for k, v in sorted(device.options.items())),
            governor=runtime_context.get("governor", "unknown"),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            source=runtime_context.get("source", "measured"),
            reference_sha256=reference_sha256,
            reference_ms=reference_ms,
        )

    def differences(self, other: TableContext) -> dict[str, tuple[object, object]]:
        """Fields that make two contexts incomparable, with both values; date, governor and anchor's time may differ."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: (a, b) for name, (a, b) in pairs.items() if a != b and name not in _MAY_DIFFER}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEntry:
    """One measured block, or why it could not be measured.

    `size_bytes` is that of its file, None if unknown; `board` which of several of the device it was, "" of one.
    """

    block: str
    result: Statistic | MeasurementFailure
    size_bytes: int | None = None
    board: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEntry:
    """One measured chain of blocks: the keys of its blocks in order, its time, its file's size; `board` as of a block.

    `is_pair`: two neighbours, with ends as they have them inside a network; else it is a whole network.
    """

    blocks: tuple[str, ...]
    statistic: Statistic
    size_bytes: int
    board: str = ""
    is_pair: bool = False


def context_values(context: TableContext) -> dict[str, Any]:
    """The context as the values of the file's first line."""
    values = asdict(context)
    # nested in the file, flat in the class: hash and time are of one model
    reference = {"sha256": values.pop("reference_sha256"), "ms": values.pop("reference_ms")}
    return {"kind": "context", "schema": SCHEMA, **values, "reference": reference}


def entry_values(entry: BlockEntry | NetworkEntry) -> dict[str, Any]:
    """An entry as the values of a line.

    Raises:
        ValueError, TypeError: a value that could not be read back, such as a time of zero.
    """
    if isinstance(entry, NetworkEntry):
        return {
            "kind": "pair" if entry.is_pair else "network",
            "blocks": list(entry.blocks),
            "latency_ms": _statistic_values(entry.statistic),
            "size_bytes": entry.size_bytes,
            **_costs_value(entry.statistic),
            **_board_value(entry),
        }
    if isinstance(entry.result, MeasurementFailure):
        return {"kind": "block", "block": entry.block, "failure": entry.result.reason, **_board_value(entry)}
    return {
        "kind": "block",
        "block": entry.block,
        "latency_ms": _statistic_values(entry.result),
        "size_bytes": entry.size_bytes,
        **_costs_value(entry.result),
        **_board_value(entry),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """What a table's file holds.

    Attributes:
        context: None when not even the first line is complete.
        entries: in the order they were measured.
        schema: of the file; its entries are as in a file of today's.
    """

    context: TableContext | None
    entries: tuple[BlockEntry | NetworkEntry, ...] = ()
    schema: int = SCHEMA


def read_table(path: Path) -> TableFile:
    """The context and the entries of a file; a last line without its end is left out.

    Raises:
        FileNotFoundError: there is no file.
        TableError: a complete line is damaged, lost, doubled or moved; names it.
    """
    lines = complete_lines(path)
    if not lines:
        return TableFile(context=None)
    # decided by the first line alone: a damaged later line must not make a sealed file pass as an unsealed one
    is_sealed = not is_unsealed(lines[0], schema=UNSEALED_SCHEMA)
    # lines of schema 1 are parsed below, where the error can name the line
    values: Sequence[dict[str, Any] | bytes] = lines
    try:
        if is_sealed:
            values = read_sealed(path)
    except IntegrityError as e:
        raise TableError(
            f"{path} is not what was measured: {e}; restore the file, or run `hwnas profile` (of an audit `hwnas "
            "devices audit`), which puts the damaged lines aside and measures them again"
        ) from e
    entries: list[BlockEntry | NetworkEntry] = []
    context: TableContext | None = None
    schema = SCHEMA
    for number, line in enumerate(values, start=1):
        try:
            found: dict[str, Any] = parse_json(line) if isinstance(line, bytes) else line
            if number == 1:
                # the schema decides how every later line is read, so the context comes first
                context, schema = _parse_context(found), found["schema"]
            else:
                entries.append(_parse_entry(found if schema >= KEYS_SCHEMA else with_current_keys(found)))
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise TableError(
                f"{path}, line {number} is damaged ({type(e).__name__}: {e}); restore the file, or delete this line if "
                "it is not the first and profile again"
            ) from e
    return TableFile(context=context, entries=tuple(entries), schema=schema)


def with_current_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an entry of an earlier schema with its blocks' keys as they are written today.

    Raises:
        KeyError: it names no blocks.
        TypeError: a key is no text.
    """
    if "blocks" in values:
        return {**values, "blocks": [current_key(_text(b, "block")) for b in values["blocks"]]}
    return {**values, "block": current_key(_text(values["block"], "block"))}


def _parse_context(values: dict[str, Any]) -> TableContext:
    if values["kind"] != "context":
        raise ValueError(f"the first line must be the context, not {values['kind']!r}")
    if values["schema"] not in range(UNSEALED_SCHEMA, SCHEMA + 1):
        raise ValueError(f"schema {values['schema']!r}; this version of hwnas reads schemas up to {SCHEMA}")
    reference = values["reference"]
    rest = {k: v for k, v in values.items() if k not in ("kind", "schema", "reference")}
    return TableContext(
        **rest, reference_sha256=str(reference["sha256"]), reference_ms=_positive(reference["ms"], "reference ms")
    )


def _parse_entry(values: dict[str, Any]) -> BlockEntry | NetworkEntry:
    board = _text(values.get("board", ""), "board")
    if values["kind"] in ("network", "pair"):
        blocks = tuple(_text(b, "block") for b in values["blocks"])
        is_pair = values["kind"] == "pair"
        if is_pair and len(blocks) != 2:
            raise ValueError(f"a pair of {len(blocks)} blocks")
        statistic = _parse_statistic(values["latency_ms"], values.get("costs", {}))
        n_bytes = _size(values["size_bytes"])
        return NetworkEntry(blocks=blocks, statistic=statistic, size_bytes=n_bytes, board=board, is_pair=is_pair)
    if values["kind"] != "block":
        raise ValueError(f"unknown kind {values['kind']!r}; known: block, network, pair")
    block = _text(values["block"], "block")
    if "failure" in values:
        reason = _text(values["failure"], "failure")
        return BlockEntry(block=block, result=MeasurementFailure(reason=reason), board=board)
    size_bytes = None if values["size_bytes"] is None else _size(values["size_bytes"])
    statistic = _parse_statistic(values["latency_ms"], values.get("costs", {}))
    return BlockEntry(block=block, result=statistic, size_bytes=size_bytes, board=board)


def statistic_values(statistic: Statistic) -> dict[str, Any]:
    """All of a statistic under the names that it has in files."""
    return {_IN_FILES.get(name, name): value for name, value in asdict(statistic).items()}


def _statistic_values(statistic: Statistic) -> dict[str, Any]:
    # None is left out: tables from before phases were recorded have no such fields, and read the same
    values = {name: value for name, value in statistic_values(statistic).items() if value is not None}
    # checked before it is written: a line that cannot be read back would lock the table
    _parse_statistic(values, values.pop("costs"))
    return values


def _costs_value(statistic: Statistic) -> dict[str, Any]:
    """The other costs, in a field of their own: a metric without a meter has none."""
    return {"costs": dict(statistic.costs)} if statistic.costs else {}


def _board_value(entry: BlockEntry | NetworkEntry) -> dict[str, str]:
    """Left out where there is one board: tables of one are what they were before there could be several."""
    return {"board": entry.board} if entry.board else {}


def _parse_statistic(values: dict[str, Any], costs: dict[str, Any]) -> Statistic:
    names = {written: name for name, written in _IN_FILES.items()}
    statistic = Statistic(**{names.get(name, name): value for name, value in values.items()}, costs=dict(costs))
    for name, cost in costs.items():
        if _number(cost, name) < 0:
            raise ValueError(f"{name} is {cost}")
    for name in ("minimum", "median", "p90", "n", "drift"):
        _positive(getattr(statistic, name), name)
    if _number(statistic.cv, "cv") < 0:
        raise ValueError(f"cv is {statistic.cv}")
    if statistic.phase_drift is not None:
        _positive(statistic.phase_drift, "phase_drift")
    if statistic.phase_share is not None and not 0 <= _number(statistic.phase_share, "phase_share") <= 1:
        raise ValueError(f"phase_share is {statistic.phase_share}")
    return statistic


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, not a text")
    return value


def _size(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError(f"size_bytes is {value!r}, not a number of bytes")
    return value


def _number(value: object, name: str) -> float:
    # `bool` is an `int` in Python, and JSON's true is no time
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{name} is {value!r}, not a number")
    return value


def _positive(value: object, name: str) -> float:
    number = _number(value, name)
    if number <= 0:
        raise ValueError(f"{name} is {value!r}, not above 0")
    return number

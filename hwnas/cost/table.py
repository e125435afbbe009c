"""The latency table: what blocks and networks were measured to cost on one device, kept as JSON lines.

Knows block keys, statistics and the context they were measured in; never torch, nor how a sample was taken.

The file's first line is the context, each further one a block, a pair of neighbouring blocks or a network. Lines are
appended and synced under a lock, so several processes may write one table. A line counts once its end is on disk: what
a killed process or a full disk left without one is dropped on reading and cut off before the next append. Every line
carries its number and a checksum: one that is damaged, lost, doubled or moved is an error, never skipped.
`repair_table`, which those who measure call first, puts damaged lines aside, so that what they held is measured again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from hwnas.appending import append_sealed, complete_lines, is_unsealed, repair_sealed, upgrade_sealed
from hwnas.cost._table_file import (
    KEYS_SCHEMA,
    SCHEMA,
    UNSEALED_SCHEMA,
    BlockEntry,
    NetworkEntry,
    TableContext,
    TableFile,
    context_values,
    entry_values,
    read_table,
    statistic_values,
    with_current_keys,
)
from hwnas.errors import IntegrityError, MissingEntryError, TableContextError, TableError
from hwnas.types import MeasurementFailure, Statistic

__all__ = [
    "KEYS_SCHEMA",
    "SCHEMA",
    "BlockEntry",
    "LatencyTable",
    "NetworkEntry",
    "TableContext",
    "repair_table",
    "statistic_values",
]


class LatencyTable:
    """Entries of one device, runtime and precision. Get one from `LatencyTable.open`.

    `n_entries` is the number of lines but for the first. `schema` is that of the file; the next append makes it
    today's.

    The last entry of a block wins. A block whose last entry is a failure counts as missing: it is measured again
    the next time.
    """

    def __init__(self, path: Path, context: TableContext, file: TableFile) -> None:
        """For `open`."""
        self.path = path
        self.context = context
        self.schema = file.schema
        self._set(file)

    @classmethod
    def open(cls, path: Path, context: TableContext | None = None) -> LatencyTable:
        """Open a table, or begin one.

        Args:
            path: the file. Without a context it must exist; reading never writes to it.
            context: of what is to be measured or compared. A file that is absent, or cut off in its first line,
                begins with it; any other must have been measured in the same one (date, governor and anchor's
                time may differ: the table's own stay).

        Raises:
            TableContextError: the table was measured in another context; names the differences.
            TableError: there is no table and no context to begin one with, or a line is damaged.
            OSError: the file cannot be read or written.
        """
        path = Path(path)
        file = cls._read(path)
        if file.context is None:
            if context is None:
                state = "has no complete first line" if path.exists() else "does not exist"
                raise TableError(f"the latency table {path} {state}; measure this device with `hwnas profile`")
            # under a lock that looks again: the context is only written where no first line is
            append_sealed(path, [], first=context_values(context))
            file = cls._read(path)  # another process may have been the first
            if file.context is None:
                raise TableError(f"the latency table {path} was changed while it was being opened; try again")
        if context is not None and (differences := file.context.differences(context)):
            raise TableContextError(str(path), differences)
        return cls(path, file.context, file)

    # results of one group go in with one sync: fsync costs milliseconds, and a group is what a kill may lose
    def append_blocks(
        self,
        results: Mapping[str, Statistic | MeasurementFailure],
        *,
        sizes: Mapping[str, int] | None = None,
        boards: Mapping[str, str] | None = None,
    ) -> None:
        """Add the results of blocks to the file with one sync, all or none, then to the table.

        Args:
            results: block key -> its time in milliseconds, or why there is none.
            sizes: block key -> bytes of its artefact, where known; kept in the file alone.
            boards: block key -> which of several boards measured it; likewise.

        Raises:
            OSError: they could not be written; file and table are as before.
        """
        sizes, boards = sizes or {}, boards or {}
        # one call, so that all of them or none are on disk
        self._append(
            [
                BlockEntry(block=k, result=r, size_bytes=sizes.get(k), board=boards.get(k, ""))
                for k, r in results.items()
            ]
        )

    def append_network(
        self, blocks: Sequence[str], statistic: Statistic, *, size_bytes: int, board: str = "", is_pair: bool = False
    ) -> None:
        """Add one whole network: the keys of its blocks in order, its time in milliseconds, its file's size.

        `board` says which of several boards measured it; `is_pair` that it is no whole network but two neighbours.

        Raises:
            OSError: it could not be written; file and table are as before.
        """
        entry = NetworkEntry(
            blocks=tuple(blocks), statistic=statistic, size_bytes=size_bytes, board=board, is_pair=is_pair
        )
        self._append([entry])

    @property
    def entries(self) -> Mapping[str, float]:
        """Block key -> latency in milliseconds, of every block that was measured."""
        # a view: entries are added by appending alone, so that the file has them too
        return MappingProxyType(self._latency_ms)

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """Block key -> its statistic."""
        return MappingProxyType(self._statistics)

    @property
    def failures(self) -> Mapping[str, str]:
        """Block key -> why its last measurement failed."""
        return MappingProxyType(self._failures)

    @property
    def networks(self) -> tuple[NetworkEntry, ...]:
        """Whole networks, in the order they were measured; one measured again stands there again."""
        return tuple(n for n in self._networks if not n.is_pair)

    @property
    def pairs(self) -> tuple[NetworkEntry, ...]:
        """Pairs of neighbouring blocks, likewise."""
        return tuple(n for n in self._networks if n.is_pair)

    def latency_ms(self, key: str) -> float:
        """Time of a block, the minimum.

        Raises:
            MissingEntryError: it was not measured; says why if the measurement failed.
        """
        if key not in self._latency_ms:
            raise MissingEntryError(key, str(self.path), reason=self._failures.get(key))
        return self._latency_ms[key]

    def missing(self, keys: Iterable[str]) -> tuple[str, ...]:
        """The keys without a measured time, each once, in the order given."""
        return tuple(key for key in dict.fromkeys(keys) if key not in self._latency_ms)

    def refresh(self) -> None:
        """Read again what is in the file, other processes' entries included.

        Raises:
            TableError: the file is gone, or a line is damaged.
        """
        file = self._read(self.path)
        if file.context is None:
            raise TableError(f"the latency table {self.path} is gone; measure this device with `hwnas profile`")
        self._set(file)

    @staticmethod
    def _read(path: Path) -> TableFile:
        try:
            return read_table(path)
        except FileNotFoundError:
            return TableFile(context=None)

    def _append(self, entries: Sequence[BlockEntry | NetworkEntry]) -> None:
        values = [entry_values(e) for e in entries]
        try:
            if self.schema != SCHEMA:
                _upgrade(self.path)
                self.schema = SCHEMA
            append_sealed(self.path, values)
        except IntegrityError as e:
            raise TableError(f"{self.path} was damaged while it was open: {e}; run the same command again") from e
        # after the file: memory must never know what the disk does not
        for entry in entries:
            self._add(entry)

    def _set(self, file: TableFile) -> None:
        self.schema = file.schema
        self._latency_ms: dict[str, float] = {}
        self._statistics: dict[str, Statistic] = {}
        self._failures: dict[str, str] = {}
        self._networks: list[NetworkEntry] = []
        self.n_entries = 0
        for entry in file.entries:
            self._add(entry)

    def _add(self, entry: BlockEntry | NetworkEntry) -> None:
        self.n_entries += 1
        if isinstance(entry, NetworkEntry):
            self._networks.append(entry)
            return
        # the last entry of a block wins, whatever it is: a failure hides an older time, and the other way round
        for earlier in (self._latency_ms, self._statistics, self._failures):
            earlier.pop(entry.block, None)
        if isinstance(entry.result, MeasurementFailure):
            self._failures[entry.block] = entry.result.reason
            return
        self._statistics[entry.block] = entry.result
        # the minimum, not the median: what neighbours on the machine added does not add up over blocks
        self._latency_ms[entry.block] = entry.result.minimum


def repair_table(path: Path) -> tuple[str, ...]:
    """Make a table one that can be measured into: the first thing to do before opening it for that.

    Damaged lines are put aside, into `<file>.damaged`, and the others kept (see `repair_sealed`); a table of an earlier
    schema becomes one of today's.

    Returns:
        What was done, a sentence each; empty if nothing was, or there is no table.

    Raises:
        TableError: a line of a table of schema 1 is damaged.
        OSError: the file cannot be written; it is as it was.
    """
    # no complete line: a table that was never begun
    lines = complete_lines(path) if path.exists() else []
    if not lines:
        return ()
    # without checksums damage cannot be told from content, so nothing is put aside: reading it raises instead
    if is_unsealed(lines[0], schema=UNSEALED_SCHEMA):
        read_table(path)
        _upgrade(path)
        return (f"{path} had no checksums yet; now it has",)
    done = []
    if problems := repair_sealed(path):
        rest = (
            f"the other lines are kept, damaged ones put aside in {path.name}.damaged, and what is missing is measured"
        )
        done.append(f"{path}: {'; '.join(problems)}; {rest}")
    # repairing may have put every line aside, and then no file is left; what else is older is brought to today's by
    # the first line that is appended, which nobody needs to hear of
    if path.exists() and read_table(path).schema < KEYS_SCHEMA and _upgrade(path):
        done.append(f"{path} named attributes at their defaults in its keys; now it leaves them out")
    return tuple(done)


def _upgrade(path: Path) -> bool:
    """Bring a table of an earlier schema to today's; whether it was one."""
    return upgrade_sealed(path, unsealed=UNSEALED_SCHEMA, becomes=SCHEMA, convert=with_current_keys)

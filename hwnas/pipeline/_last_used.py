"""`last_used.json`: what a run was last used with, so that what changed since is told.

The configuration is for people to edit, so it carries no checksum: instead every setting that is another than the last
time is told. Tables grow at their end, where nothing shows that lines are missing: instead their length is known.
Knows settings and lengths, not what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwnas._console import Console
from hwnas.config import CONFIG_FILE, Config
from hwnas.cost.table import LatencyTable
from hwnas.errors import TableError
from hwnas.files import read_document, write_document
from hwnas.integrity import digest
from hwnas.workspace import Workspace

FILE = "last_used.json"
SCHEMA = 1
# a run may be moved, and evaluated by others
_MAY_DIFFER = ("output.folder", "search.workers", "search.ray")


@dataclass(kw_only=True)
class LastUsed:
    """What a run was last used with; empty before the first time.

    Attributes:
        settings: of its configuration, by dotted name.
        tables: `<device>/<file>` -> the context's digest and the number of entries, after the last profile.
        problem: why nothing is known of a run that was used before; empty otherwise.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def of(cls, folder: Path) -> LastUsed:
        """What the run in a folder was last used with."""
        path = folder / FILE
        if not path.exists():
            # without a configuration the run was never begun, and nothing can have changed
            is_new = not (folder / CONFIG_FILE).exists()
            told = f"{path} is missing, so it cannot be told which settings changed; it is made again"
            return cls(problem="" if is_new else told)
        try:
            values = read_document(path)
            if values["schema"] != SCHEMA:
                raise ValueError(f"schema {values['schema']!r}; this version reads {SCHEMA}")
            return cls(settings=dict(values["settings"]), tables=dict(values["tables"]))
        except (OSError, ValueError, TypeError, KeyError) as e:
            return cls(
                problem=f"{path} is damaged ({e}), so it cannot be told which settings changed; it is made again"
            )

    def write(self, folder: Path) -> None:
        """Keep it, whole."""
        write_document(folder / FILE, {"schema": SCHEMA, "settings": self.settings, "tables": self.tables})

    def changes(self, config: Config) -> list[str]:
        """What is other in a configuration, a sentence each."""
        if not self.settings:
            return [self.problem] if self.problem else []  # a new run
        now = settings_of(config)
        return [
            f"{name} is {_text(now.get(name))} and was {_text(self.settings.get(name))} when this run was last used"
            for name in sorted({*now, *self.settings})
            if now.get(name) != self.settings.get(name)
        ]

    def knows(self, table: Path) -> bool:
        """Whether the run was profiled with a table of this name."""
        return _name(table) in self.tables

    def check(self, table: LatencyTable) -> None:
        """See that a table has all that it had after the last profile; it may have more.

        Raises:
            TableError: it is shorter, or another one.
        """
        known = self.tables.get(_name(table.path))
        if known is None:
            return
        now = _describe(table)
        if now["context"] != known["context"]:
            raise TableError(
                f"{table.path} is another table than the one this run was profiled with; restore that, or run "
                "`hwnas profile` to go on with this one"
            )
        if now["entries"] < known["entries"]:
            raise TableError(
                f"{table.path} has {now['entries']} entries, and had {known['entries']} when the device was profiled; "
                "restore the file, or measure the others again with `hwnas profile`"
            )

    def keep(self, table: LatencyTable) -> None:
        """Note how long a table is."""
        self.tables[_name(table.path)] = _describe(table)


def tell_changes(work: Workspace, *, console: Console) -> None:
    """Say which settings are others than when the run was last used."""
    for change in LastUsed.of(work.folder).changes(work.config):
        console.note(change)


def begin(work: Workspace, *, console: Console) -> None:
    """Begin a stage: tell which settings changed, write the configuration into the folder and keep it in mind.

    Raises:
        ConfigError: the folder cannot be made.
    """
    tell_changes(work, console=console)
    work.begin()
    with work.alone("saving", wait=True):
        known = LastUsed.of(work.folder)
        known.settings = settings_of(work.config)
        known.write(work.folder)


def keep_tables(work: Workspace, tables: Iterable[LatencyTable]) -> None:
    """Note what the tables hold now that they are complete."""
    with work.alone("saving", wait=True):
        # read again under the lock: another stage may have noted its tables meanwhile
        known = LastUsed.of(work.folder)
        for table in tables:
            # other processes may have appended since it was opened
            table.refresh()
            known.keep(table)
        known.write(work.folder)


def _text(value: object) -> str:
    """A value as a configuration has it."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def settings_of(config: Config) -> dict[str, Any]:
    """Dotted name -> value, as JSON has it."""
    found = dict(_flat("", config.whole.model_dump(mode="json")))
    return {name: value for name, value in found.items() if name not in _MAY_DIFFER}


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _name(table: Path) -> str:
    return f"{table.parent.name}/{table.name}"


def _describe(table: LatencyTable) -> dict[str, Any]:
    return {"context": digest(asdict(table.context)), "entries": table.n_entries}

"""The file `hwnas devices new` writes: TOML with comments, checked by loading it.

What fields there are says `hwnas.device_fields`; where the values come from is not known here.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas._toml import Entry, format_section, format_value
from hwnas.device_fields import FIELDS, SCHEMA, TABLE_NOTES, DeviceField
from hwnas.errors import ConfigError, MissingPackageError
from hwnas.scratch import scratch
from hwnas.types import Device, Option

_LINE = 112  # characters


def setting_notes(kind: str, name: object) -> Mapping[str, str]:
    """What a runtime, a transport or a meter says of its settings, beside which it stands in a file.

    Args:
        kind: `runtimes`, `transports` or `meters`.
        name: registered; nothing is said of settings without one, or where it is not installed.
    """
    if not isinstance(name, str) or not name:
        return {}
    try:
        notes: Mapping[str, str] = getattr(registry.load(kind, name), "setting_notes", {})
    except MissingPackageError:
        return {}
    return notes


def check_connection(device: Device) -> None:
    """Check what loading a description does not: the settings of its connection.

    Raises:
        ConfigError, UnknownNameError: one is wrong; lists the known.
    """
    if device.connection:
        from hwnas.measure.connection import boards_of, open_connection

        for board in boards_of(device):
            open_connection(board.connection)


def check_file(name: str, document: str) -> None:
    """Load a description as it will be, before it replaces another.

    Raises:
        ConfigError: a value is wrong.
    """
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="checking the description")
    with scratch("device") as folder:
        path = Path(folder, name)
        path.write_text(document, encoding="utf-8")
        try:
            load_device(path)
        except ConfigError as e:  # which names a file that nobody will find
            raise ConfigError(str(e).replace(f"{folder}{os.sep}", "")) from e


def to_toml(device: Device, *, like: str | None) -> str:
    """A description as TOML; `load_device` reads it back.

    Args:
        device: to be written; its name is that of the file.
        like: the description it began with, for the comment.
    """
    origin = f", like {' '.join(Path(like).stem.split())}" if like else ""
    lines = [
        f"# Written by `hwnas devices new`{origin}. The file's name is the device's, and its tables are kept under it.",
        f"schema = {SCHEMA}",
    ]
    notes = {
        "options": setting_notes("runtimes", device.runtime),
        "connection": setting_notes("transports", device.connection.get("transport")),
        "energy.options": setting_notes("meters", device.meter),
    }
    tables: dict[str, tuple[dict[str, Any], str]] = {}  # name -> what is in it, and what it is about
    for field in FIELDS:
        value = getattr(device, field.attribute)
        if isinstance(value, Mapping):
            tables[field.key] = dict(value), field.note
        elif field.table:  # "" says nothing, but 0 W does
            within, _ = tables.setdefault(field.table, ({}, TABLE_NOTES[field.table]))
            within[field.key.removeprefix(f"{field.table}.")] = value or None if isinstance(value, str) else value
        elif value != () and not (field.prose and not value.strip()):
            lines.append(_line(field, value))
    sections = [
        _section(name, values, comment=note, notes=notes.get(name, {})) for name, (values, note) in tables.items()
    ]
    return "\n".join([*lines, "", *(s for s in sections if s)])


def _line(field: DeviceField, value: Any) -> str:
    if field.prose:
        return f"{field.key} = {_paragraph(value)}"
    written = format_value(list(value) if isinstance(value, tuple) else value)
    return f"{field.key} = {written}{f'  # {field.note}' if field.note else ''}"


def _paragraph(text: str) -> str:
    """A text for people in lines that an editor shows whole; between them stands TOML's continuation."""
    escaped = format_value(" ".join(text.split()))[1:-1]  # without its quotation marks; three take their place
    wrapped = textwrap.wrap(escaped, _LINE, break_long_words=False, break_on_hyphens=False)
    return '"""\\\n' + " \\\n".join(wrapped) + '"""'


def _section(name: str, values: Mapping[str, Option | None], *, comment: str, notes: Mapping[str, str]) -> str:
    entries = [Entry(key=k, value=v, comment=notes.get(k, "")) for k, v in values.items() if v is not None]
    return format_section(name, entries, comment=comment) if entries else ""

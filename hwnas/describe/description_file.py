"""The file `hwnas devices new` writes: TOML with comments, checked by loading it.

Knows fields and their notes, not where the values come from.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from hwnas import registry
from hwnas._toml import Entry, Value, format_section, format_value
from hwnas.errors import ConfigError
from hwnas.scratch import scratch
from hwnas.types import Device, Option

_LINE = 112  # characters
# beside the values they are about
OPTION_NOTES = {"provider": "of execution", "host": "as for ssh", "serial": "as `adb devices` shows it"}


def check_connection(device: Device) -> None:
    """Check what loading a description does not: the settings of its connection.

    Raises:
        ConfigError, UnknownNameError: one is wrong; lists the known.
    """
    if device.connection:
        from hwnas.measure.connection import open_connection

        open_connection(device.connection)


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
        except ConfigError as e:
            raise ConfigError(str(e).replace(f"{folder}{os.sep}", "")) from e


def to_toml(device: Device, *, like: str | None) -> str:
    """A description as TOML; `load_device` reads it back.

    Args:
        device: to be written; its name is that of the file.
        like: the description it began with, for the comment.
    """
    origin = f", like {' '.join(Path(like).stem.split())}" if like else ""
    top: list[tuple[str, Value, str]] = [
        ("schema", 1, ""),
        ("description", device.description, ""),
        ("runtime", device.runtime, ""),
        ("threads", device.threads, "of the runtime"),
        ("precisions", list(device.precisions), "what it may compute in"),
    ]
    if device.cores:
        top.append(("cores", list(device.cores), "the measuring process is pinned to"))
    told = {"known": device.known, "unknown": device.unknown}
    lines = [
        f"# Written by `hwnas devices new`{origin}. The file's name is the device's, and its tables are kept under it.",
        *(f"{key} = {format_value(value)}{f'  # {note}' if note else ''}" for key, value, note in top),
        *(f"{key} = {_paragraph(text)}" for key, text in told.items() if text.strip()),
        "",
    ]
    energy = {"meter": device.meter or None, "power_w": device.power_w, "idle_w": device.idle_w}
    sections = [
        _section("options", device.options, comment="of the runtime"),
        _section("connection", device.connection, comment="how the board is reached; without it: this machine"),
        _section("energy", energy, comment="without a meter, energy is estimated from the stated power"),
        _section("energy.options", device.meter_options, comment="of the meter"),
        _section("limits", device.limits, comment="what the device cannot exceed"),
    ]
    return "\n".join([*lines, *(s for s in sections if s)])


def _paragraph(text: str) -> str:
    """A text for people in lines that an editor shows whole; between them stands TOML's continuation."""
    escaped = format_value(" ".join(text.split()))[1:-1]
    wrapped = textwrap.wrap(escaped, _LINE, break_long_words=False, break_on_hyphens=False)
    return '"""\\\n' + " \\\n".join(wrapped) + '"""'


def _section(name: str, values: Mapping[str, Option | None], *, comment: str) -> str:
    entries = [Entry(key=k, value=v, comment=OPTION_NOTES.get(k, "")) for k, v in values.items() if v is not None]
    return format_section(name, entries, comment=comment) if entries else ""

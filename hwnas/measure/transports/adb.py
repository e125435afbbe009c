"""Reach an Android device by the Android debug bridge: `adb -s SERIAL shell`.

Knows `adb`'s options and what it says. The device must have been allowed on its screen: adb signs in with a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hwnas.errors import ConfigError
from hwnas.foreign import as_written
from hwnas.measure.transports._shell import shell_line
from hwnas.types import Option

_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_LONGEST = 255  # characters
_ADVICE = {
    "unauthorized": "unlock the device and allow this computer to debug it",
    "no devices": "is the device plugged in, with USB debugging on? see: adb devices",
    "not found": "is the device plugged in, and the serial right? see: adb devices",
    "offline": "unplug the device and plug it in again; see: adb devices",
    "cannot be started": "install adb (Android platform tools)",
}


class AdbTransport:
    """An Android device. Settings: `serial`, as `adb devices` shows it.

    `shell -T` gives pipes instead of a terminal: bytes arrive unchanged, and on Android 7 or later standard error is
    apart and the exit status is the command's. Older systems mix both outputs, which the reader of replies tolerates.
    """

    keys: Mapping[str, type] = {"serial": str}
    named_by = "serial"
    example = "SERIAL"
    setting_notes: Mapping[str, str] = {
        "serial": "as `adb devices` shows it",
        "serials": "boards of a kind, each as `adb devices` shows it",
    }

    def __init__(self, settings: Mapping[str, Option]) -> None:
        """Check the settings.

        Raises:
            ConfigError: there is no serial, or what could not be one.
        """
        serial = str(settings.get("serial", ""))
        if not _SERIAL.fullmatch(serial) or len(serial) > _LONGEST:
            raise ConfigError(
                f"connection: serial is {as_written(serial)}; allowed: a serial number as `adb devices` shows it"
            )
        self.board = serial

    def command(self, arguments: Sequence[str], *, timeout_s: float) -> list[str]:
        """`adb -s SERIAL shell -T 'exec program arguments'`; adb has no time limit of its own for connecting."""
        return ["adb", "-s", self.board, "shell", "-T", shell_line(arguments)]

    def advice(self, words: str) -> str:
        """Advice for what adb says most often."""
        return next((advice for said, advice in _ADVICE.items() if said in words.lower()), "")

"""Reach a board by the system's OpenSSH client, with the user's own configuration, keys and known hosts.

Knows `ssh`'s options; nothing here weakens the check of a host's key, and nothing asks for a password.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

from hwnas.errors import ConfigError
from hwnas.measure.transports._shell import shell_line
from hwnas.types import Option

_ALIVE_S, _ALIVE_COUNT = 5, 3  # a link that was cut is noticed after 15 s, also in a long run that says nothing
_OPTIONS = (
    "BatchMode=yes",  # never a prompt: nobody is there to answer
    f"ServerAliveCountMax={_ALIVE_COUNT}",
    "ControlMaster=no",  # a connection of our own: one that is shared may be cut by others
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "LogLevel=ERROR",
)
_ADVICE = {  # what ssh says -> what to do
    "host key verification failed": "the host's key is not known or has changed: connect once by hand, compare the "
    "fingerprint, and accept it: {by_hand}",
    "permission denied": "signing in must work without a password: put a key there with ssh-copy-id, and unlock it "
    "with ssh-add if it has a passphrase; try: {by_hand}",
    "could not resolve hostname": "is the name of the board right? try: {by_hand}",
    "connection refused": "the board answers, but no SSH server does: is it running, and is the port right?",
    "timed out": "is the board on, and in this network? try: {by_hand}",
    "no route to host": "is the board on, and in this network? try: {by_hand}",
    "cannot be started": "install an OpenSSH client",
}


class SshTransport:
    """A board signed in to by OpenSSH.

    Settings: `host` (`pi@board`, or a name in the configuration), and where the configuration does not say it: `port`,
    `identity_file`, `config_file` (instead of ~/.ssh/config), `jump` (a host in between), `alive_s` (seconds between
    signs of life; three are waited for).
    """

    keys: Mapping[str, type] = {
        "host": str,
        "port": int,
        "identity_file": str,
        "config_file": str,
        "jump": str,
        "alive_s": int,
    }

    def __init__(self, settings: Mapping[str, Option]) -> None:
        """Check the settings.

        Raises:
            ConfigError: there is no host, or what could not be one.
        """
        host = str(settings.get("host", ""))
        if not host or host.startswith("-") or any(c.isspace() for c in host):
            raise ConfigError(f"connection: host is {host!r}; allowed: a name for ssh, like 'pi@raspberrypi.local'")
        if str(settings.get("jump", "")).startswith("-"):
            raise ConfigError(f"connection: jump is {settings['jump']!r}; allowed: a name for ssh -J")
        self.board = host
        self._settings = settings

    def command(self, arguments: Sequence[str], *, timeout_s: float) -> list[str]:
        """`ssh -T ... host 'exec program arguments'`."""
        alive_s = self._settings.get("alive_s", _ALIVE_S)
        options = [*_OPTIONS, f"ServerAliveInterval={alive_s}", f"ConnectTimeout={max(1, math.ceil(timeout_s))}"]
        command = ["ssh", *self._place(), "-T", *(word for option in options for word in ("-o", option))]
        return [*command, "--", self.board, shell_line(arguments)]

    def advice(self, words: str) -> str:
        """Advice for what OpenSSH says most often."""
        for said, advice in _ADVICE.items():
            if said in words.lower():
                return advice.format(by_hand=" ".join(["ssh", *self._place(), self.board]))
        return ""

    def _place(self) -> list[str]:
        flags = {"config_file": "-F", "port": "-p", "identity_file": "-i", "jump": "-J"}
        place: list[str] = []
        for key, flag in flags.items():
            if key in self._settings:
                value = str(self._settings[key])
                place += [flag, os.path.expanduser(value) if key.endswith("_file") else value]
        return place

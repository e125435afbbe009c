"""Look at a board without measuring: is it reached, what is there, does the device's runtime start?

Knows connections and the agent's facts; never how findings are shown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.errors import ConfigError, HwnasError
from hwnas.measure._wire import BoardSetupError, LinkLostError, Wire
from hwnas.measure.board import Board, BoardProcess
from hwnas.measure.protocol import PROTOCOL, device_to_json
from hwnas.types import Device

_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFacts:
    """What a look at a board told.

    Attributes:
        board: its name.
        agent: what the agent says: `python`, `executable`, `numpy`, `system`, `cores`, `folder`, `free_bytes`.
        clock_skew_s: the board's clock less this machine's. Nothing depends on it.
        context: what the runtime says; empty if it did not start.
        problem: why it did not start, with what to install; "" if it did.
    """

    board: str
    agent: Mapping[str, Any]
    clock_skew_s: float
    context: Mapping[str, str]
    problem: str


def look_at_board(device: Device) -> BoardFacts:
    """Connect to a device's board and start its runtime there once.

    Raises:
        ConfigError: the device has no connection, or a setting of it is wrong.
        BoardError: the board is not reached, or has no Python or numpy the agent could run with.
    """
    if not device.connection:
        raise ConfigError(
            f"device {device.name!r} has no [connection]: it is this machine, which `hwnas doctor` looks at"
        )
    board = Board(device)
    try:
        wire = Wire(board.settings, board.transport, session="")
    except LinkLostError as e:
        raise BoardSetupError(str(e)) from e
    # about: the reply's way is in it
    skew_s = wire.facts.clock_s - time.time()
    # before the process below connects: only one agent may hold the board
    wire.close()
    process = BoardProcess(board)
    context: Mapping[str, str] = {}
    problem = ""
    try:
        hello = {"protocol": PROTOCOL, "device": device_to_json(device)}
        context = process.request("hello", hello, timeout_s=_START_S)["context"]
    except HwnasError as e:
        problem = str(e)
    finally:
        process.close()
    return BoardFacts(
        board=board.name, agent=wire.facts.model_dump(), clock_skew_s=skew_s, context=context, problem=problem
    )

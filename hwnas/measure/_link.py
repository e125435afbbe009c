"""The parent's end of a measuring process: starts it when needed and replaces it when it died.

Knows the protocol and one device; not what is measured, nor what happens to results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hwnas.errors import MeasurementTimeoutError, WorkerCrashedError
from hwnas.measure._replies import Greeting, Loaded, R, Ran, Times, parse, parse_info
from hwnas.measure.protocol import PROTOCOL, ReplyError, RuntimeBrokenError, artefact_to_json, device_to_json
from hwnas.types import Artefact, Device

T = TypeVar("T")
_GIVE_UP_AFTER = 5  # deaths in a row without one artefact that ran


class Process(Protocol):
    """What a link needs of a measuring process: `Child` is one here, `BoardProcess` one on a board."""

    @property
    def name(self) -> str:
        """For messages: `the measuring process`, `the board pi@board`."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it takes requests; once dead it stays so."""
        ...

    @property
    def pid(self) -> int:
        """Process id."""
        ...

    def request(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        """The result of one operation, which may be anything; dead after a crash or a timeout."""
        ...

    def close(self) -> None:
        """End it politely."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Link:
    """A connection to a process that may be started several times. One thread at a time."""

    def __init__(self, device: Device, *, start: Callable[[], Process], start_timeout_s: float) -> None:
        self.device = device
        self._start = start
        self._start_timeout_s = start_timeout_s
        self._child: Process | None = None
        self._context: dict[str, str] = {}
        self._warnings: list[str] = []
        # also tells what is loaded: a child that died holds nothing
        self._first_run_s: dict[str, float] = {}  # of each artefact the child has loaded
        self._costs: dict[str, dict[str, float]] = {}  # likewise, what its session tells
        self._deaths = 0

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def context(self) -> dict[str, str]:
        """The runtime's context, from the child's greeting."""
        self._running()
        return dict(self._context)

    def warnings(self) -> list[str]:
        """What the child saw that spoils measurements, from its greeting."""
        self._running()
        return list(self._warnings)

    def is_loaded(self, key: str) -> bool:
        """Whether the child that runs now has an artefact under this key."""
        self._running()
        return key in self._first_run_s

    def first_run_s(self, key: str) -> float:
        """How long the first run of a loaded artefact took."""
        return self._first_run_s[key]

    def costs(self, key: str) -> dict[str, float]:
        """What the session of an artefact told of its costs besides time when it was loaded last."""
        return dict(self._costs.get(key, {}))

    def load(self, key: str, artefact: Artefact, *, timeout_s: float) -> None:
        """Load an artefact in the child and run it once.

        Raises:
            HwnasError: as for `ask`.
        """
        reply = self.ask("load", {"key": key, "artefact": artefact_to_json(artefact)}, Loaded, timeout_s=timeout_s)
        self._first_run_s[key] = reply.first_run_ns * 1e-9
        self._costs[key] = reply.costs

    def time(self, keys: Sequence[str], request: Mapping[str, Any], *, anchor: str | None, timeout_s: float) -> Times:
        """Time what is loaded.

        Args:
            keys: of the candidates.
            request: what else the operation takes.
            anchor: key of the anchor; None: there is none.
            timeout_s: for all of it.

        Raises:
            HwnasError: as for `ask`.
        """
        arguments = {**request, "keys": list(keys), "reference": anchor}
        times = self.ask("time", arguments, Times, timeout_s=timeout_s)
        self._believe("time", lambda: times.check_keys(keys, anchor=anchor))
        return times

    def run(self, key: str, *, inputs: Path, outputs: Path, timeout_s: float) -> int:
        """Run what is loaded on the arrays of one file, into another; how many outputs there are.

        Raises:
            HwnasError: as for `ask`.
        """
        arguments = {"key": key, "inputs": str(inputs), "outputs": str(outputs)}
        return self.ask("run", arguments, Ran, timeout_s=timeout_s).n_outputs

    def info(self, key: str, *, timeout_s: float) -> Mapping[str, str]:
        """What the session of a loaded artefact tells of itself.

        Raises:
            HwnasError: as for `ask`.
        """
        reply = self._request("info", {"key": key}, timeout_s=timeout_s)
        return self._believe("info", lambda: parse_info(reply))

    def unload(self, keys: Sequence[str], *, timeout_s: float) -> None:
        """Free what these keys hold; nothing to do if the child died with them."""
        held = [key for key in keys if key in self._first_run_s]
        if held and self.pid is not None:
            self._request("close", {"keys": held}, timeout_s=timeout_s)
        for key in held:
            self._first_run_s.pop(key, None)

    def ask(self, op: str, arguments: Mapping[str, Any], model: type[R], *, timeout_s: float) -> R:
        """Carry one operation out in the child, and check its reply.

        Raises:
            WorkerCrashedError, MeasurementTimeoutError: the child died; the next request starts another.
            RuntimeBrokenError: it died once too often, or answered with something else (`ReplyError`).
            HwnasError: what the child reported; it lives on.
        """
        reply = self._request(op, arguments, timeout_s=timeout_s)
        return self._believe(op, lambda: parse(model, reply))

    def _request(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> object:
        try:
            result: object = self._running().request(op, arguments, timeout_s=timeout_s)
        except (WorkerCrashedError, MeasurementTimeoutError) as e:
            self._first_run_s.clear()
            self._deaths += 1
            # in a row: single artefacts that crash are expected, and each kills a child
            if self._deaths >= _GIVE_UP_AFTER:
                raise RuntimeBrokenError(
                    f"the measuring process died {self._deaths} times in a row without one artefact that ran; runtime "
                    f"{self.device.runtime!r} does not work here. The last time: {e}"
                ) from e
            raise
        if op in ("time", "run"):
            self._deaths = 0
        return result

    def _believe(self, op: str, check: Callable[[], T]) -> T:
        """What a check of a reply gives; a child that fails it is ended: the rest of what it says is worth nothing."""
        try:
            return check()
        except ReplyError as e:
            name = self._child.name if self._child is not None else "the measuring process"
            self.stop(at_once=True)
            raise ReplyError(f"{name} answered {op!r} with what is no reply to it: {e}") from None

    def note_success(self) -> None:
        """An artefact ran: the runtime as such works."""
        self._deaths = 0

    def stop(self, *, at_once: bool) -> None:
        """End the child: politely, or with its children at once."""
        if self._child is not None:
            if at_once:
                # `self._child` may not be set yet, so nobody else would end it
                self._child.kill()
            else:
                self._child.close()
        self._child = None
        self._first_run_s.clear()

    def _running(self) -> Process:
        if self._child is not None and self._child.alive:
            return self._child
        # the dead one still has pipes
        self.stop(at_once=True)
        child = self._start()
        try:
            hello = {"protocol": PROTOCOL, "device": device_to_json(self.device)}
            reply = child.request("hello", hello, timeout_s=self._start_timeout_s)
            self._child = child
            greeting = self._believe("hello", lambda: parse(Greeting, reply))
        except BaseException:
            child.kill()
            raise
        self._context, self._warnings = greeting.context, greeting.warnings
        return child

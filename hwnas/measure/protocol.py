"""What parent and measuring process say to each other: one JSON object a line, numbered, versioned.

A request is `{"id": 1, "op": "load", ...}`, its reply `{"id": 1, "ok": true, "result": ...}` or
`{"id": 1, "ok": false, "error": {"type": "ArtefactError", "message": "..."}}`. Operations: `hello` (always
first: protocol number and device), `load`, `time`, `run`, `info`, `close`, `quit`. On a board they are
wrapped in requests to its agent, which travel in the same way. Knows the vocabulary of types.py; neither processes
nor runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import errors
from hwnas.errors import ConfigError, HwnasError, MeasurementError
from hwnas.foreign import as_written, quoted
from hwnas.types import Artefact, Device, TensorSpec

if TYPE_CHECKING:
    from hwnas.measure.timing import TimingSettings

# raised with every change that the other side would not understand; both must be equal
PROTOCOL = 3
AGENT_PROTOCOL = 1  # of the agent on a board (agent.py), which passes these requests on

_IN_PROTOCOL = {"anchor_every": "reference_every"}  # settings that have another word here

_LONGEST_MESSAGE = 4000  # characters of an error that a process reports


class RuntimeBrokenError(MeasurementError):
    """The process dies whatever it is given: no single artefact is to blame.

    What to do: see with `hwnas doctor` whether the runtime works on this machine.
    """


class ReplyError(RuntimeBrokenError):
    """The process answered with something else than what was asked for: nothing it says counts.

    What to do: let nothing else write to the process's standard output: a library of yours that prints, for example.
    """

    exit_status = 2


# Raised again under their own name on the parent's side; any other error becomes a MeasurementError.
_CARRIED = {
    c.__name__: c
    for c in (
        errors.ConfigError,
        errors.MeasurementError,
        errors.MeasurementTimeoutError,
        errors.ArtefactError,
        errors.WorkerCrashedError,  # told by a board's agent of the process there
    )
}


def device_to_json(device: Device) -> dict[str, Any]:
    """A device as JSON values."""
    return asdict(device)


def device_from_json(value: Mapping[str, Any]) -> Device:
    """The inverse of `device_to_json`."""
    return Device(**{**value, "precisions": tuple(value["precisions"]), "cores": tuple(value["cores"])})


def settings_to_json(settings: TimingSettings) -> dict[str, Any]:
    """How to time, as JSON values."""
    return {_IN_PROTOCOL.get(name, name): value for name, value in asdict(settings).items()}


def settings_from_json(value: Mapping[str, Any]) -> TimingSettings:
    """The inverse of `settings_to_json`."""
    from hwnas.measure.timing import TimingSettings  # the agent passes them on, and needs no numpy for that

    names = {there: name for name, there in _IN_PROTOCOL.items()}
    return TimingSettings(**{names.get(there, there): v for there, v in value.items()})


def can_be_disturbed(context: Mapping[str, str]) -> bool:
    """Whether other work on the machine changes what is timed; a runtime that simulates or estimates tells no `load`.

    Args:
        context: of the runtime.
    """
    return "load" in context


def artefact_to_json(artefact: Artefact) -> dict[str, Any]:
    """An artefact as JSON values, with an absolute path: the child may have another working folder."""
    value = {**asdict(artefact), "path": str(artefact.path.resolve())}
    if not artefact.outputs:  # boards of an earlier version know of one output
        del value["outputs"]
    return value


def artefact_from_json(value: Mapping[str, Any]) -> Artefact:
    """The inverse of `artefact_to_json`."""
    specs = {end: TensorSpec(**value[end]) for end in ("input", "output")}
    outputs = tuple(TensorSpec(**spec) for spec in value.get("outputs", ()))
    return Artefact(**{**value, "path": Path(value["path"]), **specs, "outputs": outputs})


def error_to_json(error: Exception) -> dict[str, str]:
    """An exception as JSON values. An exception that is not ours keeps its type in the message."""
    message = str(error) if isinstance(error, HwnasError) else f"{type(error).__name__}: {error}"
    return {"type": type(error).__name__, "message": message}


def error_from_json(value: Mapping[str, str]) -> HwnasError:
    """The error to raise in the parent for one reported by the child."""
    message = value["message"]
    # a compiler's whole log may be in an error, and it ends up in a table's line
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}… ({len(message)} characters)"
    return _CARRIED.get(value["type"], MeasurementError)(message)


def check_reply(reply: Mapping[str, Any], *, asked: int) -> None:
    """Check the frame of a reply: its number and whether it has a result or an error.

    Raises:
        ReplyError: it is something else; tells what.
    """
    number, error = reply.get("id"), reply.get("error")
    # a reply to an earlier request that was given up must not be taken for this one's
    if not isinstance(number, int) or isinstance(number, bool) or number != asked:
        raise ReplyError(f"it is numbered {as_written(number)}, and request {asked} was made")
    if reply.get("ok") is True and "result" in reply:
        return
    if reply.get("ok") is False and isinstance(error, dict):
        if all(isinstance(error.get(key), str) for key in ("type", "message")):
            return
        raise ReplyError(f"its error is {quoted(error)}")
    raise ReplyError("it has neither a result nor an error")


def answer(request: Mapping[str, Any], operations: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> dict[str, Any]:
    """The reply to one request. A failure is a reply too: the caller decides, and this process must stay usable."""
    try:
        operation = operations.get(request["op"])
        if operation is None:
            raise ConfigError(f"unknown operation {request['op']!r}; known: {', '.join(operations)}")
        return {"id": request["id"], "ok": True, "result": operation(request)}
    except Exception as e:  # noqa: BLE001  whatever a runtime raises
        return {"id": request.get("id"), "ok": False, "error": error_to_json(e)}

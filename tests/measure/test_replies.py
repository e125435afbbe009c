"""Boards and measuring processes that answer, but not what was asked: nothing is believed, and one line tells it."""

from __future__ import annotations

import base64
import io
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.errors import HwnasError, MeasurementError
from hwnas.foreign import ForeignFileError, printable
from hwnas.measure import Worker
from hwnas.measure._arrays import read_arrays
from hwnas.measure._child import Child
from hwnas.measure._replies import (
    Busy,
    Facts,
    Greeting,
    Loaded,
    Offered,
    Piece,
    RanThere,
    Times,
    Wanted,
    parse,
    parse_info,
)
from hwnas.measure.check import look_at_board
from hwnas.measure.protocol import ReplyError
from hwnas.measure.timing import TimingSettings
from hwnas.testing import lying
from hwnas.testing.fake import fake_device
from hwnas.types import Device, MeasurementFailure
from tests.measure.onnx_models import write_model

QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=20.0)
NAN, HUGE = float("nan"), 10**400


@pytest.fixture
def liar(board: Path, tmp_path: Path) -> Device:
    """A device on a board that lies as `lie.json` says."""
    program = board / "liar"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {lying.__file__} "$@"\n')
    program.chmod(0o755)
    connection = {"transport": "adb", "serial": "S1", "python": str(program), "folder": str(board / "agent")}
    return replace(fake_device(), connection={**connection, "connect_timeout_s": 5.0, "reconnect_s": 0.5})


def tell(board: Path, **lie: Any) -> None:
    (board / "lie.json").write_text(json.dumps(lie))


def everything(device: Device, folder: Path) -> None:
    """All that is asked of a board in a run and in `agent --check`."""
    artefact, anchor = write_model(folder / "m.onnx"), write_model(folder / "r.onnx", size=2)
    look = look_at_board(device)
    if look.problem:
        raise MeasurementError(look.problem)
    with Worker(device) as worker:
        worker.context()
        result = worker.measure({"m": artefact}, anchor=anchor, anchor_ms=1.0, settings=QUICK)["m"]
        if isinstance(result, MeasurementFailure):
            raise MeasurementError(result.reason)
        worker.info(artefact)
        worker.predict(artefact, np.zeros((1, 3, 8, 8), np.float32))


def test_a_board_that_tells_the_truth_is_believed(liar: Device, tmp_path: Path) -> None:
    everything(liar, tmp_path)


def times(key: str | None = "m", **changes: Any) -> dict[str, Any]:
    """A reply to `time` about one candidate seen once; None: about nothing."""
    right = {"samples_ms": [1.0], "reference_ms": [1.0], "fastest_ms": [1.0], "around_ms": [[1.0, 1.0]]}
    return {name: {key: value} if key is not None else {} for name, value in {**right, **changes}.items()}


RESULTS: list[tuple[str, Any]] = [
    *((op, value) for op in ("boot", "facts", "offer", "get") for value in (None, 3, "x", [], {})),
    *((op, value) for op in ("hello", "load", "time", "run", "info") for value in (None, 3, "x", [1])),
    ("boot", {"wanted": "yes"}),
    ("boot", {"wanted": 1}),
    ("facts", {"python": 3}),
    ("agent.hello", {"busy": 1}),
    ("offer", {"have": False, "full": False, "received_bytes": -5}),
    ("offer", {"have": False, "full": False, "received_bytes": 1e9}),
    ("hello", {"context": {"hardware": 3}}),
    ("hello", {"context": {"hardware": "x" * 100_000}}),
    ("hello", {"context": {}, "warnings": "none"}),
    ("load", {"first_run_ns": "fast", "costs": {}}),
    ("load", {"first_run_ns": -1, "costs": {}}),
    ("load", {"first_run_ns": NAN, "costs": {}}),
    ("load", {"first_run_ns": HUGE, "costs": {}}),
    ("load", {"first_run_ns": True, "costs": {}}),
    ("load", {"first_run_ns": 1, "costs": {"memory_bytes": "much"}}),
    ("load", {"first_run_ns": 1, "costs": {"memory_bytes": NAN}}),
    ("time", times(key=None)),
    ("time", times(samples_ms=[])),
    ("time", times(samples_ms=[NAN])),
    ("time", times(samples_ms=[-1.0])),
    ("time", times(key="other")),
    ("time", {**times(), "samples_ms": [1.0]}),
    ("time", times(fastest_ms=1.0)),
    ("time", times(fastest_ms=[0.0])),
    ("time", times(fastest_ms=[1.0, 1.0])),
    ("time", times(around_ms=[1.0])),
    ("time", times(around_ms=[[1.0]])),
    ("time", times(around_ms=[[1.0, 1.0, 1.0]])),
    ("time", times(around_ms=[[1.0, NAN]])),
    ("time", times(around_ms=[])),
    ("run", {"n_outputs": -1, "sha256": "0" * 64, "size_bytes": 1}),
    ("run", {"n_outputs": 1, "sha256": "../../etc/passwd", "size_bytes": 1}),
    ("run", {"n_outputs": 1, "sha256": "0" * 64, "size_bytes": 10**18}),
    ("run", {"n_outputs": 1, "sha256": "0" * 64, "size_bytes": -1}),
    ("run", {"n_outputs": 10**9, "sha256": "0" * 64, "size_bytes": 1}),
    ("info", {"provider": {"a": "b"}}),
]


MODELS = {
    "boot": Wanted,
    "facts": Facts,
    "offer": Offered,
    "get": Piece,
    "hello": Greeting,
    "load": Loaded,
    "time": Times,
    "run": RanThere,
}


def check(op: str, result: Any) -> None:
    if op == "info":
        parse_info(result)
    elif op == "time":
        parse(Times, result).check_keys(["m"], anchor="r")
    else:
        parse(Busy if op == "agent.hello" else MODELS[op], result)


@pytest.mark.parametrize(("op", "result"), RESULTS, ids=lambda value: str(value)[:40])
def test_a_result_that_is_not_what_was_asked_for_is_one_line(op: str, result: Any) -> None:
    with pytest.raises(ReplyError) as caught:
        check(op, result)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("op", [*MODELS, "agent.hello", "info"])
def test_nothing_is_believed_because_a_board_sent_it(liar: Device, board: Path, tmp_path: Path, op: str) -> None:
    tell(board, op=op, result={"data": "AAAA", "have": 3, "context": 5})
    with pytest.raises(MeasurementError, match="answered") as caught:
        everything(liar, tmp_path)
    assert "\n" not in str(caught.value)
    assert "S1" in str(caught.value)


LINES: list[tuple[str, dict[str, Any]]] = [
    ("null\n", {}),
    ("[]\n", {}),
    ("{}\n", {}),
    ('{"id": 999, "ok": true, "result": null}\n', {}),
    ('{"id": "ID", "ok": true, "result": null}\n', {}),
    ('{"id": true, "ok": true, "result": null}\n', {}),
    ('{"id": ID}\n', {}),
    ('{"id": ID, "ok": 1, "result": {}}\n', {}),
    ('{"id": ID, "ok": true}\n', {}),
    ('{"id": ID, "ok": false}\n', {}),
    ('{"id": ID, "ok": false, "error": "no"}\n', {}),
    ('{"id": ID, "ok": false, "error": {"type": 1, "message": 2}}\n', {}),
    ('{"id": ID, "ok": false, "error": {"type": "ConfigError", "message": "\\u001b[2Jno"}}\n', {}),
    ('{"id": ID, "ok": true, "result": ' + "[" * 50_000 + "\n", {}),
    ('{"id": ID, "ok": true, "result": ' + "9" * 5000 + "}\n", {}),
    ('{"id": ID, "ok": tr\n', {}),
    ("{\udcff\udcfe\n", {}),
    ("x" * 1000, {"times": 20_000}),
    ("x" * 1000 + "\n", {"times": 20_000}),
    ("", {"then": "end"}),
    ("Segmentation fault\n", {"then": "end"}),
]


_ANSWERS = """
import json, sys
lie = json.loads(sys.argv[1])
for n, line in enumerate(sys.stdin):
    answer = json.dumps({"id": json.loads(line)["id"], "ok": True, "result": 1}) + "\\n" if not n else lie["line"]
    for _ in range(lie.get("times", 1) if n else 1):
        sys.stdout.buffer.write(answer.replace("ID", "2").encode(errors="surrogateescape"))
    sys.stdout.flush()
    if n and lie.get("then") == "end":
        break
"""


@pytest.mark.parametrize(("line", "more"), LINES, ids=lambda value: str(value)[:40])
def test_a_line_that_is_no_reply_is_one_line(line: str, more: dict[str, Any]) -> None:
    child = Child([sys.executable, "-I", "-S", "-c", _ANSWERS, json.dumps({"line": line, **more})])
    assert child.request("first", {}, timeout_s=10) == 1
    with pytest.raises(HwnasError) as caught:
        child.request("second", {}, timeout_s=10)
    child.close()
    assert "within 10 s" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert printable(str(caught.value)) == str(caught.value) or "ConfigError" in line  # (the console makes that so)


@pytest.mark.parametrize("at", [0, 8, 15])
def test_a_line_of_a_board_that_is_no_reply_is_one_line(liar: Device, board: Path, tmp_path: Path, at: int) -> None:
    line, more = LINES[at]
    tell(board, op="load", line=line, **more)
    with pytest.raises(MeasurementError, match="S1") as caught:
        everything(liar, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", ["!!!", "AAAA"])
def test_pieces_of_outputs_that_are_not_those_asked_for_are_refused(
    liar: Device, board: Path, tmp_path: Path, data: str
) -> None:
    tell(board, op="get", result={"data": data})
    with pytest.raises(MeasurementError, match="characters that are not the"):
        everything(liar, tmp_path)


def test_outputs_larger_than_the_connection_allows_are_not_fetched(liar: Device, board: Path, tmp_path: Path) -> None:
    tell(board, op="run", result={"n_outputs": 1, "sha256": "0" * 64, "size_bytes": 10**14})
    with pytest.raises(MeasurementError, match="max_file_mb"):
        everything(liar, tmp_path)


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def container(header: bytes, *, name: str = "array_0.npy", compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, header)
    return file.getvalue()


def array_file(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


BAD_OUTPUTS: dict[str, bytes] = {
    "empty": b"",
    "no container": b"something",
    "another name": npz(logits=np.zeros(2)),
    "one array too many": npz(array_0=np.zeros(2), array_1=np.zeros(2)),
    "compressed": container(
        array_file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(8)),
        compression=zipfile.ZIP_DEFLATED,
    ),
    "20 GB in nothing": container(array_file("{'descr': '<f4', 'fortran_order': False, 'shape': (5000000000,)}")),
    "931 TB": container(array_file("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 128000000)}")),
    "a negative length": container(array_file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", bytes(4))),
    "objects": container(array_file("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8))),
    "code in the header": container(array_file("__import__('os').system('true')")),
    "brackets in the header": container(array_file("(" * 3000)),
    "no array": container(b"hello"),
    "a version of the future": container(b"\x93NUMPY\x09\x00" + bytes(100)),
    "cut short": npz(array_0=np.zeros(100))[:-200],
}


@pytest.mark.parametrize("what", BAD_OUTPUTS)
def test_a_file_that_holds_no_outputs_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "outputs.npz").write_bytes(BAD_OUTPUTS[what])
    with pytest.raises(ForeignFileError):
        read_arrays(tmp_path / "outputs.npz", n=1, limit_bytes=1 << 20)


def test_outputs_are_read_as_they_were_written(tmp_path: Path) -> None:
    arrays = [np.arange(6, dtype=t).reshape(2, 3) for t in ("f4", "f2", "i1", "u1")]
    arrays.append(np.asfortranarray(arrays[0]))
    (tmp_path / "o.npz").write_bytes(npz(**{f"array_{i}": a for i, a in enumerate(arrays)}))
    for found, expected in zip(read_arrays(tmp_path / "o.npz", n=5, limit_bytes=1 << 20), arrays, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
    with pytest.raises(ForeignFileError, match="larger than 100 bytes"):
        read_arrays(tmp_path / "o.npz", n=5, limit_bytes=100)


@pytest.mark.parametrize("outputs", [np.zeros((1, 2), np.int8), np.zeros((3, 2), np.float32), np.zeros(2, np.float32)])
def test_outputs_that_cannot_be_the_logits_are_refused(
    liar: Device, board: Path, tmp_path: Path, outputs: np.ndarray[Any, Any]
) -> None:
    tell(board, op="none", outputs=base64.b64encode(npz(array_0=outputs)).decode())
    with pytest.raises(MeasurementError, match=r"logits|type float32"):
        everything(liar, tmp_path)


def test_an_honest_reply_to_time_is_believed() -> None:
    check("time", times())


@pytest.mark.parametrize("name", ["reference_ms", "fastest_ms", "around_ms"])
def test_samples_and_what_stands_beside_them_go_together(name: str) -> None:
    two = {"samples_ms": [1.0] * 2, "reference_ms": [1.0] * 2, "fastest_ms": [1.0] * 2, "around_ms": [[1.0, 1.0]] * 2}
    with pytest.raises(ReplyError, match=f"2 samples of m and 1 in its {name}"):
        check("time", times(**{**two, name: two[name][:1]}))


_CHILD = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "hello":
        print(json.dumps({"id": request["id"], "ok": True, "result": {"context": {}, "warnings": []}}), flush=True)
    else:
        print(LINE.replace("ID", str(request["id"])), flush=True)
"""


@pytest.mark.parametrize("line", ['{"id": ID, "ok": true, "result": 7}', "[1]", '{"id": 0}', "x" * 17_000_000])
def test_a_process_here_is_believed_no_more_than_a_board(tmp_path: Path, line: str) -> None:
    command = [
        sys.executable,
        "-c",
        f"LINE = {line!r}\n{_CHILD}" if len(line) < 100 else _CHILD.replace("LINE", "('x' * 17_000_000)"),
    ]
    with (
        Worker(fake_device(), command=command) as worker,
        pytest.raises(ReplyError, match="the measuring process answered"),
    ):
        worker.measure({"m": write_model(tmp_path / "m.onnx")}, settings=QUICK)

"""Inputs as an attacker would make them: descriptions, deployments, boards, tables and data that come from elsewhere.

Knows the files' forms; not whether they are refused (`attacks.py` looks).
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _sandbox import Attack

from hwnas.files import write_document

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
_SHELL = (
    "$(touch /OUT/ran)",
    "`touch /OUT/ran`",
    "b;touch /OUT/ran",
    "b|sh",
    "b&&id",
    "b\nid",
    "-oProxyCommand=sh",
    "b id",
)
Prepared = Sequence[str] | Callable[[], object]


def all_attacks(deployment: Path) -> list[Attack]:
    """Every input.

    Args:
        deployment: a genuine one of the fake device, to be changed.
    """
    return [*_descriptions(), *_deployments(deployment), *_boards(deployment), *_other_files(), *_data()]


# ---------------------------------------------------------------- descriptions


def _descriptions() -> Iterator[Attack]:
    for key in ("host", "jump", "identity_file", "config_file", "python", "folder", "agent"):
        for value in _SHELL[:6] if key in ("folder", "agent", "identity_file") else _SHELL:
            host = "" if key == "host" else 'host = "b"\n'
            yield _description(f"{key} = {value!r}", f'[connection]\ntransport = "ssh"\n{host}{key} = {_toml(value)}\n')
    for value in _SHELL:
        yield _description(f"serial = {value!r}", f'[connection]\ntransport = "adb"\nserial = {_toml(value)}\n')
    for value in ("/OUT/ssh_config", "./ssh_config", "~/../outside/ssh_config", "~/.ssh/../../outside/ssh_config"):
        text = f'[connection]\ntransport = "ssh"\nhost = "b"\nconfig_file = {_toml(value)}\n'
        yield _description(f"config_file = {value!r}", text)
    for name, text in (
        ("an unknown transport", '[connection]\ntransport = "os:system"\n'),
        ("a transport that is a path", '[connection]\ntransport = "../../evil"\n'),
        ("a port that is a text", '[connection]\ntransport = "ssh"\nhost = "b"\nport = "22 -o x"\n'),
        ("a time to connect without end", '[connection]\ntransport = "ssh"\nhost = "b"\nconnect_timeout_s = 1e300\n'),
        ("a library of an execution provider", '[options]\n"provider.backend_path" = "/OUT/evil.so"\n'),
        ("a plug-in of an execution provider", '[options]\n"provider.trt_extra_plugin_lib_paths" = "evil.so"\n'),
        ("a cache of an execution provider", '[options]\n"provider.trt_engine_cache_path" = "/OUT"\n'),
        ("a profile of an execution provider", '[options]\n"provider.cann_profile_prefix" = "/OUT/x"\n'),
        ("escape sequences in an option", f"[options]\nprovider = {_toml(ESCAPE)}\n"),
        ("an option's name with escape sequences", f"[options]\n{_toml(ESCAPE)} = 1\n"),
        ("a key with escape sequences", f"{_toml(ESCAPE)} = 1\n"),
        ("a meter that is a module", '[energy]\nmeter = "os:system"\n'),
        (
            "a meter's path that leads out",
            '[energy]\nmeter = "sysfs"\noptions = { path = "/sys/../OUT/power1_input" }\n',
        ),
        ("a meter's path outside", '[energy]\nmeter = "sysfs"\noptions = { path = "/OUT/power1_input" }\n'),
        ("a whole number of 9000 digits", f"threads = 0x{'f' * 9000}\n"),
        ("a number of 9000 digits", f"threads = {'9' * 9000}\n"),
        ("brackets within brackets", f"cores = {'[' * 20_000}\n"),
        ("tables within tables", f"[{'a.' * 5000}a]\n"),
        ("a limit that is no number", "[limits]\nlatency_ms = nan\n"),
        ("a billion threads", "threads = 1000000000\n"),
        ("two million characters", f'description = "{"x" * 2_000_000}"\n'),
    ):
        yield _description(name, text)
    for runtime, options in (
        ("openvino", 'device_name = "/OUT/plugin.so"'),
        ("ethos-u", 'accelerator = "a\\n[vela]"'),
        (
            "ethos-u",
            'accelerator = "a"\nsystem_config = "b"\nmemory_mode = "c"\nconfig = "../../../outside/secret.txt"',
        ),
        ("tensorrt", 'target = "sm_86;id"'),
        ("litert", 'xnnpack = "/OUT/delegate.so"'),
        ("../../evil", "x = 1"),
        ("os:system", "x = 1"),
    ):
        yield _description(f"{runtime}: {options[:40]!r}", f"[options]\n{options}\n", runtime=runtime)
    yield Attack("description", "texts with escape sequences", partial(_shown, _toml(ESCAPE)), may_pass=True)
    for name, make in (
        ("a pipe", lambda path, _: os.mkfifo(path)),
        ("an endless device", lambda path, _: path.symlink_to("/dev/zero")),
        ("a folder", lambda path, _: path.mkdir()),
        ("bytes that are no text", lambda path, _: path.write_bytes(b"\xff\xfe\x00" * 100)),
    ):
        yield Attack("description", name, partial(_made_description, make))


def _description(name: str, text: str, *, runtime: str = "onnxruntime") -> Attack:
    def prepare(folder: Path, outside: Path) -> Prepared:
        (folder / "ssh_config").write_text("Host *\n ProxyCommand touch ran\n")
        head = f"schema = 1\nruntime = {_toml(runtime)}\n"
        (folder / "d.toml").write_text(head + text.replace("/OUT", str(outside)), errors="surrogateescape")
        return ["devices", "show", "./d.toml"]

    return Attack("description", name, prepare)


def _shown(text: str, folder: Path, outside: Path) -> Prepared:
    lines = f'schema = 1\nruntime = "fake"\ndescription = {text}\nknown = {text}\nunknown = {text}\n'
    (folder / "d.toml").write_text(lines)
    return ["devices", "show", "./d.toml"]


def _made_description(make: Callable[[Path, Path], object], folder: Path, outside: Path) -> Prepared:
    make(folder / "d.toml", outside)
    return ["devices", "show", "./d.toml"]


def _toml(text: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) > 126 or c in '"\\' else c for c in text) + '"'


# ---------------------------------------------------------------- deployments


def _deployments(genuine: Path) -> Iterator[Attack]:
    ssh = {"transport": "ssh", "host": "b"}
    for value in _SHELL:
        for key in ("host", "jump", "python"):
            change = partial(_device, connection={**ssh, key: value})
            yield _manifest(genuine, f"connection.{key} = {value!r}, trusted", change, "--trust")
    for name, connection in (
        ("a connection that nobody confirmed", ssh),
        ("an adb device that nobody confirmed", {"transport": "adb", "serial": "S1"}),
        ("a host with escape sequences", {"transport": "ssh", "host": ESCAPE}),
        ("a connection of no transport", {"host": "b"}),
        ("a connection with a password", {**ssh, "password": "x"}),
    ):
        yield _manifest(genuine, name, partial(_device, connection=connection))
    yield _manifest(
        genuine, "its own ssh_config, trusted", partial(_device, connection={**ssh, "config_file": "c"}), "--trust"
    )
    for name, values in (
        ("a runtime that is a module", {"runtime": "os:system"}),
        ("a runtime that is a path", {"runtime": "../evil"}),
        ("an option that the runtime has not", {"options": {"evil": "/x.so"}}),
        ("a meter that is a module", {"meter": "os:system"}),
        ("a name that is a path", {"name": "../../x"}),
        ("a billion threads", {"threads": 10**9}),
        ("threads of 400 digits", {"threads": 10**400}),
    ):
        yield _manifest(genuine, name, partial(_device, **values))
    for file in ("artefact", "reference"):
        for name, path in (
            ("an absolute path", "/OUT/secret.txt"),
            ("a path that leads out", "../../outside/secret.txt"),
            ("a path with NUL", "a\0b"),
            ("a path with escape sequences", ESCAPE),
            ("a device", "/dev/zero"),
            ("the folder", "."),
            ("nothing", ""),
            ("a Windows path", "C:\\x"),
            ("a name of 5000 characters", "x" * 5000),
        ):
            yield _manifest(genuine, f"{file}: {name}", partial(_path, file, path))
        for name, make in (
            ("a link that leads out", lambda path, outside: path.symlink_to(outside / "secret.txt")),
            ("a link to a device", lambda path, _: path.symlink_to("/dev/zero")),
            ("a pipe", lambda path, _: os.mkfifo(path)),
            ("other content", lambda path, _: path.write_bytes(b"other")),
        ):
            yield Attack("deployment", f"{file}: {name}", partial(_replaced, genuine, file, make))
    for name, key, value in (
        ("a type that is an object", "dtype", "O"),
        ("a type of a gigabyte", "dtype", "V1000000000"),
        ("a layout that is code", "layout", "__import__('os')"),
        ("a scale of zero", "scale", 0),
        ("a scale that is endless", "scale", 1e999),
    ):
        yield _manifest(genuine, f"input: {name}", partial(_spec, key, value))
    for name, data in (
        ("brackets within brackets", b"[" * 200_000),
        ("a number of 9000 digits", b'{"schema_number": ' + b"9" * 9000 + b"}"),
        ("no text", bytes(range(256)) * 10),
        ("20 MB", b'{"a": "' + b"x" * (20 << 20) + b'"}'),
        ("a list", b"[1, 2, 3]"),
        ("a schema with escape sequences", json.dumps({"schema_number": ESCAPE}).encode()),
        ("nothing", b""),
    ):
        yield Attack("deployment", f"manifest: {name}", partial(_file, genuine, "manifest.json", data))
    for name, data in (
        ("a header of exabytes", struct.pack("<Q", 1 << 62) + b"{}"),
        (
            "a tensor of terabytes",
            _safetensors({"inputs": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        ),
        ("offsets below zero", _safetensors({"inputs": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}})),
        ("other arrays", _safetensors({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}) + bytes(4)),
        ("a header that is no JSON", struct.pack("<Q", 4) + b"[[[["),
        ("nothing", b""),
    ):
        yield Attack("deployment", f"samples: {name}", partial(_file, genuine, "samples.safetensors", data))
    for name in ("manifest.json", "samples.safetensors"):
        yield Attack(
            "deployment", f"{name} is a pipe", partial(_special, genuine, name, lambda path, _: os.mkfifo(path))
        )
        link: Callable[[Path, Path], object] = lambda path, outside: path.symlink_to(outside / "secret.txt")  # noqa: E731
        yield Attack("deployment", f"{name} is a link that leads out", partial(_special, genuine, name, link))


def _manifest(genuine: Path, name: str, change: Callable[[dict[str, Any]], object], *options: str) -> Attack:
    def prepare(folder: Path, outside: Path) -> Prepared:
        copy = shutil.copytree(genuine, folder / "deployment")
        _rewrite(copy, change, outside)
        return ["verify", str(copy), *options]

    return Attack("deployment", name, prepare)


def _rewrite(deployment: Path, change: Callable[[dict[str, Any]], object], outside: Path) -> None:
    """With a checksum that fits: whoever can write a file can write that too."""
    values = json.loads((deployment / "manifest.json").read_text())
    values.pop("sha256", None)
    change(values)
    text = json.dumps(values).replace("/OUT", str(outside))
    try:
        write_document(deployment / "manifest.json", json.loads(text))
    except ValueError:  # infinity, which has no checksum
        (deployment / "manifest.json").write_text(text)


def _device(values: dict[str, Any], **changes: object) -> None:
    values["device"].update(changes)


def _path(file: str, path: str, values: dict[str, Any]) -> None:
    values[file]["path"] = path


def _spec(key: str, value: object, values: dict[str, Any]) -> None:
    values["artefact"]["input"][key] = value


def _replaced(genuine: Path, file: str, make: Callable[[Path, Path], object], folder: Path, outside: Path) -> Prepared:
    name = json.loads((genuine / "manifest.json").read_text())[file]["path"]
    return _special(genuine, name, make, folder, outside)


def _special(genuine: Path, name: str, make: Callable[[Path, Path], object], folder: Path, outside: Path) -> Prepared:
    copy = shutil.copytree(genuine, folder / "deployment")
    (copy / name).unlink()
    make(copy / name, outside)
    return ["verify", str(copy)]


def _file(genuine: Path, name: str, data: bytes, folder: Path, outside: Path) -> Prepared:
    return _special(genuine, name, lambda path, _: path.write_bytes(data), folder, outside)


def _safetensors(header: dict[str, Any]) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


# ---------------------------------------------------------------- boards


def _boards(genuine: Path) -> Iterator[Attack]:
    for op in ("boot", "facts", "agent.hello", "hello", "load", "time", "run", "get"):
        for result in (
            None,
            7,
            [],
            {"context": 1, "wanted": "x", "busy": 1, "samples_ms": 1, "data": 1, "sha256": "../x"},
        ):
            yield _lie(genuine, f"{op}: {str(result)[:30]}", op=op, result=result)
    for op in ("facts", "load"):
        for name, line, more in (
            ("another request's number", '{"id": 99, "ok": true, "result": null}\n', {}),
            ("a number that is a text", '{"id": "ID", "ok": true, "result": null}\n', {}),
            ("neither result nor error", '{"id": ID, "ok": true}\n', {}),
            ("an error that is a number", '{"id": ID, "ok": false, "error": 1}\n', {}),
            ("brackets within brackets", "[" * 100_000 + "\n", {}),
            ("a number of 9000 digits", '{"id": ID, "ok": true, "result": ' + "9" * 9000 + "}\n", {}),
            ("no number", '{"id": ID, "ok": true, "result": NaN}\n', {}),
            ("a line of 100 MB", "x" * (1 << 20), {"times": 100}),
            ("100 MB of lines", ("x" * 1000 + "\n") * 1000, {"times": 100}),
            ("escape sequences, and its end", ESCAPE + "\n", {"then": "end"}),
            ("bytes that are no text", "\udcff\udcfe{\n", {"then": "end"}),
        ):
            yield _lie(genuine, f"{op}: {name}", op=op, line=line, **more)
    for name, data in (
        ("compressed outputs that are endless", _deflated_zeros()),
        ("outputs of 931 TB", _npz("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 128000000)}")),
        ("outputs that are objects", _npz("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n")),
        ("outputs that are code", _npz("__import__('os').system('id')")),
        ("outputs that are none", b"PK\x03\x04"),
        (
            "outputs of another name",
            _npz("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(4), "../../x"),
        ),
    ):
        yield _lie(genuine, name, op="nothing", outputs=base64.b64encode(data).decode())


def _lie(genuine: Path, name: str, **lie: Any) -> Attack:
    """A board that answers as an agent does, but for one thing.

    A board that goes away is no wrong input: that ends with 1.
    """

    def prepare(folder: Path, outside: Path) -> Prepared:
        (folder / "lie.json").write_text(json.dumps(lie))
        connection = '[connection]\ntransport = "adb"\nserial = "S1"\nconnect_timeout_s = 5\nreconnect_s = 0.2\n'
        (folder / "board.toml").write_text(f'schema = 1\nruntime = "fake"\n{connection}')
        if lie["op"] in ("boot", "facts"):
            return ["agent", "--check", "./board.toml"]
        return partial(_measured, genuine)

    return Attack("board", name, prepare, statuses=(1, 2))


def _measured(genuine: Path) -> None:
    """All that is asked of a board in a run."""
    import numpy as np

    from hwnas.devices import load_device
    from hwnas.errors import MeasurementError
    from hwnas.measure import TimingSettings, Worker, artefact_from_file
    from hwnas.types import MeasurementFailure

    path = genuine / json.loads((genuine / "manifest.json").read_text())["artefact"]["path"]
    artefact = artefact_from_file(path, format="onnx", precision="fp32")
    with Worker(load_device("./board.toml")) as worker:
        result = worker.measure({"m": artefact}, settings=TimingSettings(rounds=3, min_rounds=3, timeout_s=5.0))["m"]
        if isinstance(result, MeasurementFailure):
            raise MeasurementError(result.reason)
        worker.predict(artefact, np.zeros((1, 1, 8, 8), np.float32), timeout_s=5.0)


def _npz(header: str, data: bytes = b"", name: str = "array_0") -> bytes:
    text = header.encode() + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)
    return file.getvalue()


def _deflated_zeros() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("array_0.npy", bytes(50 << 20))
    return file.getvalue()


# ---------------------------------------------------------------- tables, audits, studies


def _other_files() -> Iterator[Attack]:
    contents: tuple[tuple[str, Callable[[Path, Path], object]], ...] = (
        ("brackets within brackets", lambda path, _: path.write_bytes(b"[" * 200_000 + b"\n")),
        ("bytes that are no text", lambda path, _: path.write_bytes(bytes(range(256)) * 20 + b"\n")),
        ("a number of 9000 digits", lambda path, _: path.write_bytes(b'{"schema": ' + b"9" * 9000 + b"}\n")),
        ("escape sequences", lambda path, _: path.write_text(json.dumps({"schema": ESCAPE, "device": ESCAPE}) + "\n")),
        ("a list", lambda path, _: path.write_text("[1]\n")),
        ("nothing", lambda path, _: path.write_bytes(b"")),
        ("a header of exabytes", lambda path, _: path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")),
        ("an endless device", lambda path, _: path.symlink_to("/dev/zero")),
        ("a pipe", lambda path, _: os.mkfifo(path)),
    )
    for kind in ("table", "audit", "study", "checkpoint"):
        for name, make in contents:
            yield Attack(kind, name, partial(_read_as, kind, make), may_pass=name == "nothing" and kind == "table")


def readers() -> dict[str, Callable[[Path], object]]:
    """Kind of file -> what reads it."""
    from hwnas.audit.audit_file import load_audit
    from hwnas.cost.table import LatencyTable
    from hwnas.search.study_file import load_study
    from hwnas.supernet.checkpoint import load_checkpoint

    return {"table": LatencyTable.open, "audit": load_audit, "study": load_study, "checkpoint": load_checkpoint}


def _read_as(kind: str, make: Callable[[Path, Path], object], folder: Path, outside: Path) -> Prepared:
    path = folder / "file"
    make(path, outside)

    def read() -> None:
        readers()[kind](path)

    return read


# ---------------------------------------------------------------- data


def _data() -> Iterator[Attack]:
    for name, make, spec in (
        ("python: a function of the system", None, "python:os:system"),
        ("python: the end of the process", None, "python:sys:exit"),
        ("python: a path", None, "python:../x:f"),
        ("python: a class that takes anything", None, "python:subprocess:Popen"),
        ("python: an attribute of an attribute", None, "python:os:path.join"),
        (
            "npz of 931 TB",
            _npz("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000, 3)}", name="x"),
            "npz:file",
        ),
        (
            "npz of objects",
            _npz("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n", "x"),
            "npz:file",
        ),
        ("npz of code", _npz("__import__('os').system('id')", name="x"), "npz:file"),
        ("npz that is none", b"PK\x03\x04", "npz:file"),
        ("npz that is a pipe", "pipe", "npz:file"),
        ("npz that is endless", "zero", "npz:file"),
        ("idx of 64 dimensions", b"\x00\x00\x08\x40" + b"\xff" * 256, "idx:."),
        ("an option with escape sequences", None, f"digits?x={ESCAPE}"),
        ("a source that is a module", None, "os:system"),
        ("a folder that is a path with NUL", None, "folder:a\0b"),
    ):
        yield Attack("data", name, partial(_loaded, make, spec))


def _loaded(content: bytes | str | None, spec: str, folder: Path, outside: Path) -> Prepared:
    path = folder / "file"
    if content == "pipe":
        os.mkfifo(path)
    elif content == "zero":
        path.symlink_to("/dev/zero")
    elif isinstance(content, bytes):
        for name in (
            "file",
            *(
                f"{part}-{kind}-idx{n}-ubyte"
                for part in ("train", "t10k")
                for kind, n in (("images", 3), ("labels", 1))
            ),
        ):
            (folder / name).write_bytes(content)

    def load() -> None:
        from hwnas.data import load_data

        load_data(spec, seed=0)

    return load

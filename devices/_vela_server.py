"""Compiles TFLite files with Arm's Vela and computes them with tflite-micro; answers JSON lines.

A script for the tools' own environment (`_environments.py`): it imports numpy and the two tools, and nothing of
hwnas. `_vela.py` starts it and speaks the protocol of `hwnas/measure/protocol.py` with it:

    python -I _vela_server.py WORDS_FILE

What the tools print goes to that file, so that their last words survive a crash of theirs.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

_ARENA_BYTES = 256 << 20  # more than any microcontroller has; memory is taken only as it is touched
_ARENA_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
_OPTIMISE = ("Performance", "Size")
_LEFT_TO_CPU = "Passthrough"  # Vela's name for what it does not compile

Request = Mapping[str, Any]


class ServerError(Exception):
    """Reported to the caller under the name of one of its error classes."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ToolServer:
    """Carries requests out, one after the other."""

    def __init__(self, words: int) -> None:
        """Args: words: descriptor of the file everything printed goes to."""
        self._words = words
        self._parent = os.getppid()
        self._systems: dict[tuple[str, ...], tuple[Any, str]] = {}
        self.operations: dict[str, Callable[[Request], Any]] = {
            "hello": self.hello,
            "configure": self.configure,
            "compile": self.compile,
            "arena": self.arena,
            "run": self.run,
        }

    def answer(self, request: Request) -> dict[str, Any]:
        """The reply to one request."""
        try:
            self._go_on(request)
            return {"id": request["id"], "ok": True, "result": self.operations[request["op"]](request)}
        except ServerError as e:
            return _error(request, e.kind, str(e))
        except Exception as e:  # noqa: BLE001  the caller decides; this process must stay usable
            return _error(request, "MeasurementError", f"{type(e).__name__}: {e}")
        finally:
            signal.alarm(0)

    def hello(self, request: Request) -> dict[str, str]:
        """Which versions of the tools there are."""
        try:
            import ethosu.vela  # type: ignore[import-not-found]
            import tflite_micro  # type: ignore[import-not-found]
            from ethosu import regor  # noqa: F401  (these two are what takes time to import)
            from tflite_micro.python.tflite_micro import runtime  # type: ignore[import-not-found]  # noqa: F401

            return {"vela": str(ethosu.vela.__version__), "tflite_micro": str(tflite_micro.__version__)}
        except ImportError as e:
            raise ServerError("ConfigError", f"{sys.executable} has not the tools: {e}") from e

    def configure(self, request: Request) -> dict[str, Any]:
        """What is known of a system before anything is compiled for it; the hash of a configuration not Vela's own."""
        from ethosu.vela import architecture_features as features

        architecture, _ = self._system(request)
        ini = Path(features.CONFIG_FILES_PATH, request["config"])
        shipped = ini.resolve().is_relative_to(Path(features.CONFIG_FILES_PATH).resolve())
        return {
            "clock_hz": float(architecture.core_clock),
            "macs_per_cycle": _macs_per_cycle(architecture),
            "config_sha256": "" if shipped else hashlib.sha256(ini.read_bytes()).hexdigest(),
        }

    def compile(self, request: Request) -> dict[str, Any]:
        """Compile a file and tell what Vela estimates for it; with `output`, write there what the board runs."""
        from ethosu import regor

        architecture, system = self._system(request)
        accelerator = "".join(part.capitalize() for part in request["accelerator"].split("-")[:-1])  # EthosU55
        data = _model(request)
        start = self._words_said()
        try:
            compiled = regor.compile(
                accelerator, data, "TFLITE", system, options=_compiler_options(request, architecture), verbose=True
            )
        except RuntimeError as e:
            raise ServerError("MeasurementError", f"{str(e).strip()} {self._words_since(start)}".strip()) from e
        if output := request.get("output"):
            Path(output).write_bytes(bytes(compiled.model))
        report = compiled.perf_report
        memories = {str(name): memory for name, memory in report.memories.items()}
        return {
            "inference_ns": report.totalCycles / architecture.core_clock * 1e9,
            "cycles": report.totalCycles,
            "npu_cycles": report.npuCycles,
            "access_cycles": {name: memory.totalAccessCycles for name, memory in memories.items()},
            "peak_bytes": {name: memory.peakUsage for name, memory in memories.items()},
            "macs": report.macCount,
            "macs_per_cycle": _macs_per_cycle(architecture),
            "npu_operators": report.npuOps,
            "cascaded_operators": report.cascadedOps,
            "cpu_operators": dict(_cpu_operators(compiled.opt_database)),
            "compiled_bytes": len(compiled.model),
            "words": self._words_since(start),
        }

    def arena(self, request: Request) -> int:
        """Bytes of tensor arena that tflite-micro takes for a file."""
        interpreter = self._interpreter(request)
        start = self._words_said()
        interpreter.print_allocations()
        found = _ARENA_TOTAL.search(said := self._words_since(start))
        if found is None:
            raise ServerError("MeasurementError", f"tflite-micro does not tell its arena's size; it says: {said}")
        return int(found[1])

    def run(self, request: Request) -> int:
        """Compute a file's outputs for the inputs in one .npz file into another, a batch of 1 sample by sample."""
        with np.load(request["inputs"], allow_pickle=False) as file:
            inputs = [file[f"array_{i}"] for i in range(len(file.files))]
        interpreter = self._interpreter(request)
        shapes = [tuple(d["shape"]) for d in _details(interpreter.get_input_details)]
        n_outputs = len(_details(interpreter.get_output_details))
        if len(inputs) != len(shapes):
            raise ServerError("MeasurementError", f"it has {len(shapes)} inputs, but {len(inputs)} arrays were given")
        as_it_is = all(x.shape == shape for x, shape in zip(inputs, shapes, strict=True))
        counts = {x.shape[0] if x.ndim else 0 for x in inputs}
        samples = 1 if as_it_is else counts.pop()
        if not samples or (counts and not as_it_is):
            raise ServerError("MeasurementError", "the inputs have no samples, or not all as many")
        outputs: list[list[Any]] = [[] for _ in range(n_outputs)]
        start = self._words_said()
        for i in range(samples):
            self._go_on(request)
            try:
                for at, x in enumerate(inputs):
                    interpreter.set_input(np.ascontiguousarray(x if as_it_is else x[i : i + 1]), at)
                interpreter.invoke()
            except (ValueError, RuntimeError) as e:
                raise ServerError("MeasurementError", f"{e} {self._words_since(start)}".strip()) from e
            for at, found in enumerate(outputs):
                found.append(np.array(interpreter.get_output(at)))
        arrays = {f"array_{i}": np.concatenate(found) for i, found in enumerate(outputs)}
        np.savez(request["outputs"], **arrays)  # type: ignore[arg-type]
        return n_outputs

    def _go_on(self, request: Request) -> None:
        """Begin a step that may take `limit_s`, unless nobody waits for it any more."""
        if os.getppid() != self._parent:
            os._exit(1)
        signal.alarm(int(request.get("limit_s", 0)))  # a tool that hangs holds Python's lock: only this ends it

    def _interpreter(self, request: Request) -> Any:
        from tflite_micro.python.tflite_micro import runtime

        start = self._words_said()
        try:
            return runtime.Interpreter.from_bytes(_model(request), arena_size=_ARENA_BYTES)
        except RuntimeError as e:
            raise ServerError("MeasurementError", f"{e} {self._words_since(start)}".strip()) from e

    def _system(self, request: Request) -> tuple[Any, str]:
        """Vela's description of the hardware, and the text its compiler takes."""
        from ethosu.vela import architecture_features as features
        from ethosu.vela.errors import VelaError  # type: ignore[import-not-found]

        accelerator, system_config, memory_mode, config = (
            str(request[name]) for name in ("accelerator", "system_config", "memory_mode", "config")
        )
        ini = Path(features.CONFIG_FILES_PATH, config)  # (an absolute path stays what it is)
        text = _read(ini)
        wanted = (accelerator, system_config, memory_mode, text)
        if wanted not in self._systems:
            sections = _sections(text, ini)
            _check_name("accelerator", accelerator, features.Accelerator.member_list(), where="Vela")
            for name, value, kind in (
                ("system_config", system_config, "System_Config."),
                ("memory_mode", memory_mode, "Memory_Mode."),
            ):
                known = [s.removeprefix(kind) for s in sections if s.startswith(kind)]
                _check_name(name, value, known, where=config)
            try:
                architecture = features.ArchitectureFeatures(
                    vela_config_files=[str(ini)],
                    accelerator_config=accelerator,
                    system_config=system_config,
                    memory_mode=memory_mode,
                    max_blockdep=features.ArchitectureFeatures.MAX_BLOCKDEP,
                    verbose_config=False,
                    arena_cache_size=None,
                )
            except VelaError as e:
                raise ServerError("ConfigError", f"Vela refuses this system: {e.error_msg}") from e
            head = (
                f"[architecture]\nmacs={architecture.num_macs_per_cycle}\ncores={architecture.ncores}\n"
                f"[vela]\nsystem_config_name={architecture.system_config}\nmemory_mode_name={architecture.memory_mode}\n"
            )
            self._systems[wanted] = (architecture, head + text)
        return self._systems[wanted]

    def _words_said(self) -> int:
        return os.fstat(self._words).st_size

    def _words_since(self, start: int) -> str:
        text = os.pread(self._words, self._words_said() - start, start).decode(errors="replace")
        return " ".join(text.split())


def _model(request: Request) -> bytes:
    """The file asked about, if it is still the one that was checked."""
    try:
        data = Path(request["path"]).read_bytes()
    except OSError as e:
        raise ServerError("ArtefactError", f"cannot read the artefact {request['path']}: {e.strerror}") from e
    if hashlib.sha256(data).hexdigest() != request["sha256"]:
        raise ServerError("ArtefactError", f"{request['path']} has changed since it was loaded; export it again")
    return data


def _check_name(name: str, value: str, known: Sequence[str], *, where: str) -> None:
    if value not in known:
        raise ServerError("ConfigError", f"{where} knows no {name} {value!r}; known: {', '.join(known) or 'none'}")


def _compiler_options(request: Request, architecture: Any) -> str:
    """What Vela's command line would tell its compiler; the database says which operators stay on the CPU."""
    _check_name("optimise", request["optimise"], _OPTIMISE, where="Vela")
    return (
        "\n[compiler]\nenable_db=true\noutput_format=TFLite\ncop_format=COP1\n"
        f"\n[scheduler]\noptimize={request['optimise']}\narena_size_limit={architecture.arena_cache_size}\n"
        "disable_feature=\ncpu_tensor_alignment=16\ntensor_allocator=HillClimb\n"
        "\n[graph]\nsoftmax_int16_neg_exp_range=10.0\n"
    )


def _macs_per_cycle(architecture: Any) -> float:
    return float(architecture.num_macs_per_cycle * architecture.ncores)


def _cpu_operators(database: Any) -> Counter[str]:
    """Operators of the file that Vela did not compile, by their names there."""
    source, performance = (database.tables[name] for name in ("source", "perf"))
    name_of = {row[source.header.index("id")]: row[source.header.index("operator")] for row in source.data}
    operator, origin = (performance.header.index(name) for name in ("operator", "source_id"))
    return Counter(name_of.get(row[origin], "?") for row in performance.data if row[operator] == _LEFT_TO_CPU)


def _read(ini: Path) -> str:
    try:
        return ini.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ServerError("ConfigError", f"cannot read Vela's configuration {ini}: {e}") from e


def _sections(text: str, ini: Path) -> list[str]:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as e:
        raise ServerError("ConfigError", f"cannot read Vela's configuration {ini}: {e}") from e
    return parser.sections()


def _details(ask: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each input or output: tflite-micro tells one, and does not tell how many there are."""
    found: list[dict[str, Any]] = []
    with suppress(IndexError):
        while True:
            found.append(ask(len(found)))
    return found


def _error(request: Request, kind: str, message: str) -> dict[str, Any]:
    return {"id": request.get("id"), "ok": False, "error": {"type": kind, "message": message}}


def main(words_file: str) -> int:
    """Serve until `quit`, or until the parent is gone and with it the other end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to handle
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    words = os.open(words_file, os.O_RDWR | os.O_APPEND)
    empty = os.open(os.devnull, os.O_RDONLY)
    for standard, replacement in enumerate((empty, words, words)):
        os.dup2(replacement, standard)
    server = ToolServer(words)
    for line in requests:
        request = json.loads(line)
        over = request["op"] == "quit"
        reply = {"id": request["id"], "ok": True, "result": None} if over else server.answer(request)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
        if over:
            break
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

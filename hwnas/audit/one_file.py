"""`hwnas audit FILE.tflite`: what a network is made of that is there as a file alone, and where its time goes.

LiteRT's Python interface tells no times of operators. So each is cut out of the file, as a file of its own, and all are
timed in interleaved rounds with the whole file as drift anchor. What operators save by standing together (fusion,
caches, one call for all) does not show; the sum beside the whole says how much that is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hwnas import registry
from hwnas._console import Console
from hwnas._places import user_path
from hwnas._tables import format_value
from hwnas.config import Config
from hwnas.errors import ArtefactError, ConfigError, MeasurementError
from hwnas.files import sha256_file
from hwnas.measure import Worker, first_reachable
from hwnas.measure.connection import check_board_is_named
from hwnas.quantities import count, percent, quantity
from hwnas.results import Result, Shown
from hwnas.scratch import scratch
from hwnas.types import Artefact, Device, Statistic
from hwnas.workspace import Workspace

_FORMAT, _NEEDED_FOR = "tflite", "`hwnas audit FILE.tflite`"
_SLOWEST = 5  # operators that are named


class Operator(Protocol):
    """One operator of a file; see `hwnas.exporters.tflite_file`, which reads it."""

    @property
    def index(self) -> int:
        """In the order in which they run."""
        ...

    @property
    def kind(self) -> str:
        """As the format names it."""
        ...

    @property
    def name(self) -> str:
        """Of what it gives."""
        ...

    @property
    def dtype(self) -> str:
        """Of what it gives."""
        ...

    @property
    def weight_dtype(self) -> str:
        """Of its weights; empty where it has none."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Of its constants."""
        ...

    @property
    def precision(self) -> str:
        """That it computes in: `fp32` or `int8`."""
        ...


Ends = tuple[tuple[str, tuple[int, ...]], ...]  # (type, shape) of each tensor


class ReadFile(Protocol):
    """A file of operators, read."""

    operators: Sequence[Operator]
    inputs: Ends
    outputs: Ends
    peak_bytes: int

    def cut(self, index: int) -> bytes:
        """An operator as a file."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What a device told about a file.

    Attributes:
        device: its name.
        hardware: as its runtime names it.
        source: `measured`, or by what a runtime without hardware estimates.
        whole_ms: the whole file; the robust minimum, as all times here.
        operators_ms: index -> its time alone.
        failures: index -> why it could not be timed alone.
        info: what really runs, as the runtime says: operators on a delegate, and those that are left.
    """

    device: str
    hardware: str
    source: str
    whole_ms: float
    operators_ms: Mapping[int, float]
    failures: Mapping[int, str]
    info: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAuditResult(Result):
    """A file's operators, and where its time goes.

    Attributes:
        file: its path.
        size_bytes: of it.
        inputs: (type, shape) each.
        outputs: likewise.
        operators: in their order.
        peak_memory_bytes: of activations, computed from the order of operators.
        timed: on a device; None where none was named.
    """

    file: Path
    size_bytes: int
    inputs: Ends
    outputs: Ends
    operators: Sequence[Operator]
    peak_memory_bytes: int
    timed: Timed | None

    @property
    def shown(self) -> Shown:
        """A row for each kind of operator and type, those that take longest first."""
        groups: dict[tuple[str, str], list[Operator]] = {}
        for op in self.operators:
            groups.setdefault((op.kind, _types(op)), []).append(op)
        order = sorted(groups.values(), key=lambda ops: (-self._ms(ops), -sum(op.macs for op in ops)))
        times = ["time alone", "share", "MACs/ns"] if self.timed is not None else []
        return Shown(
            title=f"{self.file.name}: {count(len(self.operators), 'operator')}",
            columns=["operator", "type", "number", "MACs", "weights", *times],
            rows=[self._row(ops) for ops in order],
            notes=[*self._facts(), *(self._times() if self.timed is not None else [_NO_DEVICE])],
        )

    def _row(self, ops: Sequence[Operator]) -> tuple[object, ...]:
        macs, size = sum(op.macs for op in ops), sum(op.weight_bytes for op in ops)
        row: tuple[object, ...] = (
            ops[0].kind, _types(ops[0]), len(ops), format_value(macs) if macs else "", quantity("size_bytes", size)
        )  # fmt: skip
        if self.timed is None:
            return row
        ms, total = self._ms(ops), sum(self.timed.operators_ms.values())
        told = ms > 0
        pace = f"{macs / ms / 1e6:.1f}" if macs and told else ""
        return (*row, quantity("latency_ms", ms) if told else "not timed", percent(ms / total) if told else "", pace)

    def _ms(self, ops: Sequence[Operator]) -> float:
        return sum(self.timed.operators_ms.get(op.index, 0.0) for op in ops) if self.timed is not None else 0.0

    def _facts(self) -> list[str]:
        ends = "; ".join(
            f"{name} {', '.join(f'{dtype} {shape}' for dtype, shape in of)}"
            for name, of in (("takes", self.inputs), ("gives", self.outputs))
        )
        macs = sum(op.macs for op in self.operators)
        return [
            f"{ends[0].upper()}{ends[1:]}",
            f"{format_value(macs)} MACs; the file has {quantity('size_bytes', self.size_bytes)}; activations take "
            f"{quantity('peak_memory_bytes', self.peak_memory_bytes)} at most, computed",
        ]

    def _times(self) -> list[str]:
        t = self.timed
        assert t is not None
        total = sum(t.operators_ms.values())
        slowest = sorted(self.operators, key=lambda op: -t.operators_ms.get(op.index, 0.0))[:_SLOWEST]
        notes = [
            f"The whole file takes {quantity('latency_ms', t.whole_ms)} on {t.device} ({_told(t)}); its "
            f"operators, each alone in a file of its own, {quantity('latency_ms', total)} together",
            "Slowest: "
            + ", ".join(
                f"{op.kind} {op.name} {quantity('latency_ms', t.operators_ms[op.index])}"
                for op in slowest
                if op.index in t.operators_ms
            ),
        ]
        if (left := t.info.get("operators_left", "none")) != "none":
            notes.append(f"Not on {t.info.get('provider', 'the accelerator')}, but left to built-in kernels: {left}")
        if t.failures:
            index, reason = next(iter(t.failures.items()))
            op = self.operators[index]
            notes.append(
                f"{count(len(t.failures), 'operator')} could not be timed alone: {op.kind} {op.name}: {reason}"
            )
        return notes


_NO_DEVICE = "Where its time goes: name a device that runs .tflite files, as --device cpu-litert"


def audit_file(path: str, *, device: str = "", console: Console) -> FileAuditResult:
    """Say what a TFLite file is made of, and on a device where its time goes.

    Args:
        path: of the file.
        device: name of a description, or the path of one; nothing is timed if empty.
        console: to speak to.

    Raises:
        ArtefactError: it is no TFLite file.
        ConfigError: the device's runtime reads no such files, or nobody said where the board is.
        MeasurementError: the whole file does not run there.
        MissingPackageError: the package that reads TFLite files is not installed.
    """
    file = user_path(path)
    if file.suffix != f".{_FORMAT}":
        raise ConfigError(
            f"{path} is no .tflite file; an ONNX file is looked at by `hwnas adapt onnx:FILE`, a device by `hwnas "
            "devices audit DEVICE`"
        )
    read = registry.load_object("hwnas.exporters.tflite_file:read_tflite", extra="litert", needed_for=_NEEDED_FOR)
    found: ReadFile = read(file)
    return FileAuditResult(
        file=file,
        size_bytes=file.stat().st_size,
        inputs=found.inputs,
        outputs=found.outputs,
        operators=found.operators,
        peak_memory_bytes=found.peak_bytes,
        timed=_timed(found, file, device=device, console=console) if device else None,
    )


def _timed(found: ReadFile, file: Path, *, device: str, console: Console) -> Timed:
    """The times of a file and of its operators on a device."""
    work = Workspace(Config().replaced({"device.name": device}))
    check_board_is_named(work.device)
    if _FORMAT not in work.runtime.formats:
        raise ConfigError(
            f"device {device!r} has the runtime {work.device.runtime!r}, which reads "
            f"{', '.join(sorted(work.runtime.formats))}; name one that reads .{_FORMAT} files"
        )
    precision = "int8" if any(op.precision == "int8" for op in found.operators) else "fp32"
    whole = _artefact(file, work, precision)
    with first_reachable(work.device, tell=console.note) as worker, scratch("operators") as folder:
        context = worker.context()
        cuts, failures = _cut(found, Path(folder), work)
        anchor = worker.measure_anchor(whole)
        times, failed = _measure(worker, cuts, whole, whole_ms=anchor.minimum, console=console, device=work.device)
        return Timed(
            device=work.device.name,
            hardware=context.get("hardware", "an unknown processor"),
            source=context.get("source", "measured"),
            whole_ms=anchor.minimum,
            operators_ms=times,
            failures={**failures, **failed},
            info=worker.info(whole),
        )


def _artefact(path: Path, work: Workspace, precision: str) -> Artefact:
    return Artefact(
        path=path,
        format=_FORMAT,
        precision=work.computed.get(precision, precision),
        sha256=sha256_file(path),
        size_bytes=path.stat().st_size,
        batch=1,
    )


def _cut(found: ReadFile, folder: Path, work: Workspace) -> tuple[dict[int, Artefact], dict[int, str]]:
    """Each operator as a file; equal ones are one file."""
    cuts: dict[int, Artefact] = {}
    failures: dict[int, str] = {}
    for op in found.operators:
        try:
            data = found.cut(op.index)
        except ArtefactError as e:
            failures[op.index] = str(e)
            continue
        path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.{_FORMAT}"
        if not path.exists():
            path.write_bytes(data)
        cuts[op.index] = _artefact(path, work, op.precision)
    return cuts, failures


def _measure(
    worker: Worker,
    cuts: Mapping[int, Artefact],
    whole: Artefact,
    *,
    whole_ms: float,
    console: Console,
    device: Device,
) -> tuple[dict[int, float], dict[int, str]]:
    """Index -> milliseconds, and index -> why there are none."""
    keys = {a.sha256: f"operator {i}" for i, a in cuts.items()}  # equal ones are timed once
    distinct = {keys[a.sha256]: a for a in cuts.values()}
    with console.progress(f"operators on {device.name}") as progress:
        results = worker.measure(distinct, anchor=whole, anchor_ms=whole_ms, progress=progress)
    times: dict[int, float] = {}
    failures: dict[int, str] = {}
    for index, artefact in cuts.items():
        result = results[keys[artefact.sha256]]
        if isinstance(result, Statistic):
            times[index] = result.minimum
        else:
            failures[index] = result.reason
    if not times:
        raise MeasurementError(f"no operator could be timed on {device.name}: {next(iter(failures.values()))}")
    return times, failures


def _told(timed: Timed) -> str:
    """What runs it, and where the times come from."""
    return timed.hardware if timed.source in timed.hardware else f"{timed.hardware}, {timed.source}"


def _types(op: Operator) -> str:
    """What it computes with: `int8`, or `float32 (int8 weights)`."""
    hybrid = op.dtype.startswith("float") and op.weight_dtype.startswith(("int8", "int4")) and op.macs
    return f"{op.dtype} ({op.weight_dtype} weights)" if hybrid else op.dtype

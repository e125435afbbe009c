"""What works on this machine: packages, runtimes, exporters, devices, the processor, the disk. And what on a board.

Everything here is read from metadata and the operating system: nothing examined is imported. A board is asked. Must
never know torch, a runtime, spaces or search.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from hwnas import packages, registry
from hwnas.errors import ConfigError, HwnasError, MeasurementError
from hwnas.files import write_whole
from hwnas.results import Result, Shown

_ENOUGH_DISK_BYTES = 1 << 30
_BUSY = 0.5  # load for each core above which timings are noisy
_SKEW_S = 60  # beyond, a board's clock is called wrong
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# package that `hwnas-light` leaves out -> what does not work without it, commands above all
NEEDED_FOR = {
    "torch": "run, adapt, train, profile, search, export, report, devices audit, query --measured",
    "onnx": "ONNX files, written or taken as networks",
    "optuna": "search",
    "scikit-learn": "query --predicted, predict, search, the digits",
    "scipy": "query --predicted, predict, search, adapt",
    "threadpoolctl": "query --predicted, predict, search",
    "jinja2": "report",
    "matplotlib": "report",
}


class State(StrEnum):
    """How a finding bears on the verdict."""

    OK = "ok"
    OPTIONAL = "optional"  # absent, and only some features want it
    WARNING = "warning"  # works, with less exact numbers
    MISSING = "missing"  # nothing works without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        part: "package", "runtime", "exporter", "device", "meter", "machine" or "disk".
        name: of the thing.
        state: how it is.
        value: its version or what was found.
        advice: what to do about it; "" if nothing.
    """

    part: str
    name: str
    state: State
    value: str
    advice: str = ""


def examine(folder: Path | None = None) -> list[Check]:
    """Look at everything.

    Args:
        folder: where results would be written; the working directory by default.
    """
    return [*_packages(), *_plugins(), *_devices(), *_meters(), *_machine(), *_disk(folder or Path.cwd())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis(Result):
    """What works.

    Attributes:
        title: of what was looked at.
        findings: in the order they are shown.
    """

    title: str
    findings: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """The verdict."""
        return not any(f.state is State.MISSING for f in self.findings)

    @property
    def exit_status(self) -> int:
        """That of wrong input where something is missing."""
        return 0 if self.ready else ConfigError.exit_status

    def values(self) -> Mapping[str, object]:
        """The verdict and all findings."""
        return {"ready": self.ready, "findings": self.findings}

    @property
    def shown(self) -> Shown:
        """A row for each finding, and the verdict."""
        return Shown(
            title=self.title,
            columns=["", "name", "state", "found"],
            rows=[(f.part, f.name, f.state.value, f.value) for f in self.findings],
            notes=[*(f"{f.name}: {f.advice}" for f in self.findings if f.advice), f"Verdict: {self._verdict()}"],
        )

    def _verdict(self) -> str:
        missing = [f.name for f in self.findings if f.state is State.MISSING]
        warnings = [f.name for f in self.findings if f.state is State.WARNING]
        if missing:
            return f"not ready: {', '.join(missing)}"
        without = [f.name for f in self.findings if f.state is State.OPTIONAL and f.name in NEEDED_FOR]
        ready = f"ready for what needs none of {', '.join(dict.fromkeys(without))}" if without else "ready"
        return f"{ready}, but mind: {', '.join(warnings)}" if warnings else ready


def diagnose(folder: Path | None = None) -> Diagnosis:
    """Look at this machine.

    Args:
        folder: where results would be written; the working directory by default.
    """
    return Diagnosis(title="What works on this machine", findings=tuple(examine(folder)))


def diagnose_board(name_or_path: str) -> Diagnosis:
    """Look at the board of a device, or at each of its boards.

    Args:
        name_or_path: of a device with a connection.

    Raises:
        ConfigError, UnknownNameError: there is no such device, it has no connection, or a setting is wrong.
        MeasurementError: its one board is not reached, or cannot run the agent; says what to do. One of several is a
            finding.
    """
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="device descriptions")
    device = load_device(name_or_path)
    look = registry.load_object("hwnas.measure.check:look_at_board", needed_for="boards")
    boards = registry.load_object("hwnas.measure.connection:boards_of", needed_for="boards")(device)
    if len(boards) == 1:
        facts = look(boards[0])
        return Diagnosis(
            title=f"Board {facts.board} of device {device.name}", findings=tuple(_board(device.runtime, facts))
        )
    tell = registry.load_object("hwnas.measure.connection:reached", needed_for="boards")
    unlike = registry.load_object("hwnas.measure.boards:unlike", needed_for="boards")
    findings: list[Check] = []
    first: tuple[str, Mapping[str, str]] | None = None  # whose runtime starts: name and context
    for board in boards:
        name = tell(board)
        try:
            facts = look(board)
            found = [*_board(device.runtime, facts)]
            if facts.context and first is None:
                first = name, facts.context
            if facts.context and first is not None and (differs := unlike(first[1], facts.context)):
                advice = f"give it a description of its own; against {first[0]}, {differs}"
                found.append(Check(part="board", name="kind", state=State.MISSING, value="another", advice=advice))
        except MeasurementError as e:
            found = [Check(part="board", name="connection", state=State.MISSING, value="not ready", advice=str(e))]
        findings += [replace(each, name=f"{name}: {each.name}") for each in found]
    return Diagnosis(title=f"{len(boards)} boards of device {device.name}", findings=tuple(findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenAgent(Result):
    """The agent for boards, as a file.

    Attributes:
        path: of the file.
        size_bytes: of it.
        sha256: of it.
    """

    path: Path
    size_bytes: int
    sha256: str

    @property
    def shown(self) -> Shown:
        """The file, and what to do with it."""
        return Shown(
            title="Agent for a board",
            columns=["file", "size_bytes", "sha256"],
            rows=[(str(self.path), self.size_bytes, self.sha256)],
            notes=['Copy it to the board and name it there: agent = "..." in the device\'s [connection].'],
        )


def write_agent(path: Path) -> WrittenAgent:
    """Write the agent for boards that are set up by hand.

    Raises:
        OSError: the file cannot be written.
    """
    data = registry.load_object("hwnas.measure.bundle:agent_bytes", needed_for="the agent")()
    write_whole(path, data)
    return WrittenAgent(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _board(runtime: str, facts: Any) -> Iterator[Check]:
    """What a look at a board told, judged."""
    agent, context = facts.agent, facts.context
    yield Check(part="board", name="system", state=State.OK, value=agent["system"])
    for name in ("hardware", "governor"):
        if name in context:
            yield Check(part="board", name=name, state=State.OK, value=context[name])
    yield Check(part="board", name="cores", state=State.OK, value=str(agent["cores"]))
    for name in ("python", "numpy"):
        yield Check(part="package", name=name, state=State.OK, value=agent[name])
    yield Check(
        part="runtime",
        name=runtime,
        state=State.MISSING if facts.problem else State.OK,
        value="does not start" if facts.problem else context.get("runtime_version", "starts"),
        advice=facts.problem,
    )
    free_bytes = agent["free_bytes"]
    enough = free_bytes >= _ENOUGH_DISK_BYTES
    yield _judge(
        "disk",
        "agent's folder",
        value=f"{agent['folder']}, {free_bytes / 1e9:.1f} GB free",
        doubt="" if enough else "a full disk ends a measurement; lower cache_mb or choose another folder",
    )
    skew_s = facts.clock_skew_s
    skewed = abs(skew_s) > _SKEW_S
    yield _judge(
        "board",
        "clock",
        value=f"{skew_s:+.0f} s from this machine's" if skewed else "right",
        doubt="no measurement depends on it" if skewed else "",
    )


def _judge(part: str, name: str, *, value: str, doubt: str) -> Check:
    """A thing that works, with less exact numbers if there is a doubt."""
    return Check(part=part, name=name, state=State.WARNING if doubt else State.OK, value=value, advice=doubt)


def _packages() -> Iterator[Check]:
    yield Check(part="package", name="python", state=State.OK, value=platform.python_version())
    if len(both := packages.installed_as()) > 1:
        yield Check(
            part="package",
            name=both[-1],
            state=State.WARNING,
            value=f"installed over {both[0]}, whose files are the same",
            advice=f"uninstall both, and install one again: {_pip('uninstall')} {' '.join(both)}",
        )
    for name in dict.fromkeys(each.name for each in packages.requirements()):
        requirement = packages.requirement_of(name)
        if requirement is None:  # for developers alone
            continue
        version = packages.installed_version(name)
        if version is not None and _numbers(version) >= _numbers(requirement.minimum):
            yield Check(part="package", name=name, state=State.OK, value=version)
            continue
        yield Check(
            part="package",
            name=name,
            state=State.OPTIONAL if requirement.extra else State.MISSING,
            value=f"{version} is too old" if version else "not installed" + _purpose(name),
            advice=f"{_pip('install')} {packages.to_install(name)}",
        )


def _purpose(package: str) -> str:
    return f"; needed for {NEEDED_FOR[package]}" if package in NEEDED_FOR else ""


def _pip(verb: str) -> str:
    return f"{Path(sys.executable).name} -m pip {verb}"


def _numbers(version: str) -> tuple[int, ...]:
    """2.13.0+cpu -> (2, 13): trailing zeros say nothing."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(n) for n in release[0].split(".")] if release else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _plugins() -> Iterator[Check]:
    """Runtimes and exporters, judged by the packages their extra names: to import one would load it."""
    absent = {f.name: f for f in _packages() if f.state in (State.OPTIONAL, State.MISSING)}
    extras: dict[str, set[str]] = {}
    for requirement in packages.requirements():
        extras.setdefault(requirement.extra, set()).add(requirement.name)
    for part in ("runtime", "exporter"):
        for name in registry.names(f"{part}s"):
            extra = registry.extra(f"{part}s", name)
            if extra is None:
                yield Check(part=part, name=name, state=State.OK, value="by another package")
                continue
            # what needs no extra may still need a package of its own name: `onnxruntime`; what is exported is torch's
            needed = {*(extras.get(extra, set()) if extra else {name}), *(("torch",) if part == "exporter" else ())}
            lacking = sorted(absent.keys() & needed)
            if lacking:
                advice = absent[lacking[0]].advice
                yield Check(
                    part=part, name=name, state=State.OPTIONAL, value=f"needs {', '.join(lacking)}", advice=advice
                )
            else:
                version = packages.installed_version(name)
                yield Check(part=part, name=name, state=State.OK, value=version or "built in")


def _devices() -> Iterator[Check]:
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="device descriptions")
    for name in registry.load_object("hwnas.devices:device_names", needed_for="device descriptions")():
        try:
            device = load_device(name)
        except HwnasError as e:
            yield Check(part="device", name=name, state=State.WARNING, value="unreadable", advice=str(e))
        else:
            value = f"{device.runtime}, {', '.join(device.precisions)}"
            yield Check(part="device", name=name, state=State.OK, value=value)


def _meters() -> Iterator[Check]:
    """Which energy meters would find something to read; none is opened."""
    found = registry.load_object("hwnas.devices.meters:found_meters", needed_for="energy meters")()
    lacking = {f.name: f.advice for f in _packages() if f.state is not State.OK}
    for name in registry.names("meters"):
        needed = next((p for p in registry.distributions("meters", name) if p in lacking), "")
        if registry.extra("meters", name) is None:
            yield Check(part="meter", name=name, state=State.OK, value="by another package")
        elif name == "fake":
            yield Check(part="meter", name=name, state=State.OK, value="simulated, for tests")
        elif name not in found:
            yield Check(part="meter", name=name, state=State.OPTIONAL, value="nothing to read here")
        elif needed:
            value, advice = f"{found[name]}; needs {needed}", lacking[needed]
            yield Check(part="meter", name=name, state=State.OPTIONAL, value=value, advice=advice)
        else:
            yield Check(part="meter", name=name, state=State.OK, value=found[name])


def _machine() -> Iterator[Check]:
    context = registry.load_object("hwnas.devices.host:host_context", needed_for="this machine")(threads=1)
    yield Check(part="machine", name="processor", state=State.OK, value=context["hardware"])
    cores = _usable_cores()
    usable = f"{cores:g} of {os.cpu_count()} usable, affinity {context['affinity']}"
    yield Check(part="machine", name="cores", state=State.OK, value=usable)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    busy = load > _BUSY * cores
    noisy = "other work is running; timings will be noisy" if busy else ""
    yield _judge("machine", "load", value=f"{load:.2f}", doubt=noisy)
    governor = context["governor"]
    scaling = any(name in governor for name in ("powersave", "ondemand", "conservative", "schedutil"))
    yield _judge(
        "machine",
        "clock governor",
        value=governor,
        doubt="the clock follows the load; for steady timings: cpupower frequency-set -g performance"
        if scaling
        else "",
    )
    turbo = context["turbo"] == "on"
    yield _judge(
        "machine",
        "turbo",
        value=context["turbo"],
        doubt="the clock depends on temperature and neighbours; for steady timings switch it off: "
        "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo (or 0 to cpufreq/boost)"
        if turbo
        else "",
    )
    gpu = shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()
    yield Check(part="machine", name="GPU", state=State.OK, value="NVIDIA" if gpu else "none seen; training on CPU")


def _usable_cores() -> float:
    """Cores this process may run on, less where a container has a quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = _QUOTA.read_text(encoding="utf-8").split()
        return min(cores, int(quota) / int(period))
    except (OSError, ValueError):  # no container, or "max": no quota
        return cores


def _disk(folder: Path) -> Iterator[Check]:
    for name, path in (("working folder", folder), ("temporary folder", Path(tempfile.gettempdir()))):
        try:
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as e:
            yield Check(
                part="disk",
                name=name,
                state=State.MISSING,
                value=f"{path} is not writable",
                advice=f"{e.strerror}: start hwnas elsewhere or make {path} writable",
            )
            continue
        free = shutil.disk_usage(path).free
        little = "" if free >= _ENOUGH_DISK_BYTES else f"less than {_ENOUGH_DISK_BYTES / 1e9:.0f} GB free"
        yield _judge("disk", name, value=f"{path}, {free / 1e9:.1f} GB free", doubt=little)

"""Arm Ethos-U: a device without the hardware. What a network costs on it is what Arm's compiler, Vela, estimates.

Nothing is measured here and nothing runs on an NPU: times, cycles and memory are Vela's estimates, the same every
time. Outputs are computed by tflite-micro's reference kernels, with which the NPU is meant to agree bit for bit; no
NPU was at hand to try that. Knows .tflite files as artefacts and the two tools by their answers (`_vela.py`); never
torch, or what a model is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hwnas.errors import ArtefactError, ConfigError, MeasurementError
from hwnas.files import write_whole
from hwnas.foreign import as_written
from hwnas.measure.artefacts import check_artefact
from hwnas.scratch import scratch
from hwnas.types import Array, Artefact, Device, Option, PrecisionRule, Session

from ._shared import listing
from ._vela import VelaTools, shared_tools
from .litert import INTEGER_OPERATORS

_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every TFLite file
_AT_THE_ENDS = ("Quantize", "Dequantize")  # float tensors are the CPU's: no NPU takes them
_LEAST_NS = 1.0  # of a file of which nothing runs on the NPU: a table's entries are positive

_WORD = re.compile(r"[A-Za-z0-9._/-]{0,4096}")  # some become lines of a text that Vela's compiler takes

# Everything `device.options` may hold, with its default; an empty text must be given.
OPTIONS: Mapping[str, Option] = {
    "accelerator": "",  # "ethos-u55-128": Vela's name
    "system_config": "",  # clock, memories and their speed: a section of the configuration file
    "memory_mode": "",  # what lies in which memory: likewise
    "config": "Arm/vela.ini",  # the file: one that Vela ships, or an absolute path
    "optimise": "Performance",  # or "Size": less SRAM; but operators cascade: sums of blocks predict badly then
    "cpu_operators": False,  # whether to accept networks with operators the NPU has not, whose time nobody estimates
}


# What Vela takes of TFLite's int8 operators depends on their attributes: it names those it leaves to the CPU
_INT8 = PrecisionRule(operators=INTEGER_OPERATORS, how="8-bit products, added up in 32 bits")
PRECISIONS: Mapping[str, PrecisionRule] = {"int8": _INT8, "int8-pt": _INT8}


class EthosURuntime:
    """The adapter. See `OPTIONS` for `device.options`; the first three must be given."""

    name = "ethos-u"
    formats = frozenset({"tflite"})
    precisions = PRECISIONS
    metrics: ClassVar[Mapping[str, str]] = {
        "memory_bytes": "SRAM of a run, as Vela plans it",
        "flash_bytes": "the file that Vela compiles",
        "arena_bytes": "tensor arena of tflite-micro on a processor without the NPU",
    }
    start_timeout_s = 900.0  # the first time the tools' environment is made, over whatever link there is
    quantization = "asymmetric"

    def __init__(self, tools: VelaTools | None = None) -> None:
        """Args: tools: the process to ask; by default the one all runtimes of this process share."""
        self._tools = tools or shared_tools()

    @staticmethod
    def check_options(device: Device) -> None:
        """Check `device.options` without the runtime.

        Raises:
            ConfigError, UnknownNameError: one is not known, or has a wrong value.
        """
        _options(device)

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Compile a file for the device's accelerator.

        Raises:
            ArtefactError: the file is absent, changed or not a TFLite model.
            MeasurementError: the precision is not legal, Vela refuses the file or crashes on it, it would leave
                operators to the CPU, or the tools' environment cannot be made.
            ConfigError: the device has an option that is not known, or lacks one.
        """
        options = _options(device)
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        with open(artefact.path, "rb") as file:
            if file.read(8)[4:] != _IDENTIFIER:
                raise ArtefactError(
                    f"{artefact.path} is not a TFLite model: it has not the format's mark {_IDENTIFIER!r}"
                )
        model = {"path": str(artefact.path.resolve()), "sha256": artefact.sha256}
        estimate = self._tools.ask("compile", {**model, **_system(options)}, about=str(artefact.path))
        _refuse_cpu_operators(estimate, artefact.path, options)
        return EthosUSession(model, estimate, tools=self._tools, options=options)

    def compile_for_board(self, artefact: Artefact, device: Device, folder: Path) -> tuple[Path, ...]:
        """What Vela makes of a network, `<name>_vela.tflite`: the board runs this file, not the artefact.

        Raises:
            ArtefactError, MeasurementError, ConfigError: as `load`.
            OSError: it cannot be written.
        """
        self.load(artefact, device).__exit__(None, None, None)  # with all its checks
        path = folder / f"{artefact.path.stem}_vela.tflite"
        with scratch("ethos-u") as made:
            output = made / path.name
            request = {"path": str(artefact.path.resolve()), "sha256": artefact.sha256, "output": str(output)}
            self._tools.ask("compile", {**request, **_system(_options(device))}, about=str(artefact.path))
            write_whole(path, output.read_bytes())
        return (path,)

    def context(self, device: Device) -> Mapping[str, str]:
        """Vela's version, and the system it estimates for. The machine it runs on does not matter."""
        options = _options(device)
        versions = self._tools.versions()
        system = self._tools.ask("configure", _system(options), about=f"device {device.name!r}")
        digest = str(system["config_sha256"])
        own_system = f" for {Path(str(options['config'])).name} {digest[:12]}" if digest else ""  # it may change
        return {
            "runtime_version": f"Vela {versions['vela']}",
            "hardware": f"{_hardware(options, versions)}{own_system}",
            "source": _source(versions),
            "outputs_by": _outputs_by(versions),
            "clock_mhz": f"{system['clock_hz'] * 1e-6:g}",
            "macs_per_cycle": f"{system['macs_per_cycle']:g}",
            "threads": str(device.threads),
            **{name: str(value) for name, value in options.items()},
        }


class EthosUSession:
    """A compiled file and what Vela estimates for it."""

    def __init__(
        self, model: Mapping[str, str], estimate: Mapping[str, Any], *, tools: VelaTools, options: Mapping[str, Option]
    ) -> None:
        self._model = model
        self._estimate = estimate
        self._tools = tools
        self._options = options
        self._open = True

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs of the same file by tflite-micro's reference kernels, sample by sample."""
        self._check_open()
        with scratch("ethos-u") as folder:
            source, target = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
            np.savez(source, **{f"array_{i}": a for i, a in enumerate(inputs)})  # type: ignore[arg-type]
            request = {**self._model, "inputs": str(source), "outputs": str(target)}
            steps = max((len(a) for a in inputs if a.ndim), default=1)
            n_outputs: int = self._tools.ask("run", request, about=self._model["path"], steps=max(1, steps))
            with np.load(target, allow_pickle=False) as file:
                return tuple(file[f"array_{i}"] for i in range(n_outputs))

    def time_ns(self, *, iterations: int) -> int:
        """Nanoseconds of that many runs as Vela estimates them: no clock is read."""
        self._check_open()
        once_ns = max(float(self._estimate["inference_ns"]), _LEAST_NS)
        return round(once_ns * iterations)

    def info(self) -> Mapping[str, str]:
        """Where the estimate is from, what runs on the NPU and what does not, and what bounds the time."""
        self._check_open()
        versions, e = self._tools.versions(), self._estimate
        cycles = e["cycles"]
        used = e["macs"] / (cycles * e["macs_per_cycle"]) if cycles else 0.0
        return {
            "provider": _hardware(self._options, versions),
            "source": _source(versions),
            "outputs_by": _outputs_by(versions),
            "npu_operators": str(e["npu_operators"]),
            "cpu_operators": listing(e["cpu_operators"]) or "none",
            "cascaded_operators": str(e["cascaded_operators"]),
            "cycles": f"{cycles} in all, NPU {e['npu_cycles']}, memory {listing(e['access_cycles']) or 'none'}",
            "macs_utilisation": f"{100 * used:.1f} % of {e['macs_per_cycle']:g} MACs a cycle",
            "peak_bytes": listing(e["peak_bytes"]) or "none",
            "remarks": e["words"] or "none",
        }

    def costs(self) -> Mapping[str, float]:
        """Bytes: SRAM and compiled file by Vela (`memory_bytes`, `flash_bytes`), `arena_bytes` by tflite-micro.

        `arena_bytes` is the tensor arena of the same file on a processor without the NPU, with the pointers of this
        machine: on one of 32 bits it is somewhat smaller. It is left out where tflite-micro has not all operators.
        """
        self._check_open()
        costs = {
            "memory_bytes": float(self._estimate["peak_bytes"].get("Sram", 0)),
            "flash_bytes": float(self._estimate["compiled_bytes"]),
        }
        try:
            arena: int = self._tools.ask("arena", self._model, about=self._model["path"])
        except MeasurementError:
            return costs
        return {**costs, "arena_bytes": float(arena)}

    def __enter__(self) -> EthosUSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise MeasurementError(f"the session of {self._model['path']} is closed; load the artefact again")


def _options(device: Device) -> dict[str, Option]:
    for option in device.options:
        if option not in OPTIONS:
            raise ConfigError(
                f"device {device.name!r} has an unknown option {as_written(option)}; "
                f"runtime {EthosURuntime.name!r} knows: {', '.join(OPTIONS)}"
            )
    options = {**OPTIONS, **device.options}
    for option, value in options.items():
        if type(value) is not type(OPTIONS[option]) or (isinstance(value, str) and not _WORD.fullmatch(value)):
            kind = "true or false" if isinstance(OPTIONS[option], bool) else "a text of letters, digits and . _ - /"
            raise ConfigError(f"device {device.name!r}: option {option} is {as_written(value)}; allowed: {kind}")
        if option == "config" and (not str(value).endswith(".ini") or ".." in Path(str(value)).parts):
            raise ConfigError(
                f"device {device.name!r}: option config is {as_written(value)}; allowed: a file ending in .ini "
                "that Vela ships, as Arm/vela.ini, or an absolute path"
            )
        if value == "":
            raise ConfigError(
                f"device {device.name!r} has no option {option!r}; the descriptions ethos-u55-128, ethos-u65-256 and "
                "ethos-u85-256 show what it may be"
            )
    return options


def _system(options: Mapping[str, Option]) -> dict[str, Option]:
    """What Vela is told."""
    return {name: value for name, value in options.items() if name != "cpu_operators"}


def _refuse_cpu_operators(estimate: Mapping[str, Any], path: Path, options: Mapping[str, Option]) -> None:
    """A time that leaves operators out would pass for that of the network."""
    left = {name: n for name, n in estimate["cpu_operators"].items() if name not in _AT_THE_ENDS}
    if left and not options["cpu_operators"]:
        raise MeasurementError(
            f"{path}: Vela leaves {listing(left)} to the CPU, whose time it does not estimate. It says: "
            f"{estimate['words']} Choose other operators, or accept estimates without them by the device's option "
            "cpu_operators = true"
        )


def _hardware(options: Mapping[str, Option], versions: Mapping[str, str]) -> str:
    """`Arm Ethos-U55-128 (estimated by Vela 5.2.0)`."""
    name = "-".join(part.capitalize() for part in str(options["accelerator"]).split("-"))
    return f"Arm {name} ({_source(versions)})"


def _source(versions: Mapping[str, str]) -> str:
    return f"estimated by Vela {versions['vela']}"


def _outputs_by(versions: Mapping[str, str]) -> str:
    return f"tflite-micro {versions['tflite_micro']}, reference kernels on this machine's CPU"

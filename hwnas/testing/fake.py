"""A simulated device: known costs on a virtual clock, exact outputs, and faults on request.

With it every stage runs in seconds on any machine, with the same numbers each time. It never reads a real
clock. The faults end or block the process that asks for them: use them through a measuring process only.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from hwnas.errors import ArtefactError, ConfigError, MeasurementError
from hwnas.foreign import as_written
from hwnas.measure.artefacts import check_artefact
from hwnas.precisions import EXACT, INTEGERS, KNOWN, WITHOUT_VNNI, is_quantized
from hwnas.testing.simulation import SimulatedCosts, simulated_costs
from hwnas.types import PRECISIONS, Array, Artefact, Device, Option, PrecisionRule, Session

# Everything `device.options` may hold, with its default.
OPTIONS: Mapping[str, Option] = {
    "noise": 0.01,  # standard deviation of the logarithm of a time
    "drift": 0.2,  # the machine becomes slower by up to this share, and fast again
    "drift_period_s": 1.0,  # of virtual time
    "slow_share": 0.0,  # of the time somebody else computes on the same core: the machine's slow phase
    "slow_period_s": 0.2,  # of virtual time: a fast phase and a slow one
    "slow_multiplying": 1.5,  # times as long as in the fast phase
    "slow_other": 2.0,  # likewise, what is no multiplication: no two models are slowed alike
    "seed": 0,
    "speed": 1.0,  # of the processor, against the one simulated by default
    "hardware": "simulated processor",
    "float_type": EXACT,  # or another: what float blocks count as
    "vnni": True,  # without, int8 has weights of 7 bits
    "crash_on": "",  # die on files whose name contains this text
    "hang_on": "",  # never come back
    "fail_on": "",  # report an error
    "fault_at": "load",  # "load", "run" (the first run) or "timing" (the fourth)
    "chatter": False,  # print on standard output, as some runtimes do
}
_FAULT_AT = {"load": 0, "run": 1, "timing": 4}  # number of timed calls before it
_NAMES_SHOWN = ", ".join(OPTIONS)


def fake_device(
    *, name: str = "fake", precisions: Sequence[str] = PRECISIONS, options: Mapping[str, Option] | None = None
) -> Device:
    """A device whose runtime is `FakeRuntime`.

    Args:
        name: of the device.
        precisions: legal on it.
        options: see `OPTIONS`.

    Raises:
        ConfigError: an option is not known.
    """
    _check_options(options or {})
    return Device(name=name, runtime="fake", precisions=tuple(precisions), options=dict(options or {}))


class FakeRuntime:
    """The adapter. Its sessions share one virtual clock, as those of a real runtime share one machine."""

    name = "fake"
    formats = frozenset({"onnx"})
    precisions: ClassVar[Mapping[str, PrecisionRule]] = {
        name: PrecisionRule() for name, p in KNOWN.items() if p.quantized or not p.rounds
    }
    quantization = "asymmetric"

    def __init__(self) -> None:
        import onnx  # noqa: F401  here, so that loading the first file takes no longer than the others

        self._clock = SimulatedMachine.new()

    @staticmethod
    def check_options(device: Device) -> None:
        """Check `device.options` without the runtime.

        Raises:
            ConfigError, UnknownNameError: one is not known, or has a wrong value.
        """
        _check_options(device.options)

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Parse a file and compute its cost.

        Raises:
            ArtefactError: the file is absent, changed or not an ONNX model.
            MeasurementError: the precision is not legal, or `fail_on` says so.
            ConfigError: the device has an option that is not known.
        """
        options = _check_options(device.options)
        check_artefact(artefact, device, formats=self.formats, precisions=self.precisions)
        if options["chatter"]:
            os.write(1, b"simulated runtime: loading\n")
        try:
            costs = simulated_costs(artefact.path)
        except ValueError as e:
            raise ArtefactError(str(e)) from e
        session = FakeSession(artefact.path, costs, clock=self._clock, options=options)
        session.misbehave()
        return session

    def substitutes(self, device: Device, context: Mapping[str, str]) -> Mapping[str, str]:
        """As the options `float_type` and `vnni` say."""
        options = _check_options(device.options)
        return {EXACT: str(options["float_type"]), **({} if options["vnni"] else {INTEGERS: WITHOUT_VNNI})}

    def context(self, device: Device) -> Mapping[str, str]:
        """Names a simulated machine, never the real one."""
        options = _check_options(device.options)
        return {
            "runtime_version": "1",
            "hardware": str(options["hardware"]),
            "governor": "unknown",
            "os": "simulated",
            "threads": str(device.threads),
        }


class SimulatedMachine:
    """What a process's sessions and its meter share: virtual nanoseconds, energy, and the noise drawn so far.

    Attributes:
        now_ns: since the runtime was made.
        energy_mj: of all runs since then, above the idle level.
        rng: of the times' noise, made with the first of them.
    """

    current: ClassVar[SimulatedMachine | None] = None

    def __init__(self) -> None:
        self.now_ns = 0.0
        self.energy_mj = 0.0
        self.rng: np.random.Generator | None = None

    @classmethod
    def new(cls) -> SimulatedMachine:
        """A machine at rest, which is this process's from now on, as a processor is: meters find it."""
        cls.current = cls()
        return cls.current


class FakeSession:
    """A loaded model: its cost is known, its outputs are computed when asked for."""

    def __init__(
        self, path: Path, costs: SimulatedCosts, *, clock: SimulatedMachine, options: Mapping[str, Option]
    ) -> None:
        self._path = path
        speed = float(options["speed"])
        self._cost_ns = (costs.multiplying_ns + costs.other_ns) / speed
        self._slow_ns = (
            float(options["slow_multiplying"]) * costs.multiplying_ns + float(options["slow_other"]) * costs.other_ns
        ) / speed
        self._energy_mj = costs.energy_mj
        self._clock = clock
        self._options = options
        self._evaluate: Callable[[Sequence[Array]], tuple[Array, ...]] | None = None
        self._calls = 0
        self._open = True

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs for these inputs, computed by ONNX Runtime."""
        self._check_open()
        self._evaluate = self._evaluate or _evaluator(self._path)
        return self._evaluate(inputs)

    def time_ns(self, *, iterations: int) -> int:
        """Virtual nanoseconds of that many runs; the virtual clock goes on by as much."""
        self._check_open()
        self._calls += 1
        self.misbehave()
        if self._clock.rng is None:
            self._clock.rng = np.random.default_rng(int(self._options["seed"]))
        phase = 2 * math.pi * self._clock.now_ns * 1e-9 / float(self._options["drift_period_s"])
        drift = 1 + float(self._options["drift"]) * (1 - math.cos(phase)) / 2
        # log-normal: times are positive, and errors of measuring are shares of them
        noise = math.exp(float(self._options["noise"]) * self._clock.rng.standard_normal())
        cost_ns = self._slow_ns if self._is_slow() else self._cost_ns
        elapsed = cost_ns * iterations * drift * noise
        self._clock.now_ns += elapsed
        self._clock.energy_mj += self._energy_mj * iterations
        return max(1, round(elapsed))

    def info(self) -> Mapping[str, str]:
        """The simulated provider, and the cost without noise and drift."""
        self._check_open()
        return {"provider": "simulated", "cost_ns": repr(self._cost_ns)}

    def costs(self) -> Mapping[str, float]:
        """Nothing."""
        self._check_open()
        return {}

    def misbehave(self) -> None:
        """Crash, hang or fail if the options say that it is time for this file to."""
        if self._calls != _FAULT_AT[str(self._options["fault_at"])]:
            return
        if self._is_named_by("crash_on"):
            os.write(2, f"simulated crash on {self._path.name}\n".encode())
            os.kill(os.getpid(), signal.SIGABRT)
        if self._is_named_by("hang_on"):
            while True:
                time.sleep(3600)
        if self._is_named_by("fail_on"):
            raise MeasurementError(f"the simulated runtime refuses {self._path.name}")

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open = False
        self._evaluate = None

    def _is_slow(self) -> bool:
        """Whether the machine is in its slow phase; it begins with the fast one."""
        periods = self._clock.now_ns * 1e-9 / float(self._options["slow_period_s"])
        return periods % 1 >= 1 - float(self._options["slow_share"])

    def _is_named_by(self, option: str) -> bool:
        text = str(self._options[option])
        return bool(text) and text in self._path.name

    def _check_open(self) -> None:
        if not self._open:
            raise MeasurementError(f"the session of {self._path} is closed; load the artefact again")


def _check_options(options: Mapping[str, Option]) -> dict[str, Option]:
    for name in options:
        if name not in OPTIONS:
            raise ConfigError(f"unknown option {as_written(name)} of the fake device; known: {_NAMES_SHOWN}")
    for name, value in options.items():
        wanted = type(OPTIONS[name])
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise ConfigError(
                f"option {name!r} of the fake device is {as_written(value)}; allowed: a {wanted.__name__}"
            )
    complete = {**OPTIONS, **options}
    above_0 = ("speed", "drift_period_s", "slow_period_s", "slow_multiplying", "slow_other")
    if any(float(complete[name]) <= 0 for name in above_0) or float(complete["noise"]) < 0:
        raise ConfigError(f"{', '.join(above_0)} of the fake device must be above 0, noise from 0")
    if not 0 <= float(complete["slow_share"]) <= 1:
        raise ConfigError(f"slow_share is {complete['slow_share']}; allowed: from 0 to 1")
    if complete["fault_at"] not in _FAULT_AT:
        raise ConfigError(f"fault_at is {complete['fault_at']!r}; allowed: {', '.join(_FAULT_AT)}")
    floats = [name for name in KNOWN if not is_quantized(name)]
    if complete["float_type"] not in floats:
        raise ConfigError(f"float_type is {complete['float_type']!r}; allowed: {', '.join(floats)}")
    return complete


def _evaluator(path: Path) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
    """A function from inputs to outputs. ONNX's own reference evaluator has no QDQ before opset 19."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # what quantized operators mean, computed in floats: integer kernels saturate on some processors
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def evaluate(inputs: Sequence[Array]) -> tuple[Array, ...]:
        if len(inputs) != len(names):
            raise MeasurementError(f"{path} has {len(names)} inputs, but {len(inputs)} arrays were given")
        try:
            return tuple(session.run(None, dict(zip(names, inputs, strict=True))))
        except Exception as e:  # ONNX Runtime's errors share no base class
            raise MeasurementError(f"cannot run {path}: {e}") from e

    return evaluate

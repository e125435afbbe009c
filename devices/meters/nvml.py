"""NVML: the energy of an NVIDIA GPU board, through nvidia-ml-py.

Knows NVML's calls; never CUDA, nor what runs on the GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hwnas.errors import ConfigError, MeasurementError, MissingPackageError
from hwnas.measure.energy import MeterInfo, Reading, check_meter_options
from hwnas.types import Option

from ._sampling import PowerSampler, SampledMeter

_COUNTER_UPDATE_S = 0.1  # of the slowest boards, 0.02 of others (Yang et al., 2024, "Part-time power measurements")
_COUNTER_SETTLE_S = 0.2  # clocks rise with the load
_SAMPLE_S = 0.02
_AVERAGED_SETTLE_S = 1.0  # from Ampere on, nvmlDeviceGetPowerUsage is the mean of the last second
_DEFAULTS: Mapping[str, Option] = {"index": 0, "uuid": ""}


class NvmlMeter(SampledMeter):
    """One GPU board. `options`: `index` (NVML's, which is PCI order) or `uuid`.

    The driver's total-energy counter is read where there is one (Volta and later); elsewhere the power is sampled.
    """

    @staticmethod
    def check_options(options: Mapping[str, Option]) -> None:
        """Check the options without looking for the meter.

        Raises:
            ConfigError: one is not known, or has a wrong value.
        """
        check_meter_options("nvml", options, _DEFAULTS)

    def __init__(
        self,
        options: Mapping[str, Option],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the GPU.

        Raises:
            ConfigError: an option that is not known, or no such GPU.
            MissingPackageError: nvidia-ml-py is not installed.
            MeasurementError: the driver is absent or tells no power.
        """
        chosen = check_meter_options("nvml", options, _DEFAULTS)
        try:
            import pynvml
        except ModuleNotFoundError as e:
            raise MissingPackageError("nvidia-ml-py", "nvml", needed_for="energy meter 'nvml'") from e
        self._nvml: Any = pynvml
        self._clock, self._sleep = clock, sleep
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as e:
            raise MeasurementError(
                f"NVML does not start: {e}; install NVIDIA's driver, or give the container the GPU's utility capability"
            ) from e
        self._handle = self._find(int(chosen["index"]), str(chosen["uuid"]))
        name = self._ask(pynvml.nvmlDeviceGetName)
        self._name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        self._sampler: PowerSampler | None = None
        self._averaged = False
        if not self._tells(pynvml.nvmlDeviceGetTotalEnergyConsumption):
            self._averaged = not self._tells(self._instant_mw)
            if self._averaged and not self._tells(pynvml.nvmlDeviceGetPowerUsage):
                raise MeasurementError(
                    f"the GPU {self._name} tells neither energy nor power; set power_w in the device's [energy] for an "
                    "estimate"
                )
            self._sampler = PowerSampler(self._power_w, interval_s=_SAMPLE_S, clock=clock)

    @property
    def info(self) -> MeterInfo:
        """The board, memory included."""
        how = "energy counter" if self._sampler is None else "sampled power"
        settle_s = _AVERAGED_SETTLE_S if self._averaged else _COUNTER_SETTLE_S
        return MeterInfo(
            name=f"nvml {self._name}, {how}",
            covers="GPU board with its memory, and everything that runs there; not the processor",
            resolution_mj=1.0,
            update_interval_s=_COUNTER_UPDATE_S if self._sampler is None else _SAMPLE_S,
            settle_s=settle_s,
        )

    def read(self) -> Reading:
        """The driver's counter, or the integral of the power up to its last sample."""
        if self._sampler is not None:
            return self._sampler.reading()
        energy_mj = float(self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption))
        return Reading(energy_mj=energy_mj, time_s=self._clock())

    def _find(self, index: int, uuid: str) -> Any:
        nvml = self._nvml
        try:
            if uuid:
                return nvml.nvmlDeviceGetHandleByUUID(uuid)
            return nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as e:
            given = f"uuid {uuid!r}" if uuid else f"index {index}"
            raise ConfigError(f"meter 'nvml' finds no GPU of {given} ({e}); see: nvidia-smi -L") from e

    def _power_w(self) -> float:
        read = self._nvml.nvmlDeviceGetPowerUsage if self._averaged else self._instant_mw
        return 1e-3 * float(self._ask(read))

    def _instant_mw(self, handle: Any) -> int:
        """The power now; newer drivers tell it as a field beside the averaged one."""
        nvml = self._nvml
        (field,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(field.nvmlReturn)
        return int(field.value.uiVal)

    def _tells(self, call: Callable[[Any], Any]) -> bool:
        try:
            call(self._handle)
        except (self._nvml.NVMLError, AttributeError):  # the second: an older nvidia-ml-py without that field
            return False
        return True

    def _ask(self, call: Callable[[Any], Any]) -> Any:
        try:
            return call(self._handle)
        except self._nvml.NVMLError as e:
            raise MeasurementError(f"NVML cannot read the GPU any more: {e}") from e

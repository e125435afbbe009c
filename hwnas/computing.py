"""What a run's device computes in: by what its runtime says of the machine once that was asked, else by its tables.

Knows names of precisions, the device and its folder of tables; never a run's configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import ConfigError, SpaceError, TableContextError
from hwnas.precisions import (
    KNOWN,
    asked_as,
    by_exactness,
    check_supported,
    computed_in,
    is_allowed,
    precision,
    stands_for,
)
from hwnas.types import Device, Runtime

if TYPE_CHECKING:
    from hwnas.spaces import Space


class Computing:
    """The precisions of one device.

    Args:
        device: the description.
        runtime: its adapter.
        tables: folder of its latency tables; there may be none yet.
    """

    def __init__(self, device: Device, runtime: Runtime, *, tables: Path) -> None:
        self._device, self._runtime, self._tables = device, runtime, tables
        self._context: Mapping[str, str] | None = None
        self._names: Mapping[str, str] | None = None

    @property
    def names(self) -> Mapping[str, str]:
        """What a space offers -> what the device computes it in, by what is known of it.

        Raises:
            ConfigError: an option of the device is wrong.
            TableError: a table is damaged.
        """
        if self._names is None:
            known = self._context
            self._names = self._in_tables() if known is None else computed_in(self._runtime, self._device, known)
        return self._names

    @property
    def exact(self) -> str:
        """The most exact precision that the description allows, as it is offered."""
        return by_exactness(self._device.precisions)[0]

    def allowed(self, asked: Sequence[str] | None) -> tuple[str, ...]:
        """Those of the precisions that are asked for, or else of the description's, that it allows.

        Raises:
            ConfigError: it allows none of them.
        """
        wanted = self._device.precisions if asked is None else asked
        legal = tuple(p for p in wanted if is_allowed(p, self._device))
        if not legal:
            raise ConfigError(
                f"device {self._device.name!r} computes in {', '.join(self._device.precisions)}; "
                f"the configuration asks for {', '.join(wanted)}"
            )
        return legal

    def check(self, wanted: Iterable[str]) -> None:
        """Refuse what the runtime does not compute in, as far as that is known before the device is asked.

        Raises:
            ConfigError: names the precision, and those there are.
        """
        check_supported(wanted, runtime=self._runtime, device=self._device, context=self._context or {})

    def found_on(self, context: Mapping[str, str], *, wanted: Iterable[str]) -> list[str]:
        """Take note of what the runtime says of the machine it runs on, before anything is measured there.

        Args:
            context: what it says.
            wanted: the precisions that are asked for.

        Returns:
            For people: each of the device's precisions that is computed in another one, and why.

        Raises:
            TableContextError: the run's stages up to here took the device to compute in others.
            ConfigError: the runtime does not compute there in a precision that is asked for.
        """
        found = computed_in(self._runtime, self._device, context)
        self._context = dict(context)
        self.check(wanted)
        # names that nobody asked for assumed nothing
        if self._names is not None and self._names != found:
            raise TableContextError(
                str(self._tables), {"precision": (", ".join(self._names.values()), ", ".join(found.values()))}
            )
        notes = {name: precision(name).note for p, name in found.items() if p in self._device.precisions}
        return [f"{self._device.name} computes in {name}: {note}" for name, note in notes.items() if note]

    def part_of(self, space: Space, precisions: Sequence[str], *, kernel_sizes: Sequence[int] | None = None) -> Space:
        """The networks of a space whose blocks are of these precisions, as the device computes them.

        Args:
            space: as it was trained.
            precisions: as they are offered.
            kernel_sizes: that are kept; None: all.

        Raises:
            SpaceError: there are several of floats, or several of integers.
        """
        names = [(stands_for(p, space.precisions), self.names.get(p, p)) for p in precisions]
        stand_ins = dict(names)
        if len(stand_ins) < len(names):
            raise SpaceError(
                f"precisions {', '.join(precisions)}: a space has one of floats at most, and one of integers; name "
                "them in [space] precisions"
            )
        # last: tables are keyed by what the device computes in, not by what the space offers
        return space.restrict(precisions=tuple(stand_ins), kernel_sizes=kernel_sizes).computed_in(stand_ins)

    def _in_tables(self) -> dict[str, str]:
        from hwnas.cost.table import LatencyTable

        start = f"{self._device.runtime}-"
        found = {path.stem.removeprefix(start): path for path in self._tables.glob(f"{start}*.jsonl")}
        tables = {name: found[name] for name in KNOWN if name in found}
        context = {}
        if tables:
            context["hardware"] = LatencyTable.open(next(iter(tables.values()))).context.hardware
        computed = computed_in(self._runtime, self._device, context)
        for offered, name in computed.items():  # on a machine that tells little, what was measured tells the rest
            others = [other for other in tables if other != offered and asked_as(other) == offered]
            if name == offered and name not in tables and len(others) == 1:
                computed[offered] = others[0]
        return computed

"""What there is: devices that are described, and search spaces; all of them, or one in full.

Knows the registry and descriptions; must never load torch or a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwnas import registry
from hwnas.device_fields import FIELDS
from hwnas.errors import MissingPackageError
from hwnas.measure.connection import command_to_name_it, reached
from hwnas.precisions import supported
from hwnas.results import Result, Shown
from hwnas.types import Choice, Device, Runtime

_IMAGES = (3, 10)  # channels and classes; neither choices nor any number shown depends on them


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceList(Result):
    """The devices that are described.

    Attributes:
        devices: in the order of their names.
        shipped: name -> what ships for it.
    """

    devices: tuple[Device, ...]
    shipped: Mapping[str, tuple[str, ...]]

    def values(self) -> Mapping[str, object]:
        """Name -> description."""
        return {"descriptions": {d.name: d.description for d in self.devices}}

    @property
    def shown(self) -> Shown:
        """A row for each."""
        return Shown(
            title="Devices",
            columns=["name", "runtime", "precisions", "reached by", "tables"],
            rows=[
                (d.name, d.runtime, list(d.precisions), reached(d), list(self.shipped[d.name]) or None)
                for d in self.devices
            ],
            notes=[
                "All that is known of one: hwnas devices show NAME",
                "Your own: hwnas devices new NAME; then name its file in [device] name.",
            ],
        )


def all_devices() -> DeviceList:
    """The devices that are described, in the order of their names."""
    load_device = registry.load_object("hwnas.devices:load_device", needed_for="the list of devices")
    names = registry.load_object("hwnas.devices:device_names", needed_for="the list of devices")()
    found: tuple[Device, ...] = tuple(load_device(name) for name in names)
    return DeviceList(devices=found, shipped={d.name: shipped_tables(d) for d in found})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResult(Result):
    """Everything one description says.

    Attributes:
        asked: the name or path it was asked for by.
        device: the description.
        shipped: what ships for it.
        computes: the precisions its runtime computes there, and how, for people; as far as is known unasked.
    """

    asked: str
    device: Device
    shipped: tuple[str, ...]
    computes: Mapping[str, str]

    def values(self) -> Mapping[str, object]:
        """The description, and what its runtime computes in."""
        return {"device": self.device, "computes": list(self.computes)}

    @property
    def shown(self) -> Shown:
        """A row for everything that is said."""
        d, own = self.device, command_to_name_it(self.device)
        rows: list[tuple[str, object]] = []
        for field in FIELDS:
            if field.attribute == "connection":
                rows.append(("reached by", reached(d)))
                rows.append((field.label, {k: v for k, v in d.connection.items() if k != "transport"}))
                continue
            if field.attribute == "known":
                rows.append(("shipped tables", list(self.shipped)))
            if field.label:
                rows.append((field.label, field.shown(d)))
            if field.attribute == "precisions":
                rows.append(("its runtime computes", list(self.computes)))
                rows += [(f"  {name}", how) for name, how in self.computes.items()]
        return Shown(
            title=f"{d.name}: {d.description}",
            rows=[row for row in rows if row[1] not in ("", [], {}, None)],
            notes=[f"Describe yours: {own}" if own else f"Measure it: hwnas profile --set device.name={self.asked}"],
        )


def one_device(name: str) -> DeviceResult:
    """Everything a description says.

    Args:
        name: of a shipped description, or the path of one.

    Raises:
        UnknownNameError: there is no such device; lists the known.
        ConfigError: the description is wrong.
    """
    device: Device = registry.load_object("hwnas.devices:load_device", needed_for="a device")(name)
    return DeviceResult(asked=name, device=device, shipped=shipped_tables(device), computes=_computes(device))


def _computes(device: Device) -> dict[str, str]:
    try:
        runtime: Runtime = registry.load("runtimes", device.runtime)()
    except MissingPackageError:  # a description can be read where its runtime is not installed
        return {}
    return {name: runtime.precisions[name].how for name in supported(runtime, device, {})}


def shipped_tables(device: Device) -> tuple[str, ...]:
    """What ships for a device: the precisions of its tables, and `audit`."""
    folder: Path = registry.load_object("hwnas.latency_tables:folder", needed_for="the list of tables")() / device.name
    prefix = f"{device.runtime}-"
    found = sorted(path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.jsonl"))
    return (*found, *(["audit"] if (folder / "audit" / "audit.json").is_file() else []))


# ---------------------------------------------------------------- spaces


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSize:
    """How large a search space is: its name, and how many of each there are."""

    name: str
    n_networks: int
    n_choices: int
    n_slots: int
    n_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceList(Result):
    """The search spaces, in the order of their names."""

    spaces: tuple[SpaceSize, ...]

    @property
    def shown(self) -> Shown:
        """A row for each."""
        return Shown(
            title="Search spaces",
            columns=["name", "distinct networks", "choices", "slots", "distinct blocks"],
            rows=[(s.name, s.n_networks, s.n_choices, s.n_slots, s.n_blocks) for s in self.spaces],
            notes=["The choices of one: hwnas spaces NAME"],
        )


def all_spaces() -> SpaceList:
    """The search spaces and their sizes, in the order of their names."""
    return SpaceList(spaces=tuple(one_space(name).size for name in registry.names("spaces")))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceResult(Result):
    """One search space.

    Attributes:
        size: of the space.
        choices: that a network is made by.
    """

    size: SpaceSize
    choices: tuple[Choice, ...]

    def values(self) -> Mapping[str, object]:
        """How many networks there are."""
        return {"networks": self.size.n_networks, "size": self.size}

    @property
    def shown(self) -> Shown:
        """A row for each choice."""
        return Shown(
            title=f"{self.size.name}: {self.size.n_choices} choices",
            columns=["choice", "options"],
            rows=[(choice.name, list(choice.options)) for choice in self.choices],
            notes=[f"{self.size.n_slots} slots, {self.size.n_blocks} distinct blocks"],
        )


def one_space(name: str) -> SpaceResult:
    """The choices of a space.

    Raises:
        UnknownNameError: there is no such space; lists the known.
    """
    # as a run calls it: a space of somebody else's need not have defaults for them
    space = registry.load("spaces", name)(*_IMAGES)
    size = SpaceSize(
        name=name,
        n_networks=space.count(),
        n_choices=len(space.choices),
        n_slots=len(space.slots),
        n_blocks=len(space.distinct_blocks()),
    )
    return SpaceResult(size=size, choices=tuple(space.choices))

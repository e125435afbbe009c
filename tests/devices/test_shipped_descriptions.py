"""The descriptions that ship: they load, say what is known and what is not, and refuse to be used where they cannot."""

from __future__ import annotations

import pytest

from hwnas import registry
from hwnas.devices import device_names, load_device
from hwnas.errors import ConfigError
from hwnas.measure.connection import check_board_is_named, open_connection, reached
from hwnas.types import Device

DEVICES = [load_device(name) for name in device_names()]
BOARDS = [d for d in DEVICES if d.connection]
_KEYS = {"ssh": "host", "adb": "serial"}


def names(device: Device) -> str:
    return device.name


def test_the_boards_users_ask_for_are_described() -> None:
    asked = {"cpu", "raspberry-pi-4", "raspberry-pi-5", "pixel-8", "jetson-orin", "x86-server"}
    assert asked <= {d.name for d in DEVICES}


@pytest.mark.parametrize("device", DEVICES, ids=names)
def test_names_in_a_description_are_registered(device: Device) -> None:
    assert device.runtime in registry.names("runtimes")
    assert not device.meter or device.meter in registry.names("meters")
    assert device.connection.get("transport", "ssh") in registry.names("transports")


@pytest.mark.parametrize("device", BOARDS, ids=names)
def test_a_board_tells_what_is_known_and_what_only_profiling_will(device: Device) -> None:
    assert device.known
    assert "Every latency" in device.unknown or "Everything else" in device.unknown


@pytest.mark.parametrize("device", BOARDS, ids=names)
def test_a_board_needs_to_be_told_where_it_is_and_nothing_else(device: Device) -> None:
    key = _KEYS[str(device.connection["transport"])]
    assert key not in device.connection
    assert reached(device).endswith(f"{key} not set")
    with pytest.raises(ConfigError, match=f"hwnas devices new my-{device.name} --like {device.name} --{key}"):
        check_board_is_named(device)
    open_connection({**device.connection, key: "somewhere"})  # every other setting is one of the transport


def test_a_device_of_this_machine_needs_no_telling() -> None:
    check_board_is_named(load_device("cpu"))


@pytest.mark.parametrize("device", [d for d in BOARDS if d.cores], ids=names)
def test_no_more_threads_are_asked_for_than_there_are_cores_to_pin_to(device: Device) -> None:
    assert device.threads <= len(device.cores)

"""The fields of a device's description: declared once, and all of them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from hwnas._toml import parse_toml
from hwnas.describe.description_file import to_toml
from hwnas.device_fields import FIELDS, read_fields
from hwnas.errors import ConfigError
from hwnas.types import Device

FULL = Device(
    name="board",
    runtime="litert",
    threads=2,
    cores=(2, 3),
    precisions=("int8",),
    options={"delegate": "xnnpack"},
    connection={"transport": "ssh", "host": "pi@board"},
    meter="sysfs",
    meter_options={"path": "/sys/x/power1_input"},
    power_w=4.0,
    idle_w=0.0,
    limits={"size_bytes": 1e6},
    description="a board",
    known="of its core, from its maker",
    unknown="its times",
)


def test_every_attribute_of_a_device_is_a_field_but_for_its_name() -> None:
    assert {f.attribute for f in FIELDS} == {f.name for f in dataclasses.fields(Device)} - {"name"}


def test_the_example_says_something_in_every_field() -> None:
    default = Device(name="board", runtime="onnxruntime")
    assert not [f.attribute for f in FIELDS if getattr(FULL, f.attribute) == getattr(default, f.attribute)]


BARE = Device(name="board", runtime="onnxruntime")
SEVERAL = dataclasses.replace(BARE, connection={"transport": "ssh", "hosts": ("pi@a", "pi@b"), "port": 22})


@pytest.mark.parametrize("device", [FULL, BARE, SEVERAL], ids=["full", "bare", "several boards"])
def test_what_is_written_is_read_back(device: Device) -> None:
    text = to_toml(device, like=None)
    assert Device(name="board", **read_fields(parse_toml(text, where="it"))) == device


def test_the_page_about_devices_names_every_key() -> None:
    page = (Path(__file__).parent.parent / "docs" / "devices.md").read_text()
    assert not [f.key for f in FIELDS if not re.search(rf"\b{f.key.rpartition('.')[2]}\b", page)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 1", "runtime is nothing|runtime is None"),
        ('runtime = "litert"', "schema is None; this version of hwnas reads schema = 1"),
        ('schema = 1\nruntime = "litert"\nenergy = 3', r"energy is 3; allowed: a table, written as \[energy\]"),
        ('schema = 1\nruntime = "litert"\n[energy.options]\nx = []', "energy.options is .*a table of texts, numbers"),
        ('schema = 1\nruntime = "litert"\n[limits]\nmacs = 0', "limits.macs is 0; allowed: a number above 0"),
    ],
)
def test_what_is_not_a_description_is_refused_by_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_fields(parse_toml(text, where="it"))

"""Device descriptions: what is shipped, and what is wrong with one's own."""

import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.devices import device_names, load_device
from hwnas.errors import ConfigError, UnknownNameError
from hwnas.testing.fake import fake_device
from hwnas.types import PRECISIONS

GOOD = """
schema = 1
runtime = "onnxruntime"
threads = 4
precisions = ["int8"]
cores = [2, 3]
description = "a board"
[options]
provider = "CPUExecutionProvider"
[connection]
transport = "ssh"
[energy]
meter = "sysfs"
power_w = 4.5
idle_w = 0
options = { path = "/sys" }
[limits]
size_bytes = 1000000
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", device_names())
def test_every_shipped_description_loads(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert device.description


def test_the_cpu_is_shipped_with_one_thread_and_both_precisions() -> None:
    cpu = load_device("cpu")
    assert (cpu.runtime, cpu.threads, cpu.precisions) == ("onnxruntime", 1, PRECISIONS)


def test_the_shipped_fake_device_has_options_its_runtime_knows() -> None:
    fake_device(options=load_device("fake").options)


def test_a_file_of_ones_own_is_read_and_named_by_its_file(tmp_path: Path) -> None:
    device = load_device(write(tmp_path, GOOD))
    assert (device.name, device.threads, device.precisions) == ("board", 4, ("int8",))
    assert (device.limits, device.cores) == ({"size_bytes": 1_000_000}, (2, 3))
    assert (device.meter, device.power_w, device.idle_w) == ("sysfs", 4.5, 0.0)
    assert device.meter_options == {"path": "/sys"}
    assert device.connection == {"transport": "ssh"}
    assert device.options == {"provider": "CPUExecutionProvider"}


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    device = load_device(str(write(tmp_path, 'schema = 1\nruntime = "fake"\n')))
    assert (device.threads, device.precisions, device.power_w) == (1, PRECISIONS, None)
    assert (device.cores, device.limits, device.connection) == ((), {}, {})


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'toaster'.*cpu"):
        load_device("toaster")


def test_an_absent_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="board"):
        load_device(tmp_path / "board.toml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("threads", "thread", r"'thread'.*did you mean 'threads'.*known: .*precisions"),
        ("threads = 4", "threads = 0", "threads is 0.*whole number"),
        ("threads = 4", "threads = true", "threads is True"),
        ("threads = 4", 'threads = "4"', "threads is '4'"),
        ('["int8"]', '["int4"]', r"int4.*allowed.*fp32, int8"),
        ('["int8"]', "[]", "one or more"),
        ('["int8"]', '"int8"', "a list"),
        ('"onnxruntime"', '"abacus"', "abacus.*known: .*onnxruntime"),
        ('runtime = "onnxruntime"', "", "runtime is None"),
        ("schema = 1", "schema = 2", "schema is 2.*schema = 1"),
        ("schema = 1", "", "schema is None"),
        ("size_bytes = 1000000", "size_bytes = -1", "limits.size_bytes is -1.*above 0"),
        ("power_w = 4.5", "power_w = 0", "energy.power_w is 0.*above 0"),
        ("idle_w = 0", "idle = 0", "'idle'.*known: meter, power_w, idle_w, options"),
        ("cores = [2, 3]", "cores = [-1]", "cores is"),
        ('provider = "CPUExecutionProvider"', "provider = [1]", "options is"),
        ("threads = 4", "threads = ", "is not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_device(write(tmp_path, GOOD.replace(old, new, 1)))


def test_reading_descriptions_loads_no_runtime() -> None:
    code = (
        "import sys; from hwnas.devices import load_device; load_device('cpu'); load_device('fake');"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'onnx', 'onnxruntime')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

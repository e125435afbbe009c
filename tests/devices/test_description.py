"""Device descriptions: what is shipped, and what is wrong with one's own."""

import os
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
options = { path = "/sys/x/power1_input" }
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
    assert device.meter_options == {"path": "/sys/x/power1_input"}
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
        ('["int8"]', '["int4"]', r"int4.*allowed.*fp32, tf32.*int8-pt"),
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
        ("threads = 4", "threads = 100000", "threads is 100000.*1 to 4096"),
        ("threads = 4", "threads = 4.0", "threads is 4.0"),
        ("cores = [2, 3]", "cores = [0, 0]", "each once"),
        ("cores = [2, 3]", "cores = [99999]", "cores is"),
        ('["int8"]', '["int8", "int8"]', "each once"),
        ("size_bytes = 1000000", "size_kb = 4", r"'size_kb' in \[limits\].*known: .*size_bytes"),
        ("size_bytes = 1000000", "flash_bytes = 4", r"'flash_bytes' in \[limits\].*known: .*energy_mj$"),
        ("size_bytes = 1000000", "size_bytes = inf", "size_bytes is inf.*finite"),
        ("power_w = 4.5", "power_w = nan", "power_w is nan.*finite"),
        ("power_w = 4.5", f"power_w = 1{'0' * 400}", "power_w is 1000.*64 bits"),
        ("power_w = 4.5", f"power_w = 0x{'f' * 9000}", "too large to show.*64 bits"),
        ("power_w = 4.5", f"power_w = {'9' * 9000}", "is not TOML"),
        ('provider = "CPUExecutionProvider"', "threads = 3", "unknown option 'threads'.*known|knows"),
        ('provider = "CPUExecutionProvider"', "provider = 3", "provider is 3"),
        ('provider = "CPUExecutionProvider"', 'provider = "quantum"', "quantum.*known: .*cuda"),
        ('provider = "CPUExecutionProvider"', 'provider = "\\u001b[2J"', r"provider is '\\x1b\[2J'"),
        ('transport = "ssh"', 'transport = "telnet"', "telnet.*known: adb, ssh"),
        ('transport = "ssh"', 'host = "a"', "needs a transport"),
        ('transport = "ssh"', 'transport = "ssh"\nhost = "-oProxyCommand=x"', "host is '-oProxyCommand=x'"),
        ('transport = "ssh"', 'transport = "ssh"\nalive_s = "9"', "alive_s is '9'.*number"),
        ('transport = "ssh"', 'transport = "ssh"\nhost = "a"\nhosts = ["b"]', "both host and hosts"),
        (
            'transport = "ssh"',
            'transport = "ssh"\nhosts = ["a", 1]',
            "connection.hosts is .*a list of at most 256",
        ),
        ('transport = "ssh"', 'transport = "ssh"\nport = ["a"]', r"port is \('a',\)"),
        ('transport = "ssh"', 'transport = "ssh"\nport = {a = 1}', "connection is"),
        ('path = "/sys/x/power1_input"', 'zone = "x"', "no option 'zone'.*rails, path"),
        ('path = "/sys/x/power1_input"', 'path = "/sys/../etc/power1_input"', "allowed: a file below /sys"),
        ('meter = "sysfs"', 'meter = "none"', "energy meter 'none'.*known: .*rapl"),
        ('meter = "sysfs"', "", "energy.meter names none"),
        ('description = "a board"', f"description = {'[' * 3000}", "is not TOML"),
        ('description = "a board"', f'description = "{"x" * 2_000_000}"', "larger than 1,048,576 bytes"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_device(write(tmp_path, GOOD.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("provider.trt_extra_plugin_lib_paths", "/tmp/evil.so"),
        ("provider.trt_engine_cache_path", "x"),
        ("provider.backend_path", "./evil.so"),
        ("provider.backend_path", "/tmp/libQnnHtp.so"),
        ("provider.load_config", "{}"),
        ("provider.device_type", "../x"),
    ],
)
def test_a_description_brings_no_library_and_no_file_to_a_provider(tmp_path: Path, option: str, value: str) -> None:
    hostile = GOOD.replace('provider = "CPUExecutionProvider"', f'"{option}" = "{value}"')
    with pytest.raises(ConfigError, match=option):
        load_device(write(tmp_path, hostile))


def test_a_library_that_the_system_finds_may_be_named(tmp_path: Path) -> None:
    text = GOOD.replace(
        'provider = "CPUExecutionProvider"', 'provider = "QNN"\n"provider.backend_path" = "libQnnHtp.so"'
    )
    assert load_device(write(tmp_path, text)).options["provider.backend_path"] == "libQnnHtp.so"


@pytest.mark.parametrize(
    ("runtime", "options", "words"),
    [
        ("openvino", 'device_name = "/tmp/plugin.so"', "device_name is"),
        ("openvino", 'device_name = "AUTO"', "decides by itself"),
        ("openvino", "cpu_pinning = 1", "true or false"),
        ("litert", 'xnnpack = "yes"', "true or false"),
        ("tensorrt", 'workspace_mib = "9"', "whole number"),
        ("tensorrt", 'target = "$(x)"', "target is"),
        ("ethos-u", 'accelerator = "a]\\n[vela"', "accelerator is"),
        ("ethos-u", 'accelerator = "a"\nsystem_config = "b"\nmemory_mode = "c"\nconfig = "../../x.ini"', "config is"),
        ("ethos-u", 'accelerator = "a"', "no option 'system_config'"),
        ("fake", "noise = 'loud'", "noise.*float"),
        ("fake", "speed = 0", "above 0"),
    ],
)
def test_options_of_every_runtime_are_checked_when_they_are_read(
    tmp_path: Path, runtime: str, options: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=f"board.toml.*{words}"):
        load_device(write(tmp_path, f'schema = 1\nruntime = "{runtime}"\n[options]\n{options}\n'))


@pytest.mark.parametrize("name", ["..toml", "-x.toml", ".hidden.toml", "a\x1b[2Jb.toml"])
def test_a_file_whose_name_cannot_name_a_device_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(GOOD)
    with pytest.raises(ConfigError, match="cannot name a device"):
        load_device(path)


def test_a_description_that_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name in ("pipe.toml", "zero.toml", "a\0.toml"):
        with pytest.raises(ConfigError, match=r"no regular file|NUL"):
            load_device(f"{tmp_path}/{name}")


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_device(path).name == "board"


def test_reading_descriptions_loads_no_runtime() -> None:
    code = (
        "import sys; from hwnas.devices import load_device; load_device('cpu'); load_device('fake');"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'onnx', 'onnxruntime')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_precision_that_the_runtime_does_not_compute_is_named_with_those_it_does(tmp_path: Path) -> None:
    path = tmp_path / "npu.toml"
    path.write_text('schema = 1\nruntime = "litert"\nprecisions = ["int8-pt", "fp16"]\n')
    with pytest.raises(ConfigError, match="not compute in 'fp16'; it supports fp32, int8, int8-pt: leave"):
        load_device(path)


def test_a_description_may_allow_one_precision_of_many(tmp_path: Path) -> None:
    path = tmp_path / "npu.toml"
    path.write_text('schema = 1\nruntime = "litert"\nprecisions = ["int8-pt"]\n')
    assert load_device(path).precisions == ("int8-pt",)


def test_what_its_runtime_tells_may_be_limited(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    options = (
        'accelerator = "ethos-u55-128"\nsystem_config = "Ethos_U55_High_End_Embedded"\nmemory_mode = "Shared_Sram"'
    )
    path.write_text(f'schema = 1\nruntime = "ethos-u"\n[options]\n{options}\n[limits]\nflash_bytes = 1000\n')
    assert load_device(path).limits == {"flash_bytes": 1000.0}

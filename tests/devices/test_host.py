"""What is read from the operating system about the processor, what is made of it, and pinning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from hwnas.cost.table import TableContext
from hwnas.devices import host
from hwnas.devices._cpu import busy_ticks, cpu_state, format_list, parse_list
from hwnas.errors import ConfigError
from hwnas.types import Device

X86 = """processor\t: 0
model name\t: Some CPU @ 2 GHz
flags\t\t: fpu avx2 fma avx512_vnni
processor\t: 1
model name\t: Some CPU @ 2 GHz
"""
PI = """processor\t: 0
Features\t: fp asimd asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Raspberry Pi 5
"""
SERVER = """processor\t: 0
Features\t: fp asimd i8mm sve
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
CPU = "sys/devices/system/cpu"
QUIET = "cpu  0 0 0 0\ncpu0 100 0 0 900 0 0 0 0\ncpu1 100 0 0 900 0 0 0 0\n"


def machine(root: Path, files: Mapping[str, object] = {}, *, governor: str = "performance", cores: int = 4) -> Path:
    """A laptop: hyper-threaded cores 0+2 and 1+3, everything steady; `files` changes or adds some."""
    tree: dict[str, object] = {
        "proc/cpuinfo": X86,
        "proc/loadavg": "0.10 0.20 0.30 1/100 4242",
        "proc/stat": QUIET,
        "proc/self/cgroup": "0::/",
        f"{CPU}/online": f"0-{cores - 1}",
        f"{CPU}/intel_pstate/no_turbo": 1,
        "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone0/temp": 52000,
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": 95000,
        "sys/class/thermal/thermal_zone1/type": "iwlwifi_1",
        "sys/class/thermal/thermal_zone1/temp": 90000,
    }
    for core in range(cores):
        tree[f"{CPU}/cpu{core}/cpufreq/scaling_governor"] = governor
        tree[f"{CPU}/cpu{core}/cpufreq/scaling_max_freq"] = 3_000_000
        tree[f"{CPU}/cpu{core}/cpufreq/cpuinfo_max_freq"] = 3_000_000
        tree[f"{CPU}/cpu{core}/topology/thread_siblings_list"] = f"{core % 2},{core % 2 + 2}"
    for name, value in {**tree, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


@pytest.fixture(autouse=True)
def usable(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The processors this process may run on, as far as these tests go; pinning changes the set."""
    allowed = {0, 1, 2, 3}

    def pin(pid: int, cores: object) -> None:
        wanted = set(cores)  # type: ignore[call-overload]
        if not wanted & {0, 1, 2, 3}:
            raise OSError(22, "Invalid argument")
        allowed.clear()
        allowed.update(wanted & {0, 1, 2, 3})

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(allowed))
    monkeypatch.setattr(os, "sched_setaffinity", pin)
    return allowed


def warned(root: Path, *, threads: int = 1, pinned: tuple[int, ...] = ()) -> str:
    return "\n".join(host.warnings(threads=threads, pinned=pinned, root=root, listen_s=0.0))


# ---------------------------------------------------------------- context


@pytest.mark.parametrize(
    ("text", "hardware"),
    [
        (X86, "Some CPU @ 2 GHz [avx2 fma avx512_vnni]"),
        (PI, "Raspberry Pi 5 [asimd asimddp]"),
        (SERVER, "implementer 0x41 part 0xd40 [asimd i8mm sve]"),
    ],
)
def test_hardware_names_processor_and_instruction_sets(tmp_path: Path, text: str, hardware: str) -> None:
    root = machine(tmp_path, {"proc/cpuinfo": text})
    assert host.host_context(threads=1, root=root)["hardware"] == hardware


def test_a_system_that_hides_everything_still_has_a_context(tmp_path: Path) -> None:
    context = host.host_context(threads=3, root=tmp_path)
    assert context["hardware"]
    assert (context["governor"], context["turbo"], context["threads"]) == ("unknown", "unknown", "3")
    assert not {"load", "temperature_c", "max_mhz"} & set(context)


def test_what_the_system_tells_is_recorded(tmp_path: Path) -> None:
    context = host.host_context(threads=1, root=machine(tmp_path))
    recorded = {k: context[k] for k in ("governor", "turbo", "affinity", "temperature_c", "load", "max_mhz")}
    assert recorded == {
        "governor": "performance",
        "turbo": "off",
        "affinity": "0-3",
        "temperature_c": "52",
        "load": "0.10",
        "max_mhz": "3000",
    }


def test_governors_of_the_usable_cores_count_and_no_others(tmp_path: Path, usable: set[int]) -> None:
    root = machine(tmp_path, {f"{CPU}/cpu3/cpufreq/scaling_governor": "powersave"})
    assert host.host_context(threads=1, root=root)["governor"] == "performance, powersave"
    usable.remove(3)
    assert host.host_context(threads=1, root=root)["governor"] == "performance"


def test_a_table_stays_comparable_when_only_temperature_load_and_clocks_differ(tmp_path: Path) -> None:
    changed = {
        "proc/loadavg": "3.00 0 0 1/1 1",
        "sys/class/thermal/thermal_zone0/temp": 81000,
        f"{CPU}/intel_pstate/no_turbo": 0,
    }
    contexts = [
        host.host_context(threads=1, root=machine(tmp_path / name, files, governor=governor))
        for name, files, governor in (("a", {}, "performance"), ("b", changed, "powersave"))
    ]
    assert contexts[0] != contexts[1]
    tables = [
        TableContext.of(
            Device(name="d", runtime="r"),
            {"runtime_version": "1", **context},
            precision="fp32",
            reference_sha256="0",
            reference_ms=1.0,
        )
        for context in contexts
    ]
    assert not tables[0].differences(tables[1])


def test_the_cores_measured_on_are_hardware_where_cores_are_unequal(tmp_path: Path, usable: set[int]) -> None:
    little = {f"{CPU}/cpu{core}/cpu_capacity": 1024 if core < 2 else 400 for core in range(4)}
    phone, laptop = machine(tmp_path / "phone", little), machine(tmp_path / "laptop")
    all_cores = host.host_context(threads=1, root=phone)["hardware"]
    usable.difference_update({2, 3})
    assert "cores 0-1" in host.host_context(threads=1, root=phone)["hardware"]
    assert "cores" not in all_cores
    assert "cores" not in host.host_context(threads=1, root=laptop)["hardware"]


@pytest.mark.parametrize(
    ("files", "turbo"),
    [
        ({f"{CPU}/intel_pstate/no_turbo": 0}, True),
        ({f"{CPU}/intel_pstate/no_turbo": "", f"{CPU}/cpufreq/boost": 1}, True),
        ({f"{CPU}/intel_pstate/no_turbo": "", f"{CPU}/cpufreq/boost": 0}, False),
        ({f"{CPU}/intel_pstate/no_turbo": ""}, None),
    ],
)
def test_turbo_is_read_from_intel_s_file_or_the_common_one(
    tmp_path: Path, files: dict[str, object], turbo: bool | None
) -> None:
    assert cpu_state(machine(tmp_path, files)).turbo is turbo


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        (
            {
                "proc/self/cgroup": "0::/user/job",
                "sys/fs/cgroup/cpu.max": "max 100000",
                "sys/fs/cgroup/user/cpu.max": "50000 100000",
                "sys/fs/cgroup/user/job/cpu.max": "max 100000",
            },
            0.5,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": 25000, "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000}, 0.25),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1, "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000}, None),
    ],
)
def test_the_tightest_quota_above_this_process_counts(
    tmp_path: Path, files: dict[str, object], quota: float | None
) -> None:
    assert cpu_state(machine(tmp_path, files)).quota == quota


def test_the_processor_s_temperature_is_told_and_not_the_radio_s(tmp_path: Path) -> None:
    state = cpu_state(machine(tmp_path))
    assert (state.temperature_c, state.throttle_c) == (52.0, 95.0)


def test_a_temperature_in_hwmon_is_found_too(tmp_path: Path) -> None:
    amd = {
        "sys/class/hwmon/hwmon1/name": "k10temp",
        "sys/class/hwmon/hwmon1/temp1_input": 61250,
        "sys/class/hwmon/hwmon1/temp1_crit": 90000,
        "sys/class/hwmon/hwmon1/temp2_input": -273150,  # not connected
    }
    state = cpu_state(machine(tmp_path, amd))
    assert (state.temperature_c, state.throttle_c) == (61.25, 90.0)


@pytest.mark.parametrize("numbers", [(0,), (0, 1, 2, 3, 8), (2, 4, 6)])
def test_lists_of_processors_are_written_as_the_kernel_does(numbers: tuple[int, ...]) -> None:
    assert parse_list(format_list(numbers)) == numbers
    assert format_list((0, 1, 2, 3, 8)) == "0-3,8"
    assert parse_list("all") == ()


# ---------------------------------------------------------------- warnings


def test_a_quiet_machine_has_no_warnings(tmp_path: Path) -> None:
    assert warned(machine(tmp_path)) == ""
    assert warned(machine(tmp_path), threads=2, pinned=(0, 1)) == ""


def test_a_system_that_tells_nothing_has_none_either(tmp_path: Path) -> None:
    assert warned(tmp_path) == ""


@pytest.mark.parametrize(
    ("files", "words", "advice"),
    [
        ({f"{CPU}/cpu0/cpufreq/scaling_governor": "ondemand"}, "governor ondemand", "cpupower frequency-set -g"),
        ({f"{CPU}/intel_pstate/no_turbo": 0}, "turbo is on", "no_turbo"),
        ({"sys/class/thermal/thermal_zone0/temp": 88000}, "88 °C and slows down at 95 °C", "cool"),
        ({f"{CPU}/cpu0/cpufreq/scaling_max_freq": 1_200_000}, "capped at 1.2 of 3 GHz", "remove the cap"),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, "quota allows 0.5 cores' time for 1 threads", "raise it"),
        ({"proc/loadavg": "3.50 1 1 1/1 1"}, "load is 3.5 on cores 0-3", "quiet cores"),
    ],
)
def test_each_thing_that_spoils_a_measurement_is_told_with_what_to_do(
    tmp_path: Path, files: dict[str, object], words: str, advice: str
) -> None:
    told = warned(machine(tmp_path, files))
    assert len(told.splitlines()) == 1
    assert words in told
    assert advice in told


def test_more_threads_than_cores_are_told(tmp_path: Path, usable: set[int]) -> None:
    usable.difference_update({1, 2, 3})
    assert "2 threads share 1 (core 0)" in warned(machine(tmp_path), threads=2, pinned=(0,))


def test_two_threads_of_one_core_are_told(tmp_path: Path) -> None:
    assert "cores 0,2 are threads of one physical core" in warned(machine(tmp_path), threads=2, pinned=(0, 2))


@pytest.mark.parametrize(("core", "words"), [(1, "core 1 is 80% busy"), (3, "core 3, the other thread")])
def test_other_work_on_a_pinned_core_or_beside_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: int, words: str
) -> None:
    root = machine(tmp_path)

    def others_work(seconds: float) -> None:
        lines = [f"cpu{c} {180 if c == core else 100} 0 0 {920 if c == core else 1000} 0 0 0 0" for c in range(4)]
        (root / "proc/stat").write_text("\n".join(lines))

    (root / "proc/stat").write_text("\n".join(f"cpu{c} 100 0 0 900 0 0 0 0" for c in range(4)))
    monkeypatch.setattr(host.time, "sleep", others_work)
    assert words in warned(root, pinned=(1,))


def test_time_waiting_for_the_disk_is_not_work(tmp_path: Path) -> None:
    assert busy_ticks(machine(tmp_path, {"proc/stat": "cpu0 10 0 5 80 5 0 0 0 3 0"})) == {0: (15, 100)}


# ---------------------------------------------------------------- pinning


def test_pinning_leaves_the_named_processors(tmp_path: Path, usable: set[int]) -> None:
    assert host.pin((1, 3), root=machine(tmp_path))
    assert usable == {1, 3}


def test_processors_that_do_not_exist_are_refused_and_those_there_are_named(tmp_path: Path, usable: set[int]) -> None:
    with pytest.raises(ConfigError, match=r"name 7,9, but this machine has the processors 0-3"):
        host.pin((0, 7, 9), root=machine(tmp_path))
    assert usable == {0, 1, 2, 3}


@pytest.mark.parametrize("cores", [(5,), (0, 5)])
def test_processors_a_container_does_not_grant_are_refused_and_nothing_changes(
    tmp_path: Path, usable: set[int], cores: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match=r"may use 0-3"):
        host.pin(cores, root=machine(tmp_path, cores=8))
    assert usable == {0, 1, 2, 3}


def test_a_system_without_pinning_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    assert not host.pin((0,), root=machine(tmp_path))


# ---------------------------------------------------------------- 8-bit weights


@pytest.mark.parametrize(
    ("context", "saturates"),
    [
        ({"hardware": "Some CPU [avx avx2 fma]", "machine": "x86_64"}, True),
        ({"hardware": "Some CPU [avx avx2 fma avx512f avx512bw]", "machine": "AMD64"}, True),
        ({"hardware": "Some CPU [avx2 fma avx512f avx512_vnni]", "machine": "x86_64"}, False),
        ({"hardware": "Some CPU [avx2 fma avx_vnni]", "machine": "x86_64"}, False),
        ({"hardware": "Intel64 Family 6", "machine": "AMD64"}, True),  # a system that does not tell: to be sure
        ({"hardware": "Some CPU [avx2 fma]"}, True),  # a table's context has no more
        ({"hardware": "Raspberry Pi 4 Model B [asimd]", "machine": "aarch64"}, False),
        ({"hardware": "Raspberry Pi 4 Model B [asimd]"}, False),
        ({"hardware": "Apple M2", "machine": "arm64"}, False),
        ({}, False),
    ],
)
def test_8_bit_weights_saturate_on_x86_without_vnni(context: dict[str, str], saturates: bool) -> None:
    assert host.saturates_int8(context) is saturates


# ---------------------------------------------------------------- emulators


@pytest.mark.parametrize(
    ("files", "told", "emulated"),
    [
        ({"proc/cpuinfo": PI, "proc/self/comm": "python3\n"}, "aarch64", False),
        ({"proc/cpuinfo": X86, "proc/self/comm": "python3\n"}, "x86_64", False),
        ({"proc/cpuinfo": SERVER, "proc/self/comm": "qemu-aarch64-st\n"}, "aarch64", True),
        ({"proc/cpuinfo": X86.replace("flags", "vendor_id\t: AuthenticAMD\nflags")}, "aarch64", True),
        ({"proc/cpuinfo": SERVER}, "x86_64", True),
        ({}, "aarch64", False),
    ],
)
def test_an_emulated_processor_is_noticed(tmp_path: Path, files: dict[str, str], told: str, emulated: bool) -> None:
    assert host.is_emulated(root=machine(tmp_path, files), machine=told) is emulated


def test_times_of_an_emulated_processor_are_not_called_measured(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/cpuinfo": PI, "proc/self/comm": "qemu-aarch64-st"})
    assert host.host_context(threads=1, root=root)["source"] == "emulated: correctness only"
    root = machine(tmp_path / "real", {"proc/self/comm": "python3"})
    assert "source" not in host.host_context(threads=1, root=root)

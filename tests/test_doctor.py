"""The doctor's findings and verdict, on machines made up for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwnas import doctor, packages, registry
from hwnas.doctor import Check, State, diagnose, examine
from hwnas.packages import Requirement


def finding(part: str, name: str) -> Check:
    (found,) = [f for f in examine() if (f.part, f.name) == (part, name)]
    return found


def pretend_installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    real = packages.installed_version
    monkeypatch.setattr(packages, "installed_version", lambda name: versions.get(name, real(name)))


def test_an_installed_package_is_shown_with_its_version() -> None:
    assert finding("package", "numpy").state is State.OK
    assert finding("package", "numpy").value == packages.installed_version("numpy")


def test_a_missing_package_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, optuna=None)
    found = finding("package", "optuna")
    assert found.state is State.MISSING
    assert "-m pip install 'optuna>=5.0'" in found.advice


def test_a_package_that_is_too_old_is_not_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, optuna="4.10.1")
    assert finding("package", "optuna").value == "4.10.1 is too old"


@pytest.mark.parametrize("version", ["5", "5.0", "5.0.0", "5.0.0rc1", "10.1+cpu", "5.0.post1"])
def test_a_version_that_is_new_enough_is_recognised(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    pretend_installed(monkeypatch, optuna=version)
    assert finding("package", "optuna").state is State.OK


def test_the_package_of_an_extra_is_optional_and_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Requirement(name="no-such-litert", minimum="2.0", extra="litert")
    requirements = (*packages.requirements(), wanted)
    monkeypatch.setattr(packages, "requirements", lambda: requirements)
    found = finding("package", "no-such-litert")
    assert found.state is State.OPTIONAL
    assert "'hwnas[litert]'" in found.advice
    assert diagnose().ready


def test_what_hwnas_light_leaves_out_is_optional_and_told_with_what_it_is_needed_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "requires", lambda name: ["numpy>=2.0", 'torch>=2.6; extra == "full"'])
    pretend_installed(monkeypatch, torch=None, hwnas=None, **{"hwnas-light": "1.0"})
    found = finding("package", "torch")
    assert found.state is State.OPTIONAL
    assert found.value == f"not installed; needed for {doctor.NEEDED_FOR['torch']}"
    assert found.advice.endswith(" -m pip install 'hwnas-light[full]'")
    assert finding("exporter", "onnx").value == "needs torch"
    assert diagnose().shown.notes[-1].startswith("Verdict: ready for what needs none of torch")


def test_two_distributions_of_the_same_modules_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, **{"hwnas-light": "1.0"})
    found = finding("package", "hwnas-light")
    assert found.state is State.WARNING
    assert found.advice.endswith(" -m pip uninstall hwnas hwnas-light")


def test_a_runtime_without_its_package_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, onnxruntime=None)
    found = finding("runtime", "onnxruntime")
    assert found.value == "needs onnxruntime"
    assert "pip install" in found.advice


def test_what_users_do_not_need_is_left_out() -> None:
    assert not [f for f in examine() if f.name == "pytest"]


def test_a_missing_requirement_decides_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, optuna=None)
    result = diagnose()
    assert not result.ready
    assert result.shown.notes[-1] == "Verdict: not ready: optuna"


def test_a_busy_machine_is_a_warning_not_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (100.0, 0.0, 0.0))
    result = diagnose()
    assert result.ready
    assert "load" in result.shown.notes[-1]


def test_a_container_quota_counts_as_fewer_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    monkeypatch.setattr(doctor, "_QUOTA", tmp_path / "cpu.max")
    assert finding("machine", "cores").value.startswith("0.5 of ")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (found,) = [f for f in examine(tmp_path / "missing") if f.name == "working folder"]
    assert found.state is State.MISSING
    assert "not writable" in found.value


def test_devices_are_listed_with_their_runtime() -> None:
    assert finding("device", "cpu").value.startswith("onnxruntime")


def pretend_context(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """A machine whose context differs from this one's."""
    real = registry.load_object

    def load_object(target: str, **arguments: str) -> object:
        loaded = real(target, **arguments)
        if target != "hwnas.devices.host:host_context":
            return loaded
        return lambda **settings: {**loaded(**settings), **changes}

    monkeypatch.setattr(registry, "load_object", load_object)


def pretend_meters(monkeypatch: pytest.MonkeyPatch, found: dict[str, str]) -> None:
    real = registry.load_object
    found_meters = "hwnas.devices.meters:found_meters"
    monkeypatch.setattr(
        registry, "load_object", lambda target, **a: (lambda: found) if target == found_meters else real(target, **a)
    )


def test_turbo_is_a_warning_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_context(monkeypatch, turbo="on")
    assert finding("machine", "turbo").state is State.WARNING
    assert "no_turbo" in finding("machine", "turbo").advice


def test_turbo_that_is_off_or_unknown_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_context(monkeypatch, turbo="off")
    assert finding("machine", "turbo").state is State.OK


def test_one_core_s_governor_that_follows_the_load_is_enough_for_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_context(monkeypatch, governor="ondemand, performance")
    assert finding("machine", "clock governor").state is State.WARNING


def test_the_processors_this_process_may_use_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_context(monkeypatch, affinity="2-3,7")
    assert finding("machine", "cores").value.endswith("affinity 2-3,7")


def test_meters_are_listed_with_what_they_would_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_meters(monkeypatch, {"rapl": "package-0, package-0/dram"})
    assert finding("meter", "rapl").value == "package-0, package-0/dram"
    assert finding("meter", "rapl").state is State.OK
    assert finding("meter", "sysfs").state is State.OPTIONAL


def test_a_gpu_without_the_package_that_reads_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_meters(monkeypatch, {"nvml": "nvidia0"})
    pretend_installed(monkeypatch, **{"nvidia-ml-py": None})
    assert finding("meter", "nvml").state is State.OPTIONAL
    assert "hwnas[nvml]" in finding("meter", "nvml").advice


def test_a_machine_without_meters_is_ready_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_meters(monkeypatch, {})
    assert diagnose().ready

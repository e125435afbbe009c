"""Folders of deployments."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.allowed import Between, Limits
from hwnas.deployment import MANIFEST, Manifest
from hwnas.errors import ConfigError
from hwnas.pipeline._deployment_folder import deployment_folder, deployments_in, heal, new_folder, take_place
from tests.report.made_up import manifest

VALUES = st.floats(min_value=1e-9, max_value=1e12)
SIDES = st.one_of(
    VALUES,
    st.builds(lambda v: Between(at_least=v), VALUES),
    st.builds(lambda a, b: Between(at_least=min(a, b), at_most=max(a, b)), VALUES, VALUES),
)
LIMITS = st.dictionaries(st.sampled_from(["latency_ms", "size_bytes", "macs"]), SIDES, max_size=3)


def put(folder: Path, *, device: str, limits: Limits) -> Manifest:
    made = manifest(limits=limits)
    made = made.model_copy(update={"device": made.device.model_copy(update={"name": device})})
    folder.mkdir(parents=True)
    made.write(folder)
    return made


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({}, "cpu_best"),
        ({"latency_ms": 0.5, "size_bytes": 3e5}, "cpu_latency-0.5_size-3e+05"),
        ({"peak_memory_bytes": 2048.0}, "cpu_peak_memory-2048"),
        ({"latency_ms": Between(at_least=0.25, at_most=0.5)}, "cpu_latency-0.25..0.5"),
        ({"accuracy": Between(at_least=0.9)}, "cpu_accuracy-0.9.."),
    ],
)
def test_limits_that_four_digits_tell_are_the_name(limits: Limits, name: str, tmp_path: Path) -> None:
    assert deployment_folder(tmp_path, device="cpu", limits=limits).name == name


@given(LIMITS, LIMITS)
def test_other_limits_have_another_folder(a: Limits, b: Limits) -> None:
    folders = [deployment_folder(Path("nowhere"), device="cpu", limits=limits) for limits in (a, b)]
    assert (folders[0] == folders[1]) == (a == b)


def test_a_deployment_between_two_limits_is_found_again(tmp_path: Path) -> None:
    limits = {"latency_ms": Between(at_least=0.25, at_most=0.5)}
    put(tmp_path / "cpu_latency-0.25..0.5", device="cpu", limits=limits)
    assert Manifest.read(tmp_path / "cpu_latency-0.25..0.5").limits == limits
    assert deployment_folder(tmp_path, device="cpu", limits=limits).name == "cpu_latency-0.25..0.5"
    other = {"latency_ms": Between(at_least=0.25)}
    assert deployment_folder(tmp_path, device="cpu", limits=other).name == "cpu_latency-0.25.."


@pytest.mark.parametrize("digits", [4, 8, 15])
def test_budgets_that_agree_in_many_digits_are_kept_apart(digits: int, tmp_path: Path) -> None:
    first = 0.1234567890123456
    second = first * (1 + 10.0**-digits)
    names = {deployment_folder(tmp_path, device="cpu", limits={"latency_ms": v}).name for v in (first, second)}
    assert len(names) == 2
    assert all(name.startswith("cpu_latency-0.1235_") for name in names)


def test_the_next_float_is_another_budget(tmp_path: Path) -> None:
    limits = [{"latency_ms": v} for v in (0.5, math.nextafter(0.5, 1))]
    assert len({deployment_folder(tmp_path, device="cpu", limits=each) for each in limits}) == 2


def test_a_deployment_of_the_same_budget_keeps_its_folder(tmp_path: Path) -> None:
    limits = {"latency_ms": 0.123456}
    folder = deployment_folder(tmp_path, device="cpu", limits=limits)
    put(folder, device="cpu", limits=limits)
    assert deployment_folder(tmp_path, device="cpu", limits=limits) == folder


@pytest.mark.parametrize(("device", "latency"), [("cpu", 0.12345), ("another", 0.1235)])
def test_a_folder_that_holds_another_budget_is_left_alone_whatever_it_is_called(
    device: str, latency: float, tmp_path: Path
) -> None:
    """Earlier versions called them by four digits."""
    old = tmp_path / "cpu_latency-0.1235"
    put(old, device=device, limits={"latency_ms": latency})
    folder = deployment_folder(tmp_path, device="cpu", limits={"latency_ms": 0.1235})
    assert folder != old
    assert not folder.exists()


def test_a_damaged_deployment_is_made_again_where_it_is(tmp_path: Path) -> None:
    folder = deployment_folder(tmp_path, device="cpu", limits={"latency_ms": 0.5})
    put(folder, device="cpu", limits={"latency_ms": 0.5})
    (folder / MANIFEST).write_text("{")
    assert deployment_folder(tmp_path, device="cpu", limits={"latency_ms": 0.5}) == folder


@pytest.mark.parametrize("device", ["../up", ".hidden"])
def test_a_device_that_cannot_name_a_folder_is_refused(device: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot name a folder"):
        deployment_folder(tmp_path, device=device, limits={})


# ---------------------------------------------------------------- one takes another's place


class Killed(BaseException):
    """What no code of ours catches."""


def version(folder: Path) -> str:
    return (folder / "model.onnx").read_text()


def made(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("manifest.json", "model.onnx"):
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("calls", range(5))
def test_whenever_it_is_killed_one_deployment_is_there_whole(
    calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, new = made(tmp_path / "cpu_best", "old"), made(tmp_path / ".cpu_best.new", "new")
    left = iter(range(calls))

    def until_killed(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(left, None) is None:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "unlink"), (os, "unlink"), (os, "rmdir")):
            patch.setattr(owner, name, until_killed(getattr(owner, name)))
        with contextlib.suppress(Killed):
            take_place(new, final)
    heal(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["cpu_best"]
    assert version(final) in ("old", "new")
    assert len(list(final.iterdir())) == 2


def test_a_process_killed_between_the_two_names_loses_nothing(tmp_path: Path) -> None:
    final, new = made(tmp_path / "cpu_best", "old"), made(tmp_path / ".cpu_best.new", "new")
    code = (
        "import os, signal, sys; from pathlib import Path; from hwnas.pipeline._deployment_folder import take_place\n"
        "rename = Path.rename\n"
        "def once(a, b): rename(a, b); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.rename = once; take_place(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, new, final], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not final.exists()
    assert deployments_in(tmp_path) == []
    assert heal(tmp_path) == [final]
    assert version(final) == "old"
    assert deployments_in(tmp_path) == [final]


def test_the_new_one_is_there_when_it_took_the_place(tmp_path: Path) -> None:
    final = made(tmp_path / "cpu_best", "old")
    with new_folder(final) as folder:
        for name in ("manifest.json", "model.onnx"):
            (folder / name).write_text("new")
        assert deployments_in(tmp_path) == [final]  # not what is not finished
        take_place(folder, final)
    assert version(final) == "new"
    assert heal(tmp_path) == []
    assert deployments_in(tmp_path) == [final]
    assert [folder.name for folder in tmp_path.iterdir()] == ["cpu_best"]


def test_a_run_without_deployments_needs_no_healing(tmp_path: Path) -> None:
    assert heal(tmp_path / "none") == []

"""What the measuring process says of its machine, and where it lets itself be pinned."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from hwnas.devices import load_device
from hwnas.errors import ConfigError
from hwnas.measure.client import Worker
from hwnas.testing.fake import fake_device

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system knows no pinning")


def test_the_process_is_pinned_to_the_device_s_cores_and_this_one_is_not() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with Worker(replace(fake_device(), cores=(core,))) as worker:
        worker.context()
        assert worker.pid is not None
        assert os.sched_getaffinity(worker.pid) == {core}
    assert os.sched_getaffinity(0) == before


def test_cores_that_do_not_exist_are_a_configuration_error_that_names_those_there_are() -> None:
    with (
        Worker(replace(fake_device(), cores=(4096,))) as worker,
        pytest.raises(ConfigError, match=r"name 4096, but this machine has the processors 0"),
    ):
        worker.context()


def test_what_spoils_a_measurement_is_told_by_the_process_that_measures() -> None:
    threads = len(os.sched_getaffinity(0)) + 1
    with Worker(replace(load_device("cpu"), threads=threads)) as worker:
        assert any(f"{threads} threads share" in warning for warning in worker.warnings())


def test_nothing_spoils_a_simulated_measurement() -> None:
    with Worker(replace(fake_device(), threads=999)) as worker:
        assert worker.warnings() == ()

"""How a process computes with torch: threads as asked for, and memory that is used again."""

import os
import subprocess
import sys

import pytest

from hwnas.errors import ConfigError
from hwnas.torch_process import keep_freed_memory, prepare_torch

_FAULTS = """
import resource
import torch
from hwnas.torch_process import keep_freed_memory

if {kept}:
    assert keep_freed_memory()
for _ in range(16):  # until free places are where they stay
    x = torch.ones(16_000_000)  # 64 MB
    del x
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    x = torch.ones(16_000_000)
    del x
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_more_threads_than_cores_are_wrong_input() -> None:
    with pytest.raises(ConfigError, match="this machine has"):
        prepare_torch((os.cpu_count() or 1) + 1)


def test_threads_are_set_for_this_process() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        prepare_torch(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is asked to keep memory")
def test_memory_that_tensors_left_is_used_by_the_next_ones() -> None:
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")

    def faults(*, kept: bool) -> int:
        return int(
            subprocess.run(
                [sys.executable, "-c", _FAULTS.format(kept=kept)], capture_output=True, text=True, check=True
            ).stdout
        )

    assert faults(kept=True) * 10 < faults(kept=False)

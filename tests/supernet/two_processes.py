"""What each of two processes does under torchrun, for test_processes.py: whole, and interrupted and resumed, trainings.

Arguments: a folder for the checkpoints, the steps of a training.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed

from hwnas.supernet.processes import start_distributed, stop_distributed
from tests.supernet.conftest import make_space
from tests.supernet.test_training import make_trainer


def main(folder: Path, steps: int) -> None:
    torch.set_num_threads(1)
    assert start_distributed()
    space = make_space()
    whole = make_trainer(space, folder / "whole.safetensors")
    whole.run(until=1)
    weights = torch.cat([p.detach().flatten() for p in whole.supernet.parameters()])
    whole.run(until=steps)
    make_trainer(space, folder / "pieces.safetensors").run(until=1)
    distributed.barrier()  # the first process alone writes, all of them read
    again = make_trainer(space, folder / "pieces.safetensors", seed=99)
    assert again.resume() == 1
    again.run(until=steps)
    torch.save(weights, folder / f"first_step.{distributed.get_rank()}")
    stop_distributed()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

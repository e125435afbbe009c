"""What each of two processes does under torchrun, for test_processes.py: whole, and interrupted and resumed, trainings.

Arguments: a folder for the checkpoints, the steps of a training.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch
from torch import distributed

from hwnas.supernet.processes import start_distributed, stop_distributed
from tests.supernet.conftest import make_space
from tests.supernet.test_splitting import make as make_parted
from tests.supernet.test_training import SETTINGS, make_trainer


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
    _quantized(folder, steps)
    _parted(folder, steps)
    torch.save(weights, folder / f"first_step.{distributed.get_rank()}")
    stop_distributed()


def _quantized(folder: Path, steps: int) -> None:
    """The same of a training whose last half rounds: ranges begin alike in both processes."""
    settings = dataclasses.replace(SETTINGS, steps=steps, quantized_fraction=0.5)
    asked = {"settings": settings, "rounded": True}
    make_trainer(make_space(), folder / "quantized.safetensors", **asked).run()
    make_trainer(make_space(), folder / "quantized_pieces.safetensors", **asked).run(until=1)
    distributed.barrier()
    again = make_trainer(make_space(), folder / "quantized_pieces.safetensors", seed=99, **asked)
    again.resume()
    again.run()
    weights = torch.cat([p.detach().flatten() for p in again.supernet.parameters()])
    torch.save(weights, folder / f"quantized.{distributed.get_rank()}")


def _parted(folder: Path, steps: int) -> None:
    """A training whose networks are parted on the way, by the same choice in both processes."""
    settings = dataclasses.replace(SETTINGS, steps=steps, split_fraction=0.5)
    trainer = make_parted(make_space(), folder / "parted.safetensors", **dataclasses.asdict(settings))
    told: list[str] = []
    trainer.run(tell=told.append)
    weights = torch.cat([p.detach().flatten() for p in trainer.supernet.parameters()])
    torch.save({"weights": weights, "told": told}, folder / f"parted.{distributed.get_rank()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""Whether a training step fits into memory, told before any of it is taken: the system kills without a word.

Knows blocks in closed form and what the system says is free; never tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hwnas.config import TrainConfig
from hwnas.cost.analytic import training_bytes
from hwnas.data.memory import available_memory
from hwnas.errors import ConfigError
from hwnas.torch_process import training_device
from hwnas.workspace import Workspace


def refuse_too_large(work: Workspace) -> None:
    """Refuse a batch that no step could be made of.

    Raises:
        ConfigError: it is larger than the data set, or than the memory.
    """
    if work.zoo_entry is not None:  # nothing is trained
        return
    c, n = work.config.train, len(work.images.train)
    if c.batch_size > max(n, TrainConfig().batch_size):  # fewer images than the default are no mistake
        raise ConfigError(
            f"train.batch_size is {c.batch_size:,}, but there are {n:,} training images; give at most {n}"
        )
    free = available_memory()
    # a GPU says itself, without harm, that its memory does not suffice
    if free is None or training_device() != "cpu":
        return
    space = work.training_space
    image_bytes = sum(training_bytes(b) for _, b in space.named_blocks(space.largest()))
    # of this process, under torchrun, and at a time
    share = -(-c.batch_size // (int(os.environ.get("WORLD_SIZE", "1")) * c.accumulate))
    if share * image_bytes > free:
        raise ConfigError(
            f"train.batch_size is {c.batch_size:,}: a step of the largest network keeps at least "
            f"{share * image_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; give at most "
            f"{free // image_bytes * c.batch_size // share:,}, smaller space.resolutions, or a larger train.accumulate"
        )


@contextmanager
def telling_memory(batch_size: int, *, cure: str = "give less") -> Iterator[None]:
    """Say in our words what torch says when it gets no memory, on a GPU or here.

    Args:
        batch_size: of the steps.
        cure: what to do.

    Raises:
        ConfigError: there was not enough.
    """
    try:
        yield
    except RuntimeError as e:  # torch's error for a GPU is one, that for this machine has no class
        if "out of memory" not in str(e) and "allocate memory" not in str(e):
            raise
        said = str(e).splitlines()[0]
        raise ConfigError(f"the memory does not suffice for train.batch_size {batch_size:,} ({said}); {cure}") from e

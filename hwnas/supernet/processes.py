"""Several processes that train one network, as `torchrun` starts them. Knows torch.distributed; nothing of training."""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_LET_GO_S = 0.5  # for threads that wait for a lock nobody holds


def start_distributed() -> bool:
    """Join the process group when started by `torchrun`; returns whether it was."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2:
        return False
    if not _distributed():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return True


def stop_distributed() -> None:
    """Leave the process group once all processes are done.

    Gloo's threads need Python's lock to let go of what was reduced. A thread that asks for it while the interpreter
    ends takes the process down ("terminate called without an active exception").
    """
    if _distributed():
        distributed.barrier()  # who leaves first breaks the connections of those that still reduce
        # Nothing in torch waits for these threads: without the pause a process still aborted now and then on a busy
        # machine, with the barrier, with DDP's buckets, and with nothing of Python's among what was reduced last.
        time.sleep(_LET_GO_S)
        distributed.destroy_process_group()


def process_count() -> int:
    """How many processes train together; 1 outside `torchrun`."""
    return distributed.get_world_size() if _distributed() else 1


def process_rank() -> int:
    """Which of them this one is, from 0; only the first writes."""
    return distributed.get_rank() if _distributed() else 0


def take_from_first_(tensor: Tensor) -> None:
    """Give all processes the numbers that the first one has; nothing outside `torchrun`.

    Args:
        tensor: of one shape in all of them; changed in place.
    """
    if _distributed():
        distributed.broadcast(tensor.detach(), 0)


def parallel(network: nn.Module) -> DistributedDataParallel:
    """A network whose gradients are averaged over all processes in each backward pass outside `no_sync()`.

    Parameters that one of the passes leaves out are averaged too, where a pass before it, under `no_sync()`, used them;
    those that no pass of any process used keep no gradient, as without this. All processes begin with the first
    one's weights.

    Args:
        network: the same in every process.
    """
    # Bucket views would spare a copy, but change the layout of the gradients, and with it the bits of their norm.
    return DistributedDataParallel(network, find_unused_parameters=True)


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()

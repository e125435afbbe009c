"""A short training of one network on its own after extraction: in floats, and quantization-aware.

Knows modules and batches; must never know spaces, devices or search.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hwnas.data.tensors import fit
from hwnas.errors import CheckpointError, DivergenceError
from hwnas.supernet.batches import BatchStream
from hwnas.supernet.checkpoint import Checkpoint, load_newest, previous, save_checkpoint
from hwnas.supernet.descent import Descent, restore_state, state_tensors
from hwnas.supernet.recalibration import keep_statistics_
from hwnas.supernet.schedules import cosine_rate, follow
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.tasks import Task, make_task
from hwnas.types import ProgressCallback, ignore_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where one network's training is kept, so that a stopped one goes on there and a finished one is not done again.

    Attributes:
        path: of its checkpoint; no other training may have it, which its name has to see to.
        every_s: seconds between checkpoints.
        tell: told where a training goes on.
        warn: told when the last checkpoint is damaged and the one before is taken.
    """

    path: Path
    every_s: float = 60.0
    tell: Callable[[str], None] | None = None
    warn: Callable[[str], None] | None = None


def finetune(
    network: nn.Module,
    stream: BatchStream,
    *,
    in_shape: tuple[int, ...],
    steps: int,
    task: Task | None = None,
    learning_rate: float = 0.005,
    teacher: SubNetwork | None = None,
    device: str = "cpu",
    kept: Kept | None = None,
    progress: ProgressCallback = ignore_progress,
) -> nn.Module:
    """Train a network in place with SGD and a cosine schedule; its BatchNorm statistics stay fixed.

    Args:
        network: any module on (N, *in_shape) inputs; left in evaluation mode.
        stream: training batches; steps count from 0.
        in_shape: of one input; images are brought to its size, and to the teacher's for it.
        steps: optimiser steps.
        task: what the network is for; None: classification.
        learning_rate: at the start.
        teacher: gives soft targets, mixed half and half with the labels (Hinton et al., 2015), best the supernet's
            largest network; None: labels only. Of samples without labels its targets are all.
        device: where it is trained, "cpu" or "cuda", in float32 of full precision; it comes back to the processor.
        kept: where it goes on if it was stopped, to the same bits; None keeps nothing.
        progress: told of each step.

    Raises:
        DivergenceError: a loss is not finite.
        CheckpointError: what was kept cannot be read.
    """
    network.eval()  # with the statistics it will ship with; gradients flow all the same
    network.to(device)
    parameters = {k: p for k, p in network.named_parameters() if p.requires_grad}
    going_down = _Steps(
        parameters,
        torch.optim.SGD(parameters.values(), momentum=0.9, nesterov=True),
        rate=lambda step: cosine_rate(step, peak=learning_rate, steps=steps),
        max_norm=1.0,
    )
    pupil = _Pupil(
        network=network,
        in_shape=in_shape,
        task=task or make_task("classification"),
        teacher=_moved(teacher, device),
        device=device,
        in_bfloat16=False,  # steps of integers are finer than its 8 significant bits
    )
    _train(pupil, stream, going_down, steps=steps, kept=kept, progress=progress)
    return network.to("cpu").eval()


def train_alone(
    network: SubNetwork,
    stream: BatchStream,
    *,
    steps: int,
    descent: Descent,
    task: Task | None = None,
    teacher: SubNetwork | None = None,
    device: str = "cpu",
    kept: Kept | None = None,
    progress: ProgressCallback = ignore_progress,
) -> SubNetwork:
    """Train an extracted network in place, in floats and with its BatchNorm alive, unless that is frozen.

    What a supernet's weights are a compromise about, one network's are not. While BatchNorm normalises, a step does
    not depend on the scale of weights; folded into them, as fine-tuning for integers has it, it does.

    Args:
        network: left in evaluation mode, with statistics of BatchNorm anew (from the last images it was trained on), or
            as they were if they are frozen.
        stream: training batches; steps count from 0.
        steps: optimiser steps; the rate rises for a twentieth of them, then falls.
        descent: the optimiser and its settings.
        task: as of `finetune`.
        teacher: as of `finetune`.
        device: as of `finetune`; on a GPU bfloat16 autocast is used.
        kept: as of `finetune`.
        progress: told of each step.

    Raises:
        DivergenceError: a loss is not finite.
        CheckpointError: what was kept cannot be read.
    """
    network.train()
    if network.has_frozen_statistics:
        keep_statistics_(network)
    network.to(device)
    parameters = {k: p for k, p in network.named_parameters() if p.requires_grad}
    warmup = max(1, steps // 20)
    going_down = _Steps(
        parameters,
        descent.make(parameters.values()),
        rate=lambda step: cosine_rate(step, peak=descent.learning_rate, steps=steps, warmup=warmup),
        max_norm=5.0,
    )
    pupil = _Pupil(
        network=network,
        in_shape=network.in_shape,
        task=task or make_task("classification"),
        teacher=_moved(teacher, device),
        device=device,
        in_bfloat16=device != "cpu",
    )
    _train(pupil, stream, going_down, steps=steps, kept=kept, progress=progress)
    network.statistics_hold = network.has_frozen_statistics  # else they were those of other weights
    return network.to("cpu").eval()


def digest_of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 in hex of named tensors: their names, types, shapes and bits."""
    found = hashlib.sha256()
    for name, tensor in tensors:
        value = tensor.detach().cpu().contiguous().numpy()
        found.update(f"{name} {value.dtype} {value.shape} ".encode())
        found.update(value.tobytes())
    return found.hexdigest()


def _moved(teacher: SubNetwork | None, device: str) -> SubNetwork | None:
    """The teacher where the network learns: a copy, if that is elsewhere."""
    return teacher if teacher is None or device == "cpu" else copy.deepcopy(teacher).to(device)


class _Steps:
    """An optimiser that follows its schedule, with gradients of a limited norm."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        rate: Callable[[int], float],
        max_norm: float,
    ) -> None:
        self._parameters, self._optimizer, self._max_norm = parameters, optimizer, max_norm
        self._rate = rate
        self._scheduler = follow(optimizer, rate)

    def step(self, loss: Tensor) -> None:
        """One step down a loss."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters.values(), self._max_norm)
        self._optimizer.step()
        self._scheduler.step()

    def state(self) -> dict[str, Tensor]:
        """What the optimiser remembers."""
        return state_tensors(self._optimizer, self._parameters)

    def go_on(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """From a step, with what `state` gave before it."""
        restore_state(self._optimizer, self._parameters, tensors)
        self._scheduler = follow(self._optimizer, self._rate, first_step=step)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pupil:
    """A network that learns, and by what."""

    network: nn.Module
    in_shape: tuple[int, ...]
    task: Task
    teacher: SubNetwork | None
    device: str
    in_bfloat16: bool

    def loss(self, inputs: Tensor, targets: Tensor | None) -> Tensor:
        """By targets, where there are any, and teacher, where there is one."""
        inputs = inputs.to(self.device)
        outputs = self._of(self.network, inputs, self.in_shape)
        losses = [] if targets is None else [self.task.loss(outputs, targets.to(self.device))]
        if self.teacher is not None:
            with torch.no_grad():
                soft = self._of(self.teacher, inputs, self.teacher.in_shape)
            losses.append(self.task.distill(outputs, soft))
        return torch.stack(losses).mean()

    def _of(self, network: nn.Module, inputs: Tensor, in_shape: tuple[int, ...]) -> Tensor:
        """(N, ...) float32 what a network makes of inputs."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.in_bfloat16):
            found: Tensor = network(fit(inputs, in_shape))
        return found.float()


def _train(
    pupil: _Pupil,
    stream: BatchStream,
    going_down: _Steps,
    *,
    steps: int,
    kept: Kept | None,
    progress: ProgressCallback,
) -> None:
    """Go down the loss, from where what was kept stands; the network stays in the mode it is in.

    Raises:
        DivergenceError: a loss is not finite.
        CheckpointError: what was kept cannot be read.
    """
    first = 0 if kept is None else _resume(kept, pupil.network, going_down, steps=steps)
    saved = time.monotonic()
    # TF32's 11 significant bits in convolutions put sums of integers times their scales on neighbouring integers
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=pupil.in_bfloat16):
        for done, (inputs, targets) in enumerate(stream.batches(first, steps), first + 1):
            loss = pupil.loss(inputs, targets if stream.is_labelled else None)
            if not math.isfinite(loss.item()):
                raise DivergenceError(done - 1, loss.item(), None)
            going_down.step(loss)
            progress(done, steps, f"loss {loss.item():.3f}")
            if kept is not None and (done == steps or time.monotonic() - saved > kept.every_s):
                _save(kept, pupil.network, going_down, step=done, steps=steps)
                saved = time.monotonic()


def _resume(kept: Kept, network: nn.Module, going_down: _Steps, *, steps: int) -> int:
    """Take up what was kept; the step to go on from."""
    found = load_newest(kept.path, warn=kept.warn)
    if found is None:
        return 0
    if found.meta.get("name") != kept.path.stem:  # its name is what tells it from others
        raise CheckpointError(f"{kept.path} was kept as {found.meta.get('name')}; delete it to train anew")
    step: int = found.meta["step"]
    with torch.no_grad():
        for name, tensor in _tensors(network).items():
            tensor.copy_(found.tensors[name])
    going_down.go_on(step, found.tensors)
    if kept.tell is not None:
        kept.tell(f"{kept.path} is at step {step} of {steps}")
    return step


def _save(kept: Kept, network: nn.Module, going_down: _Steps, *, step: int, steps: int) -> None:
    """Keep a training; of a finished one the network alone."""
    kept.path.parent.mkdir(exist_ok=True)
    state = going_down.state() if step < steps else {}
    meta = {"name": kept.path.stem, "step": step, "steps": steps}
    save_checkpoint(kept.path, Checkpoint(tensors={**_tensors(network), **state}, meta=meta))
    if step == steps:
        previous(kept.path).unlink(missing_ok=True)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """All that training changes in a network, each once."""
    found = [*network.named_parameters(), *network.named_buffers()]
    return {f"model.{name}": tensor for name, tensor in found}

"""A short training of one network on its own after extraction: in floats, and quantization-aware.

Knows modules and batches; must never know spaces, devices or search.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwnas.data.tensors import fit
from hwnas.errors import DivergenceError
from hwnas.supernet.batches import BatchStream
from hwnas.supernet.descent import Descent
from hwnas.supernet.recalibration import keep_statistics_
from hwnas.supernet.schedules import cosine_rate, follow
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.tasks import Task, make_task
from hwnas.types import ProgressCallback, ignore_progress


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
        progress: told of each step.

    Raises:
        DivergenceError: a loss is not finite.
    """
    network.eval()  # with the statistics it will ship with; gradients flow all the same
    network.to(device)
    parameters = [p for p in network.parameters() if p.requires_grad]
    going_down = _Steps(
        parameters,
        torch.optim.SGD(parameters, momentum=0.9, nesterov=True),
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
    _train(pupil, stream, going_down, steps=steps, progress=progress)
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
        progress: told of each step.

    Raises:
        DivergenceError: a loss is not finite.
    """
    network.train()
    if network.has_frozen_statistics:
        keep_statistics_(network)
    network.to(device)
    parameters = [p for p in network.parameters() if p.requires_grad]
    warmup = max(1, steps // 20)
    going_down = _Steps(
        parameters,
        descent.make(parameters),
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
    _train(pupil, stream, going_down, steps=steps, progress=progress)
    network.statistics_hold = network.has_frozen_statistics  # else they were those of other weights
    return network.to("cpu").eval()


def _moved(teacher: SubNetwork | None, device: str) -> SubNetwork | None:
    """The teacher where the network learns: a copy, if that is elsewhere."""
    return teacher if teacher is None or device == "cpu" else copy.deepcopy(teacher).to(device)


class _Steps:
    """An optimiser that follows its schedule, with gradients of a limited norm."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        *,
        rate: Callable[[int], float],
        max_norm: float,
    ) -> None:
        self._parameters, self._optimizer, self._max_norm = parameters, optimizer, max_norm
        self._scheduler = follow(optimizer, rate)

    def step(self, loss: Tensor) -> None:
        """One step down a loss."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
        self._optimizer.step()
        self._scheduler.step()


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


def _train(pupil: _Pupil, stream: BatchStream, going_down: _Steps, *, steps: int, progress: ProgressCallback) -> None:
    """Go down the loss; the network stays in the mode it is in.

    Raises:
        DivergenceError: a loss is not finite.
    """
    # TF32's 11 significant bits in convolutions put sums of integers times their scales on neighbouring integers
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=pupil.in_bfloat16):
        _descend(pupil, stream, going_down, steps=steps, progress=progress)


def _descend(pupil: _Pupil, stream: BatchStream, going_down: _Steps, *, steps: int, progress: ProgressCallback) -> None:
    for step, (inputs, targets) in enumerate(stream.batches(0, steps)):
        loss = pupil.loss(inputs, targets if stream.is_labelled else None)
        if not math.isfinite(loss.item()):
            raise DivergenceError(step, loss.item(), None)
        going_down.step(loss)
        progress(step + 1, steps, f"loss {loss.item():.3f}")

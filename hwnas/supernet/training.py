"""Train a supernet: in-place distillation under a strategy, resumable to the bit.

All randomness of step t comes from (seed, t), so a checkpoint holds weights, their average, the
optimiser's momentum and the step, and nothing else is needed to go on. Knows nothing of devices,
tables or search.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hwnas.errors import CheckpointError, ConfigError, DivergenceError
from hwnas.precisions import EXACT
from hwnas.supernet.batches import BatchStream, made_ahead, step_rng
from hwnas.supernet.checkpoint import Checkpoint, load_newest, save_checkpoint
from hwnas.supernet.descent import restore_state, state_tensors
from hwnas.supernet.distillation import Taught, Teacher, feature_loss
from hwnas.supernet.elastic import NamedBlocks, Supernet
from hwnas.supernet.gpu import plans_off
from hwnas.supernet.gradient_matching import N_DRAWN
from hwnas.supernet.identity import refuse_other_identity, run_identity
from hwnas.supernet.kinds import AnySupernet
from hwnas.supernet.processes import parallel, process_count, process_rank
from hwnas.supernet.quantization.rounding import SMALLEST_SCALE
from hwnas.supernet.quantized import begin_ranges_, in_precision, in_precisions, learned_ranges, range_names
from hwnas.supernet.schedules import follow
from hwnas.supernet.settings import TrainSettings
from hwnas.supernet.splitting import copy_trained_, of_both_parts, split_
from hwnas.supernet.watching import Log, Watch
from hwnas.tasks import Task, make_task
from hwnas.types import (
    IntArray,
    LearningStrategy,
    ProgressCallback,
    TrainingStrategy,
    TrainTarget,
    ignore_progress,
)

_LOSS = "loss"  # of a step's first network, the largest
_STEPS_SEEN = 8  # whose networks show what ranges begin with, where the first step's do not show all


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where a training run is kept, and what it is, so that no other run goes on there.

    Attributes:
        path: of the checkpoint.
        identity: what the run is beside its settings (space, data); a checkpoint with another is refused.
    """

    path: Path
    identity: Mapping[str, Any] = field(default_factory=dict)


class Trainer:
    """One training run of a supernet.

    Args:
        supernet: trained in place.
        stream: training batches; under `torchrun` each process takes its share of every batch.
        strategy: which sub-networks each step trains.
        named_blocks: encoding -> named blocks, of the space the supernet was built from.
        settings: how to train.
        task: what the networks are for; None: classification.
        keeping: where the run is kept and goes on; None keeps nothing.
        device: "cpu" or "cuda"; on a GPU bfloat16 autocast is used.

    Attributes:
        step: how many were taken.
        history: losses, two hundred rows over the whole of a training.
    """

    def __init__(
        self,
        supernet: AnySupernet,
        stream: BatchStream,
        *,
        strategy: TrainingStrategy,
        named_blocks: Callable[[IntArray], NamedBlocks],
        settings: TrainSettings,
        task: Task | None = None,
        keeping: Keeping | None = None,
        device: str = "cpu",
    ) -> None:
        self.stream = stream
        self.strategy = strategy
        self.settings = settings
        self.task = make_task("classification") if task is None else task
        self.step = 0
        self.history: list[dict[str, float]] = []
        self._named_blocks = named_blocks
        self._path = keeping.path if keeping is not None else None
        identity = keeping.identity if keeping is not None else {}
        self._identity = run_identity(settings, identity, batch_size=stream.batch_size, n_samples=stream.n)
        self._device = torch.device(device)
        self.supernet = supernet.to(self._device)
        self.supernet.is_given = False
        self._without_plans = isinstance(supernet, Supernet) and supernet.without_plans
        self._teacher: Teacher | None = None
        self.supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self._parameters = dict(self.supernet.named_parameters())
        # AveragedModel would keep the same bits (with one update before the first step, which copies), but walks over
        # all modules at every step, and that takes longer than the average itself: only its function is used.
        self._averages = {k: p.detach().clone() for k, p in self._parameters.items()}
        self._steps_of_ranges = [learned.scale.detach() for learned in learned_ranges(self.supernet)]
        if settings.quantized_fraction and not self._steps_of_ranges:
            raise ConfigError(
                "train.quantized_fraction is above 0, but this supernet is trained in floats alone, as those of given "
                "networks are; leave it out, and let deploy.finetune_steps train the chosen network for integers"
            )
        self._parts = supernet.parts if isinstance(supernet, Supernet) else None
        if settings.experts > 1 and not (isinstance(supernet, Supernet) and supernet.router is not None):
            raise ConfigError(
                f"train.experts is {settings.experts}, but this supernet holds its weights once, as those of given "
                "networks do; leave it out"
            )
        if settings.split_fraction and self._parts is None:
            raise ConfigError(
                "train.split_fraction is above 0, but this supernet holds its weights once, as those of given networks "
                "do; leave it out"
            )
        self._optimizer = settings.descent.make(self._parameters.values())
        self._scheduler = follow(self._optimizer, settings.rate)
        self._world, self._rank = process_count(), process_rank()
        self._watch: Watch | None = None
        self._log: Log | None = None
        self._parallel = parallel(self.supernet) if self._world > 1 else None

    def learn_from(self, teacher: Teacher) -> None:
        """Let all networks learn from one that was given trained and stays as it is.

        The largest learns from labels as well, where the images have some.

        Args:
            teacher: of the same outputs.
        """
        self._teacher = teacher.to(self._device)

    def watch_by(self, watch: Watch | None, log: Log) -> None:
        """Let somebody see how it goes: accuracies beside the losses, and all of it in files.

        Args:
            watch: looks at accuracies; None: losses alone are shown.
            log: is written by the first process.
        """
        if self._rank == 0:
            self._watch, self._log = watch, log

    def averages(self) -> Mapping[str, Tensor]:
        """Name of a parameter -> its average so far, not to be changed."""
        return self._averages

    def resume(self, *, warn: Callable[[str], None] | None = None) -> int:
        """Load the newest checkpoint, if there is one; returns the step to go on from.

        Args:
            warn: told when the last one is damaged and the one before is taken.

        Raises:
            CheckpointError: none can be read, or it belongs to a run with other settings, data or space.
        """
        found = load_newest(self._path, warn=warn) if self._path is not None else None
        if found is None:
            return 0
        assert self._path is not None
        refuse_other_identity(self._path, found.meta["identity"], self._identity)
        with torch.no_grad():
            for name, p in self._parameters.items():
                p.copy_(found.tensors[f"model.{name}"])
                self._averages[name].copy_(found.tensors[f"ema.{name}"])
            restore_state(self._optimizer, self._parameters, found.tensors)
        self.step = found.meta["step"]
        self._scheduler = follow(self._optimizer, self.settings.rate, first_step=self.step)
        self.history = found.meta["history"]
        if isinstance(self.strategy, LearningStrategy):
            self.strategy.restore(found.meta["strategy"])
        return self.step

    @property
    def parted_by(self) -> str | None:
        """For people: by what the networks are parted, once they are."""
        split = self.settings.split_step
        if self._parts is None or split is None or self.step <= split:
            return None
        return self._parts.told

    def run(
        self,
        *,
        until: int | None = None,
        progress: ProgressCallback = ignore_progress,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Train to the last step (or `until`), writing checkpoints on the way and at the end.

        Args:
            until: a step before which to stop.
            progress: told of each step.
            tell: told by what networks are parted, when they are.

        Raises:
            DivergenceError: a loss is not finite; the last good checkpoint stays as it was.
            OSError: a checkpoint cannot be written.
        """
        last = min(self.settings.steps, until if until is not None else self.settings.steps)
        batches = self.stream.batches(self.step, last)
        with contextlib.ExitStack() as stack:
            if self._device.type == "cuda":
                batches = stack.enter_context(contextlib.closing(made_ahead(batches)))
            self._take_steps(batches, last=last, progress=progress, tell=tell)
        self._save()

    def _take_steps(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        *,
        last: int,
        progress: ProgressCallback,
        tell: Callable[[str], None] | None,
    ) -> None:
        saved, accuracies = time.monotonic(), ""
        for images, labels in batches:
            with plans_off(self._device) if self._without_plans else contextlib.nullcontext():
                losses = self._train_step(self.step, images, labels)
            self.step += 1
            if self.step - 1 == self.settings.split_step and self.parted_by and tell is not None:
                tell(self.parted_by)
            note = "".join(f", {name} {loss:.3f}" for name, loss in losses.items())
            found = self._looked_at()
            if found:
                accuracies = "".join(f", {name} {100 * share:.1f} %" for name, share in found.items())
            progress(self.step, self.settings.steps, note.removeprefix(", ") + accuracies)
            noted = {name if name == _LOSS else f"{_LOSS}_{name}": loss for name, loss in losses.items()}
            if self.step % max(1, self.settings.steps // 200) == 0:
                self.history.append({"step": self.step, **noted})
            elif not found:
                noted = {}
            if noted and self._log is not None:
                rate = self.settings.rate(self.step - 1)
                self._log.add(
                    self.step, {"learning_rate": rate, **noted, **{f"accuracy_{k}": v for k, v in found.items()}}
                )
            if time.monotonic() - saved > self.settings.checkpoint_every_s and self.step < last:
                self._save()
                saved = time.monotonic()

    def _looked_at(self) -> Mapping[str, float]:
        """Accuracies, where it is time for them."""
        return self._watch.look() if self._watch is not None and self._watch.is_due else {}

    def _train_step(self, step: int, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One step of the optimiser; what losses are called on the way -> this process's."""
        # torch's DistributedSampler pads each epoch and shuffles by a generator of its own; and the random changes of a
        # batch are drawn for the whole of it: every process makes all of it, and takes its share
        whole_batch, images = images, images[self._rank :: self._world].to(self._device, non_blocking=True)
        labels = labels[self._rank :: self._world].to(self._device, non_blocking=True)
        self.supernet.train()
        targets = self.strategy.architectures(step, step_rng(self.settings.seed, step, stream=3))
        if self._parts is not None and self.settings.split_step is not None and step >= self.settings.split_step:
            if step == self.settings.split_step:
                self._split(step)
            targets = of_both_parts(targets, self._parts, step)
        networks = [self._named_blocks(target.encoding) for target in targets]
        if step >= self.settings.first_quantized:
            networks = self._quantized(networks, step, whole_batch)
        self._optimizer.zero_grad(set_to_none=True)
        # whole networks of a part after another, so that the activations of one network on one part are in memory at a
        # time; gradients add up
        n_parts = self.settings.accumulate
        losses = [torch.zeros((), device=self._device) for _ in targets]
        told: list[float] = []
        for i in range(n_parts):
            outputs: list[Tensor] = []
            part, wanted = images[i::n_parts], labels[i::n_parts]
            given = self._taught(part)
            for j, (target, blocks) in enumerate(zip(targets, networks, strict=True)):
                last = (i, j) == (n_parts - 1, len(targets) - 1)
                with self._reducing(last):
                    found, loss = self._forward(blocks, target, part, wanted, outputs=outputs, given=given)
                    outputs.append(found.detach())  # a teacher does not learn from its pupils
                    losses[j] += loss.detach() / n_parts
                    if last:
                        told = self._check_finite(losses, step)
                    (loss / n_parts).backward()  # type: ignore[no-untyped-call]
        if self.settings.max_grad_norm:
            nn.utils.clip_grad_norm_(self._parameters.values(), self.settings.max_grad_norm)
        self._optimizer.step()
        self._scheduler.step()
        if step >= self.settings.first_quantized:
            torch._foreach_clamp_min_(self._steps_of_ranges, SMALLEST_SCALE)
        self._average(step)
        if isinstance(self.strategy, LearningStrategy):
            self.strategy.observe(targets, told)
        named = {t.name: float(x) for t, x in zip(targets[1:], losses[1:], strict=True) if t.name}
        return {_LOSS: float(losses[0]), **named}

    def _forward(
        self,
        blocks: NamedBlocks,
        target: TrainTarget,
        images: Tensor,
        labels: Tensor,
        *,
        outputs: Sequence[Tensor],
        given: Taught | None,
    ) -> tuple[Tensor, Tensor]:
        """What one network makes of its share of some images, and its loss."""
        share = images[target.images]
        if not len(share):
            raise ConfigError(
                f"{len(images)} images are too few for the networks of a step to share; give a larger train.batch_size "
                'or train.strategy = "sandwich", where each sees all of them'
            )
        handed_on: dict[str, Tensor] = {}
        asked = {"handed_on": handed_on} if given is not None and given.handed_on else {}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            found = (self._parallel or self.supernet)(share, blocks, **asked)
        found = found.float()  # (N, ...); bfloat16 would leave a softmax 8 significant bits
        taught = None if given is None else given.part(target.images)
        loss = self._loss(found, labels, target=target, outputs=outputs, taught=taught)
        if taught is not None and taught.handed_on:
            loss = loss + self.settings.feature_weight * feature_loss(handed_on, taught.handed_on)
        return found, loss

    def _split(self, step: int) -> None:
        """Part the networks by their gradients on the batches from this step on, in floats."""
        assert isinstance(self.supernet, Supernet)
        assert self._parts is not None
        # as many images at a time as in a step; of several processes the first one's answer is taken
        kept = slice(None, None, self.settings.accumulate * self._world)
        batches = [
            (images[kept].to(self._device), labels[kept].to(self._device))
            for images, labels in self.stream.batches(step, step + N_DRAWN)
        ]

        def loss(encoding: IntArray, draw: int) -> Tensor:
            images, labels = batches[draw]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
                found = self.supernet(images, in_precision(self._named_blocks(encoding), EXACT))
            return self.task.loss(found.float(), labels, label_smoothing=self.settings.label_smoothing)

        split_(self.supernet, self._parts, loss=loss, rng=step_rng(self.settings.seed, step, stream=5))
        copy_trained_(self._parameters, self._averages, self._optimizer)

    def _quantized(self, networks: Sequence[NamedBlocks], step: int, images: Tensor) -> list[NamedBlocks]:
        """The same networks in the precisions of a step; before the first of these ranges begin with what they see."""
        if step == self.settings.first_quantized:
            # of the whole batch, so that all processes begin alike; more networks than those of the step, because each
            # range wants to be seen
            drawn = (
                self._named_blocks(target.encoding)
                for more in range(_STEPS_SEEN)
                for target in self.strategy.architectures(step, step_rng(self.settings.seed, step + more, stream=3))
            )
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
                begin_ranges_(self.supernet, drawn, images.to(self._device))
            for name in range_names(self.supernet):  # there was nothing to average before
                self._averages[name].copy_(self._parameters[name].detach())
        self.supernet.rounds = True
        return in_precisions(networks, step, step_rng(self.settings.seed, step, stream=4))

    def _loss(
        self, found: Tensor, labels: Tensor, *, target: TrainTarget, outputs: Sequence[Tensor], taught: Taught | None
    ) -> Tensor:
        """Of one network: by the labels, by what the given network says, or by an earlier network of the step."""
        if target.teacher is not None:
            return self.task.distill(
                found, outputs[target.teacher][target.images] if taught is None else taught.outputs
            )
        if taught is not None and not self.stream.is_labelled:
            return self.task.distill(found, taught.outputs)
        loss = self.task.loss(found, labels[target.images], label_smoothing=self.settings.label_smoothing)
        return loss if taught is None else (loss + self.task.distill(found, taught.outputs)) / 2

    def _taught(self, images: Tensor) -> Taught | None:
        """What the given network makes of the images; None without one."""
        if self._teacher is None:
            return None
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            return self._teacher.of(images, with_features=self.settings.feature_weight > 0)

    def _reducing(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Let the processes share gradients in a step's last backward pass alone: it sends the sum of all passes."""
        if self._parallel is None or last:
            return contextlib.nullcontext()
        return self._parallel.no_sync()

    def _check_finite(self, losses: Sequence[Tensor], step: int) -> list[float]:
        """Stop all processes together where one has a loss that is not finite; returns their means over processes.

        Before the last backward pass, which sends the gradients.
        """
        values = torch.stack(list(losses))
        if self._world > 1:
            distributed.all_reduce(values)
            values /= self._world
        if not bool(torch.isfinite(values).all()):
            bad = next(float(v) for v in values if not math.isfinite(float(v)))
            kept = str(self._path) if self._path is not None and self._path.exists() else None
            raise DivergenceError(step, bad, kept)
        return [float(v) for v in values]

    @torch.no_grad()
    def _average(self, step: int) -> None:
        average = get_ema_multi_avg_fn(self.settings.decay(step))  # type: ignore[no-untyped-call]
        average(list(self._averages.values()), list(self._parameters.values()), step)

    @torch.no_grad()
    def take_averages_(self) -> None:
        """Give the supernet the averaged weights, as `load_averaged` does of a checkpoint; the training ends here."""
        for name, p in self._parameters.items():
            p.copy_(self._averages[name])

    def _save(self) -> None:
        if self._log is not None:  # first: lines behind a checkpoint are taken away again, and missing ones stay so
            with contextlib.suppress(OSError):  # it is for people; the checkpoint says it where the disk is full
                self._log.write()
        if self._path is None or self._rank != 0:
            return
        tensors: dict[str, Tensor] = {}
        for name, p in self._parameters.items():
            tensors[f"model.{name}"] = p
            tensors[f"ema.{name}"] = self._averages[name]
        tensors |= state_tensors(self._optimizer, self._parameters)
        meta = {"step": self.step, "steps": self.settings.steps, "identity": self._identity, "history": self.history}
        if isinstance(self.strategy, LearningStrategy):
            meta["strategy"] = self.strategy.state()
        save_checkpoint(self._path, Checkpoint(tensors=tensors, meta=meta))


def load_averaged(supernet: AnySupernet, checkpoint: Checkpoint) -> AnySupernet:
    """Put a checkpoint's averaged weights into a supernet of the same space, for evaluation and extraction.

    Raises:
        CheckpointError: the checkpoint's tensors do not fit the supernet.
    """
    parameters = dict(supernet.named_parameters())
    wanted = {f"ema.{k}": p for k, p in parameters.items()}
    wrong = [k for k, p in wanted.items() if k not in checkpoint.tensors or checkpoint.tensors[k].shape != p.shape]
    if wrong:
        raise CheckpointError(
            f"the checkpoint does not fit space {supernet.space_name!r} (first difference: {wrong[0]})"
        )
    with torch.no_grad():
        for k, p in wanted.items():
            p.copy_(checkpoint.tensors[k])
    supernet.is_given = False
    return supernet.eval()

"""Stage `train`: the supernet, from where its checkpoint stands."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas import registry
from hwnas._console import Console, format_seconds
from hwnas._tables import format_value
from hwnas.config import Config
from hwnas.cost.analytic import macs
from hwnas.errors import ConfigError
from hwnas.files import write_json, write_whole
from hwnas.integrity import seal_document
from hwnas.pipeline._beginning import begin_with, look_at_beginning
from hwnas.pipeline._data_told import DATA_FILE, data_record, tell_data, tell_unchanged
from hwnas.pipeline._last_used import begin
from hwnas.pipeline._watching import open_log, watch
from hwnas.pipeline.memory import refuse_too_large, telling_memory
from hwnas.quantities import count
from hwnas.results import Result, Shown
from hwnas.torch_process import prepare_torch, training_device
from hwnas.types import FloatArray, IntArray, TrainingStrategy
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.spaces import Space
    from hwnas.supernet.settings import TrainSettings
    from hwnas.supernet.strategies.sizes import Sizes
    from hwnas.supernet.training import Trainer
    from hwnas.zoo import Entry


_ROUNDED_STEP = 1.5  # steps in floats that take as long as one in which networks compute as integers will, too


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult(Result):
    """A trained supernet.

    Attributes:
        checkpoint: where it is kept.
        steps: trained in all.
        loss: of the largest network in the last step that was noted; None where nothing was trained now.
        loss_smallest: likewise of the smallest.
        data: what it was trained on, as in `data.json`.
        seconds: this training took.
    """

    checkpoint: Path
    steps: int
    loss: float | None
    loss_smallest: float | None
    data: Mapping[str, Any]
    seconds: float

    @property
    def shown(self) -> Shown:
        """Steps and losses."""
        return Shown(
            title="Supernet",
            rows=[
                ("steps", self.steps),
                ("trained now", format_seconds(self.seconds)),
                ("loss of the largest", _loss(self.loss)),
                ("loss of the smallest", _loss(self.loss_smallest)),
                ("checkpoint", str(self.checkpoint)),
            ],
        )


def train(config: Config, *, console: Console) -> TrainResult:
    """Train the supernet to its last step, going on from its checkpoint if there is one.

    Raises:
        DataError: the images cannot be used; nothing was trained.
        CheckpointError: the folder holds the checkpoint of another run.
        DivergenceError: a loss became NaN; the last good checkpoint is kept.
    """
    from hwnas.supernet.processes import stop_distributed

    work = Workspace(config)
    data, space = work.images, work.training_space  # before torch: what is wrong with them shows at once
    # under torchrun the processes work together, and the first one alone writes
    first_process = os.environ.get("RANK", "0") == "0"
    if first_process:
        tell_data(data, console)
    # before the lock and the folder: nothing is left behind by a wish that cannot be met
    if not work.is_trained:
        return _as_given(work, console=console)
    if work.zoo_entry is not None:
        with work.alone("training") if first_process else contextlib.nullcontext():
            return _from_zoo(work, work.zoo_entry, writes=first_process, console=console)
    refuse_too_large(work)
    if config.train.start_from is not None and not _is_begun(work):
        look_at_beginning(work)
    with contextlib.ExitStack() as held:
        if first_process:
            held.enter_context(work.alone("training"))
        trainer = _make_trainer(work, console=console)
        # before `begin`: a checkpoint of another run refuses first, and the configuration stays as it was
        first = trainer.resume(warn=console.warn)
        begin(work, console=console)
        if first_process:
            log = held.enter_context(contextlib.closing(open_log(work, trainer)))
            trainer.watch_by(watch(work, trainer), log)
        record = data_record(data, source=config.data.source)
        if first_process:
            write_json(work.folder / DATA_FILE, seal_document(record))
        total = trainer.settings.steps
        if first:
            told = trainer.parted_by
            console.note(f"{work.checkpoint} is at step {first} of {total}{f'; {told}' if told else ''}")
        started = time.monotonic()
        if first < total:
            console.note(
                f"training on {count(len(data.train), 'image')} ({data.name}): "
                f"{format_value(space.count())} networks share weights"
            )
            _tell_copies(trainer, console)
            tell_unchanged(data, config.data.source, console)
            work_of = _work_of(trainer.settings)
            with console.progress("train", work=work_of) as progress, telling_memory(config.train.batch_size):
                trainer.run(progress=progress, tell=console.note)
        # also where nothing was trained: `_make_trainer` started it
        stop_distributed()
    last = trainer.history[-1] if trainer.history else {}
    return TrainResult(
        checkpoint=work.checkpoint,
        steps=trainer.step,
        loss=last.get("loss"),
        loss_smallest=last.get("loss_smallest"),
        data=record,
        seconds=time.monotonic() - started,
    )


def _work_of(settings: TrainSettings) -> Callable[[int], float]:
    """Steps -> how many in floats take as long."""
    first = settings.first_quantized
    return lambda steps: steps + (_ROUNDED_STEP - 1) * max(0, steps - first)


def _tell_copies(trainer: Trainer, console: Console) -> None:
    """Say how many weights there are where a supernet holds them several times."""
    from hwnas.supernet.copies import copied_parameters

    numbers = {name: p.numel() for name, p in trainer.supernet.named_parameters() if p.requires_grad}
    copies = copied_parameters(numbers)
    if copies:
        once = sum(n for name, n in numbers.items() if name.startswith("slots.") and name not in copies)
        console.note(f"the supernet holds {sum(numbers.values()):,} weights; one set of them would be {once:,}")


def _as_given(work: Workspace, *, console: Console) -> TrainResult:
    """The weights of a given network are taken as they are (train.steps = 0)."""
    begin(work, console=console)
    record = data_record(work.images, source=work.config.data.source)
    write_json(work.folder / DATA_FILE, seal_document(record))
    console.note("nothing is trained (train.steps = 0): smaller networks are parts of the given one as it is")
    return TrainResult(checkpoint=work.checkpoint, steps=0, loss=None, loss_smallest=None, data=record, seconds=0.0)


def _from_zoo(work: Workspace, entry: Entry, *, writes: bool, console: Console) -> TrainResult:
    """A supernet that was trained elsewhere becomes the run's, with what is known of its networks.

    Raises:
        CheckpointError: the folder holds another one, or the weights do not fit the space.
    """
    from hwnas.supernet.checkpoint import Checkpoint, load_newest, save_checkpoint

    refuse_other_run(work)
    record = data_record(work.images, source=work.config.data.source)
    none = TrainResult(checkpoint=work.checkpoint, steps=0, loss=None, loss_smallest=None, data=record, seconds=0.0)
    if not writes:
        return none
    begin(work, console=console)
    write_json(work.folder / DATA_FILE, seal_document(record))
    console.note(f"nothing is trained: the supernet is {entry.card.name} ({entry.card.title})")
    if load_newest(work.checkpoint, warn=console.warn) is None:
        tensors = {f"ema.{name}": tensor for name, tensor in entry.tensors().items()}
        # the same bytes at every time and place: known accuracies are of a checkpoint
        meta = {"step": 0, "steps": 0, "identity": _identity(work), "history": []}
        save_checkpoint(work.checkpoint, Checkpoint(tensors=tensors, meta=meta))
    for name in entry.known:
        known = work.folder / "search" / name
        if not known.exists():
            known.parent.mkdir(parents=True, exist_ok=True)
            content = entry.read(name)
            write_whole(known, content)
            n = max(0, len(content.splitlines()) - 1)  # the first line says under what conditions they hold
            console.note(f"accuracies of {count(n, 'network')} come with it, as whoever packed it measured them")
    return none


def _loss(value: float | None) -> str | None:
    """With as many decimals as the progress has."""
    return None if value is None else f"{value:.3f}"


def refuse_other_run(work: Workspace) -> None:
    """Raise the error that `train` would raise for a folder with the checkpoint of another run; change nothing.

    A stage that stores the configuration asks first: a setting that contradicts the supernet is not written down.

    Raises:
        CheckpointError: the folder holds the checkpoint of another run, or a damaged one.
    """
    if not work.is_trained:
        return
    # looked for by name first: torch is not imported for a folder without a checkpoint
    if not _is_begun(work):
        if work.config.train.start_from is not None:  # it is not begun: what it is to begin with is looked at now
            look_at_beginning(work)
        return
    from hwnas.supernet.checkpoint import load_newest
    from hwnas.supernet.identity import refuse_other_identity, run_identity

    found = load_newest(work.checkpoint)
    if found is not None:
        if work.zoo_entry is not None:
            refuse_other_identity(work.checkpoint, found.meta["identity"], work.identity)
            return
        c, n = work.config.train, len(work.images.train)
        # as the trainer makes it, so that both refuse the same
        wanted = run_identity(settings_of(work), _identity(work), batch_size=c.batch_size, n_samples=n)
        refuse_other_identity(work.checkpoint, found.meta["identity"], wanted)


def _is_begun(work: Workspace) -> bool:
    """Whether the folder has a checkpoint, by any of the names that a training goes on from."""
    return work.folder.is_dir() and any(work.folder.glob(f"{work.checkpoint.stem}*"))


def _identity(work: Workspace) -> dict[str, Any]:
    c = work.config.train
    if work.zoo_entry is not None:  # how it was trained stands on its card
        return work.identity
    # by its name: once begun, a training needs what it began with no more
    return {**work.identity, "strategy": c.strategy, "n_random": c.n_random, "start_from": c.start_from or ""}


def settings_of(work: Workspace) -> TrainSettings:
    """How a run's supernet is trained."""
    from hwnas.supernet.settings import TrainSettings

    c, descent = work.config.train, work.descent
    return TrainSettings(
        steps=c.total_steps(len(work.images.train)),
        optimizer=descent.optimizer,
        learning_rate=descent.learning_rate,
        warmup_fraction=c.warmup_fraction,
        weight_decay=descent.weight_decay,
        label_smoothing=c.label_smoothing,
        ema_decay=c.ema_decay,
        quantized_fraction=c.quantized_fraction,
        experts=c.experts,
        split_fraction=c.split_fraction,
        feature_weight=c.feature_weight,
        accumulate=c.accumulate,
        seed=c.seed,
        checkpoint_every_s=c.checkpoint_every_s,
    )


def sizes_of(space: Space) -> Sizes:
    """(N, D) encodings of a space -> (N,) multiply-accumulates of an image, by which strategies tell sizes apart."""

    def sizes(encodings: IntArray) -> FloatArray:
        return np.array([sum(macs(block) for _, block in space.named_blocks(e)) for e in encodings], dtype=float)

    return sizes


def _strategy(work: Workspace) -> TrainingStrategy:
    """Which networks a step trains; given what it has parameters for.

    Raises:
        ConfigError: a setting is none that it can have.
    """
    c, space = work.config.train, work.training_space
    options = {"n_random": c.n_random, "steps": c.total_steps(len(work.images.train)), "sizes": sizes_of(space)}
    make = registry.load("strategies", c.strategy)
    try:
        made: TrainingStrategy = make(space, **registry.taken_by(make, options))
    except ValueError as e:
        raise ConfigError(f"train.strategy {c.strategy!r} cannot be used: {e}") from e
    return made


def _make_trainer(work: Workspace, *, console: Console) -> Trainer:
    import torch

    from hwnas.supernet.distillation import Teacher
    from hwnas.supernet.processes import start_distributed
    from hwnas.supernet.training import Keeping, Trainer

    c, space = work.config.train, work.training_space
    prepare_torch(c.threads)
    start_distributed()
    # the caller's random state stays: initial weights depend on the seed alone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(c.seed)
        supernet = work.new_supernet()
    if c.start_from is not None and not _is_begun(work):
        begin_with(work, supernet, console=console)
    trainer = Trainer(
        supernet,
        work.stream("train", batch_size=c.batch_size, augmented=True),
        strategy=_strategy(work),
        named_blocks=space.named_blocks,
        settings=settings_of(work),
        task=work.task,
        keeping=Keeping(path=work.checkpoint, identity=_identity(work)),
        device=training_device(),
    )
    if work.config.model is not None:
        blocks = space.named_blocks(space.largest())
        given = supernet.extract(blocks)  # a copy: the supernet's own change
        trainer.learn_from(Teacher(given, slots=[name for name, _ in blocks]))
    return trainer

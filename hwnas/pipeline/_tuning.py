"""The chosen network trained by itself before it ships, in floats and for integers; kept unless that does harm."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hwnas import __version__
from hwnas._console import Console
from hwnas.integrity import digest
from hwnas.pipeline._candidate import Candidate
from hwnas.pipeline.memory import telling_memory
from hwnas.quantities import metric_name, percent
from hwnas.torch_process import training_device
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

    from hwnas.accuracy import SubnetEvaluator
    from hwnas.supernet.batches import BatchStream
    from hwnas.supernet.finetuning import Kept
    from hwnas.supernet.subnetwork import SubNetwork


def tuned(work: Workspace, evaluator: SubnetEvaluator, candidate: Candidate, *, console: Console) -> Candidate:
    """The candidate after `deploy.train_steps` and `deploy.finetune_steps`.

    Args:
        work: of the run.
        evaluator: of its sub-networks.
        candidate: as it was extracted.
        console: where progress is told.

    Raises:
        DivergenceError: a loss is not finite.
    """
    c = work.config.deploy
    if c.train_steps:
        candidate = _trained(work, evaluator, candidate, console=console)
    if c.finetune_steps:
        candidate = _finetuned(work, evaluator, candidate, console=console)
    return candidate


def _trained(work: Workspace, evaluator: SubnetEvaluator, candidate: Candidate, *, console: Console) -> Candidate:
    """In floats, with its BatchNorm alive."""
    from hwnas.supernet.finetuning import digest_of_tensors, train_alone

    steps, descent = work.config.deploy.train_steps, work.descent_alone
    start = copy.deepcopy(candidate.subnetwork)
    start.ranges = None  # those learned with the supernet are of its weights
    # statistics of BatchNorm are made anew while it trains: where they differ in their last bits, it is the same one
    begins = digest_of_tensors(start.named_parameters())
    how = {"alone": asdict(descent), "steps": steps}
    with console.progress("train it alone") as progress, _telling_memory(work):
        network = train_alone(
            start,
            _images(work),
            task=work.task,
            steps=steps,
            descent=descent,
            teacher=_teacher(work, evaluator),
            device=training_device(),
            kept=_kept(work, candidate, {**how, "begins": begins}, console=console),
            progress=progress,
        )
    found = candidate.with_trained(evaluator.recalibrate(network), evaluator)
    better = _does_no_harm(
        evaluator, candidate, found.network, what="trained", metric=work.config.ranked_by, console=console
    )
    return found if better else candidate


def _finetuned(work: Workspace, evaluator: SubnetEvaluator, candidate: Candidate, *, console: Console) -> Candidate:
    """Quantization-aware."""
    from hwnas.supernet.finetuning import digest_of_tensors, finetune

    c = work.config.deploy
    # the calibrated one must stay: it is kept where tuning does harm
    start = copy.deepcopy(candidate.network)
    begins = digest_of_tensors([*start.named_parameters(), *start.named_buffers()])
    how = {"quantized": dict(work.computed), "learning_rate": c.finetune_learning_rate, "steps": c.finetune_steps}
    with console.progress("fine-tune") as progress, _telling_memory(work):
        network = finetune(
            start,
            _images(work),
            in_shape=candidate.in_shape,
            task=work.task,
            steps=c.finetune_steps,
            learning_rate=c.finetune_learning_rate,
            teacher=_teacher(work, evaluator),
            device=training_device(),
            kept=_kept(work, candidate, {**how, "begins": begins}, console=console),
            progress=progress,
        )
    better = _does_no_harm(
        evaluator, candidate, network, what="fine-tuned", metric=work.config.ranked_by, console=console
    )
    return candidate.with_finetuned(network) if better else candidate


def _telling_memory(work: Workspace) -> AbstractContextManager[None]:
    # the batches are the supernet's, whose run knows no others
    cure = "hide the GPU (CUDA_VISIBLE_DEVICES= in the environment), or give deploy.train_steps and finetune_steps 0"
    return telling_memory(work.config.train.batch_size, cure=cure)


def _kept(work: Workspace, candidate: Candidate, how: Mapping[str, Any], *, console: Console) -> Kept:
    """Where a training is kept, under a name that no other has.

    Args:
        work: of the run.
        candidate: what is trained; the same weights may be of several networks, as of two resolutions.
        how: what it begins with, and how it is trained.
        console: told where it goes on.
    """
    from hwnas.supernet.finetuning import Kept

    c = work.config
    what = {
        "version": __version__,
        "network": dict(candidate.answer.architecture),
        "in_shape": list(candidate.in_shape),
        "images": [c.data.source, c.train.batch_size, c.train.seed],
        "run": work.identity,
        "teacher": work.weights_and_data(),
    }
    return Kept(
        path=work.alone_trained / f"{digest([what, how])[:16]}.safetensors",
        every_s=c.train.checkpoint_every_s,
        tell=console.note,
        warn=console.warn,
    )


def _images(work: Workspace) -> BatchStream:
    return work.stream("train", batch_size=work.config.train.batch_size, augmented=True)


def _teacher(work: Workspace, evaluator: SubnetEvaluator) -> SubNetwork:
    """What it learns from: the network that was given, or the largest one of the supernet."""
    blocks = work.space.named_blocks(work.space.largest())
    if work.config.model is None:
        return evaluator.extract(blocks)
    return work.new_supernet().eval().extract(blocks)


def _does_no_harm(
    evaluator: SubnetEvaluator,
    candidate: Candidate,
    network: nn.Module,
    *,
    what: str,
    metric: str,
    console: Console,
) -> bool:
    """Whether a network is as good on validation images as it was, within what these can tell."""
    before = evaluator.score(candidate.network, in_shape=candidate.in_shape)
    after = evaluator.score(network, in_shape=candidate.in_shape)
    told = f"{percent(before.value, decimals=2)} calibrated, {percent(after.value, decimals=2)} {what}"
    console.note(f"  validation {metric_name(metric)} {told}")
    # the calibrated network was chosen for its accuracy on these very images, the tuned one was not: within the
    # standard error of so many images the difference tells nothing
    return after.value >= before.value - before.standard_error

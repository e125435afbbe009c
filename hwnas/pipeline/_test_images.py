"""The test samples, read once, after everything is decided: accuracy, and whether the runtime computes what torch does.

Knows one candidate and its file; never other candidates, limits or tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwnas.allowed import ACCURACY, AGREEMENT
from hwnas.data import ArrayDataset, Data, Preprocessing
from hwnas.deployment import Accuracy, ByClass, ByPixel, Parity, PartInfo, Samples
from hwnas.deployment.mistakes import worst_mistakes
from hwnas.deployment.samples import RawImage, raw_images
from hwnas.errors import VerificationError
from hwnas.measure import Worker
from hwnas.pipeline._candidate import Candidate
from hwnas.pipeline.parity import Comparison, compare_outputs, most_wrong, output_steps
from hwnas.precisions import EXACT, is_quantized
from hwnas.tasks import Score, Task, score_of_statistics, statistics_of
from hwnas.tasks.decisions import scores
from hwnas.tasks.segmentation import Segmentation
from hwnas.types import Array, Artefact, FloatArray, IntArray
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from hwnas.accuracy import SubnetEvaluator

N_SAMPLES = 16  # images stored with their outputs
_BATCH = 64  # images that torch computes at once
_PART, _PART_BYTES = 2000, 256 << 20  # samples, and bytes of them or of their outputs, that a request holds at most
_HELD_BYTES = 256 << 20  # of one program's outputs, of which more are measured than are held against the other's
_STORED_BYTES = 512 << 20  # of the stored samples together; a deployment whose samples are larger is not read
_SMALLEST = 1e-30  # step of an output that is the same for all samples
_FILES_BYTES = 8 << 20  # of all stored images together, as files; the others are stored as pixels


class WrongOutputsError(VerificationError):
    """The runtime computes something else than torch of one network; of another it may not.

    What to do: see docs/deployments.md, "When a runtime computes something else"; take floats, or another runtime.
    """


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What the test images told of a candidate.

    Attributes:
        accuracy: in torch and through the runtime.
        parity: how far the two agree.
        parts: the several outputs, with the steps that they were compared by.
        preprocessing: every step from an image to the network's input.
        samples: what ships to verify it on.
    """

    __test__ = False  # not pytest's

    accuracy: Accuracy
    parity: Parity
    parts: tuple[PartInfo, ...]
    preprocessing: Preprocessing
    samples: Samples


def test_candidate(
    work: Workspace,
    worker: Worker,
    candidate: Candidate,
    artefact: Artefact,
    *,
    evaluator: SubnetEvaluator,
    tell: Callable[[str], None],
) -> TestResult:
    """Run the test images through torch and through the runtime.

    `tell` is told where the two round the same network to other predictions.

    Raises:
        WrongOutputsError: the runtime computes something else than torch.
        VerificationError: the steps that the manifest would hold do not lead to the images that were tested.
    """
    from hwnas.data.tensors import fit

    task = work.task
    stream = work.stream("test")
    answers, statistics = _ask(
        candidate,
        artefact,
        worker,
        stream.unaugmented(work.config.deploy.test_samples),
        task=task,
        held_bytes=None if work.config.ranked_by == ACCURACY else _HELD_BYTES,  # confusions are counted over all
    )
    targets, expected = answers["targets"], answers["torch"]
    floats = answers.get("floats")
    found = answers["runtime"]
    compared = compare_outputs(
        found,
        expected,
        parts=task.parts,
        decides=task.decides,
        steps=output_steps(expected, artefact, task.parts),
        floats=floats,
        right=task.right_decisions(targets),
    )
    # before accuracies: of a network that computes something else they mean nothing
    if problems := compared.problems(exact=artefact.precision == EXACT):
        raise WrongOutputsError(f"{work.device.runtime} does not compute what torch does: {problems[0]}")
    others = compared.disagreements - compared.near_ties
    rounds = artefact.precision != EXACT and compared.error_ratio is not None
    if rounds and others > most_wrong(compared.n):  # (each of several outputs may be within its own number)
        tell(
            f"{others} of {compared.n} {compared.decides}s are others than those of torch's integers: over many layers "
            "it adds up which side a number on the edge is rounded to. The runtime's integers are as near to the "
            f"network in floats ({compared.error_ratio:.2f} times torch's error) and as often right"
        )
    # integers may fall to the other side of a tie on another processor: only samples both agree on tell a change
    agreed = _most_agreed(found, expected, "value" if task.parts else task.decides, steps=_steps_of(compared, task))
    steps = _preprocessing(work.data, resolution=candidate.in_shape[1:])
    test, class_names = work.data.test, work.data.class_names
    # answers of a network are no classes that somebody wants to be found
    is_classified = work.config.ranked_by == ACCURACY and not task.parts
    by_class = ByClass.of(targets, found.argmax(1), class_names=class_names) if is_classified else None
    agreed = agreed[: _stored(test, expected, in_shape=candidate.in_shape)]
    rows = stream.rows(work.config.deploy.test_samples)
    asked = test if len(rows) == len(test) else test.subset(rows)
    kept = Samples(
        raw=_raw(test, rows[agreed]),
        # images at the network's own resolution
        inputs=fit(stream.at(rows[agreed].tolist()), candidate.in_shape).contiguous().numpy(),
        outputs=expected[agreed].copy(),
        mistakes=()
        if by_class is None or not test.are_images
        else worst_mistakes(asked.inputs[: len(targets)], targets, found, by_class=by_class, class_names=class_names),
    )
    if problems := kept.preprocessing_problems(steps):
        raise VerificationError(
            f"the steps of the manifest do not lead to the images that were tested: {problems[0]}; did image files "
            "change meanwhile?"
        )
    test_score = {name: score_of_statistics(task, parts) for name, parts in statistics.items()}
    runtime = test_score["runtime"]
    accuracy = Accuracy(
        metric=work.config.ranked_by,
        validation_torch=evaluator.score(candidate.network, in_shape=candidate.in_shape).value,
        validation_fp32=evaluator.score(candidate.subnetwork, in_shape=candidate.in_shape).value,
        test_torch=test_score["torch"].value,
        test_fp32=test_score["fp32"].value,
        test_runtime=runtime.value,
        n_test=runtime.n,
        standard_error=runtime.standard_error,
        # of answers that stand for targets they would bear names that promise more
        others={} if work.config.ranked_by == AGREEMENT else _others(runtime, task.metric),
        by_class=by_class,
        by_pixel=_by_pixel(work, statistics["runtime"], class_names=class_names),
    )
    return TestResult(
        accuracy=accuracy,
        parity=_parity(compared),
        parts=tuple(
            PartInfo(name=part.name, shape=part.shape, step=compared.outputs[part.name].step) for part in task.parts
        ),
        preprocessing=steps,
        samples=kept,
    )


def _by_pixel(work: Workspace, statistics: Sequence[FloatArray], *, class_names: Sequence[str]) -> ByPixel | None:
    """How the pixels of each class fare; None of other tasks, and where answers of a network stand for masks."""
    if not isinstance(work.task, Segmentation) or work.config.ranked_by == AGREEMENT:
        return None
    counts = work.task.by_class(np.concatenate(statistics))
    if not counts[2].any():  # of no pixel it is known what it is
        return None
    return ByPixel.of(counts, class_names=class_names)


def _others(score: Score, metric: str) -> dict[str, float]:
    return {name: value for name, value in score.measures.items() if name != metric}


def _ask(
    candidate: Candidate,
    artefact: Artefact,
    worker: Worker,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    task: Task,
    held_bytes: int | None,
) -> tuple[dict[str, Array], dict[str, list[FloatArray]]]:
    """What torch and the runtime say of all samples, in parts: more are not computed at once.

    Args:
        candidate: the network in torch.
        artefact: its file.
        worker: of the runtime.
        batches: inputs and targets.
        task: that they are for.
        held_bytes: of outputs of each program that are kept, of the first samples; None: all.

    Returns:
        `torch`, of the network that ships, `floats`, of what is rounded, where something is, `runtime` and `targets`,
        of as many of the first samples as are kept; and what the task measures of all samples, by `torch`, `fp32` (of
        the sub-network before anything was done to it) and `runtime`.
    """
    import torch

    answers: dict[str, list[Array]] = {}
    statistics: dict[str, list[FloatArray]] = {"torch": [], "fp32": [], "runtime": []}
    networks = {"torch": candidate.network, "fp32": candidate.subnetwork}
    if is_quantized(artefact.precision):  # what both programs round
        networks["floats"] = candidate.float_network.eval()
    held = 0
    output_bytes = _outputs(candidate.network, torch.zeros(1, *candidate.in_shape)).nbytes
    for samples, targets in _parts(batches, in_shape=candidate.in_shape, output_bytes=output_bytes):
        found: dict[str, Array] = {}
        for name, network in networks.items():
            same = next((other for other in found if networks[other] is network), None)
            found[name] = _outputs(network, samples) if same is None else found[same]
        found |= {"runtime": worker.predict(artefact, samples.numpy())}
        for name, measured in statistics.items():
            measured.append(statistics_of(task, torch.from_numpy(found[name]), targets))
        del found["fp32"]  # only measured
        more = len(samples) if held_bytes is None else max(held_bytes // output_bytes, N_SAMPLES) - held
        if more > 0:
            held += len(samples)
            for name, values in {**found, "targets": targets.numpy()}.items():
                answers.setdefault(name, []).append(values[:more])
    return {name: np.concatenate(values) for name, values in answers.items()}, statistics


def _parts(
    batches: Iterable[tuple[Tensor, Tensor]], *, in_shape: tuple[int, ...], output_bytes: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples as the network takes them, and their targets, as many as a request holds."""
    from hwnas.data.tensors import fit

    held: list[tuple[Tensor, Tensor]] = []
    most = 1
    for x, y in batches:
        held.append((fit(x, in_shape), y))
        most = max(1, min(_PART, _PART_BYTES // max(held[0][0][0].nbytes, output_bytes)))
        if sum(len(kept) for _, kept in held) >= most:
            yield from _joined(held, most)
            held.clear()
    if held:
        yield from _joined(held, most)


def _joined(held: Sequence[tuple[Tensor, Tensor]], most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches as parts of `most` samples or fewer."""
    import torch

    x, y = (torch.cat(tensors) for tensors in zip(*held, strict=True))
    for part, targets in zip(torch.split(x, most), torch.split(y, most), strict=True):
        yield part.contiguous(), targets


def _stored(test: ArrayDataset, outputs: Array, *, in_shape: tuple[int, ...]) -> int:
    """How many samples may be stored: raw, as inputs and as outputs."""
    raw = math.prod(test.inputs.shape[1:]) * test.inputs.dtype.itemsize
    return max(1, _STORED_BYTES // (raw + 4 * math.prod(in_shape) + int(outputs[0].nbytes)))


def _outputs(network: nn.Module, samples: Tensor) -> Array:
    """(N, ...) of a module."""
    import torch

    with torch.inference_mode():
        outputs: Array = torch.cat([network(x) for x in torch.split(samples, _BATCH)]).numpy()
    return outputs


def _steps_of(compared: Comparison, task: Task) -> FloatArray:
    """(sum of the sizes,) the step of each value of several outputs; (1,) of one output."""
    steps = [np.full(part.size, max(compared.outputs[part.name].step, _SMALLEST)) for part in task.parts]
    return np.concatenate(steps) if steps else np.ones(1)


def _most_agreed(found: Array, expected: Array, decides: str, *, steps: FloatArray) -> IntArray:
    """(N_SAMPLES,) the first of the samples of which a runtime and torch decide most alike: of classes, all of them."""
    ours, theirs = scores(expected, decides), scores(found, decides)
    if ours is None or theirs is None:
        off = (np.abs(found - expected).reshape(len(expected), -1) / steps).max(1)
        return np.sort(np.argsort(off, kind="stable")[:N_SAMPLES])
    other = (ours.argmax(1) != theirs.argmax(1)).reshape(len(expected), -1).sum(1)  # (N,)
    if len(other) == len(ours):  # one decision a sample
        return np.flatnonzero(other == 0)[:N_SAMPLES]
    return np.sort(np.argsort(other, kind="stable")[:N_SAMPLES])


def _raw(test: ArrayDataset, rows: IntArray) -> tuple[RawImage, ...]:
    """Some test samples as they were found."""
    files = None if test.files is None else [test.files[i] for i in rows]
    return raw_images(test.inputs[rows], files, limit_bytes=_FILES_BYTES)


def _parity(compared: Comparison) -> Parity:
    """How far two agree, as a manifest says it."""
    return Parity(
        max_abs_diff=compared.difference,
        top1_agreement=compared.agreement,
        n=compared.n,
        step=compared.step,
        near_ties=compared.near_ties,
        error_ratio=compared.error_ratio,
        decides=compared.decides,  # type: ignore[arg-type]  # checked by the manifest
    )


def _preprocessing(data: Data, *, resolution: tuple[int, ...]) -> Preprocessing:
    """What was done to the samples of a run, from their files or arrays to a network's input of (H, W) `resolution`."""
    if not data.are_images:
        return Preprocessing.of_numbers(data.input_shape, mean=data.mean, std=data.std)
    (height, width), to = data.native_size, (resolution[0], resolution[1])
    shape = (height, width, data.in_channels)
    return Preprocessing.of(data.decoding, shape=shape, mean=data.mean, std=data.std, resolution=to)

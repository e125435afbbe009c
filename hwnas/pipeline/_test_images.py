"""The test samples, read once, after everything is decided: accuracy, and whether the runtime computes what torch does.

Knows one candidate and its file; never other candidates, limits or tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hwnas.allowed import ACCURACY, AGREEMENT
from hwnas.data import ArrayDataset, Data, Preprocessing
from hwnas.deployment import Accuracy, ByClass, Parity, PartInfo, Samples
from hwnas.deployment.mistakes import worst_mistakes
from hwnas.deployment.samples import RawImage, raw_images
from hwnas.errors import VerificationError
from hwnas.measure import Worker
from hwnas.pipeline._candidate import Candidate
from hwnas.pipeline.parity import Comparison, compare_outputs, most_wrong, output_steps
from hwnas.precisions import EXACT, is_quantized
from hwnas.tasks import Score, Task, score_of
from hwnas.tasks.decisions import scores
from hwnas.types import Array, Artefact, FloatArray, IntArray
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor, nn

    from hwnas.accuracy import SubnetEvaluator

N_SAMPLES = 16  # images stored with their outputs
_BATCH = 64  # images that torch computes at once
_PART, _PART_BYTES = 2000, 256 << 20  # samples, and their bytes, that a request to the runtime holds at most
_SMALLEST = 1e-30  # step of an output that is the same for all samples
_FILES_BYTES = 8 << 20  # of all stored images together, as files; the others are stored as pixels


class WrongOutputsError(VerificationError):
    """The runtime computes something else than torch of one network; of another it may not."""


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
    import torch

    from hwnas.data.tensors import fit

    task = work.task
    stream = work.stream("test")
    answers = _ask(candidate, artefact, worker, stream.unaugmented(work.config.deploy.test_samples))
    targets, expected, of_subnetwork = answers["targets"], answers["torch"], answers["fp32"]
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
    if artefact.precision != EXACT and others > most_wrong(compared.n):
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
    kept = Samples(
        raw=_raw(test, agreed),
        # images at the network's own resolution
        inputs=fit(stream.at(agreed.tolist()), candidate.in_shape).contiguous().numpy(),
        outputs=expected[agreed].copy(),
        # `test_samples` takes the first images
        mistakes=()
        if by_class is None or not test.are_images
        else worst_mistakes(test.inputs[: len(targets)], targets, found, by_class=by_class, class_names=class_names),
    )
    if problems := kept.preprocessing_problems(steps):
        raise VerificationError(
            f"the steps of the manifest do not lead to the images that were tested: {problems[0]}; did image files "
            "change meanwhile?"
        )
    test_score = {
        name: score_of(task, [(torch.from_numpy(outputs), torch.from_numpy(targets))])
        for name, outputs in (("torch", expected), ("fp32", of_subnetwork), ("runtime", found))
    }
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


def _others(score: Score, metric: str) -> dict[str, float]:
    return {name: value for name, value in score.measures.items() if name != metric}


def _ask(
    candidate: Candidate, artefact: Artefact, worker: Worker, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Array]:
    """What torch and the runtime say of all samples, in parts: more are not held at once.

    Returns:
        `torch`, of the network that ships; `fp32`, of the sub-network before anything was done to it; `floats`, of what
        is rounded, where something is; `runtime`; and `targets`.
    """
    answers: dict[str, list[Array]] = {}
    networks = {"torch": candidate.network, "fp32": candidate.subnetwork}
    if is_quantized(artefact.precision):  # what both programs round
        networks["floats"] = candidate.float_network.eval()
    for samples, targets in _parts(batches, in_shape=candidate.in_shape):
        found: dict[str, Array] = {}
        for name, network in networks.items():
            same = next((other for other in found if networks[other] is network), None)
            found[name] = _outputs(network, samples) if same is None else found[same]
        found |= {"runtime": worker.predict(artefact, samples.numpy()), "targets": targets.numpy()}
        for name, values in found.items():
            answers.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in answers.items()}


def _parts(batches: Iterable[tuple[Tensor, Tensor]], *, in_shape: tuple[int, ...]) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples as the network takes them, and their targets, as many as a request holds."""
    import torch

    from hwnas.data.tensors import fit

    held: list[tuple[Tensor, Tensor]] = []
    for x, y in batches:
        held.append((fit(x, in_shape), y))
        n = sum(len(kept) for _, kept in held)
        if n >= _PART or n * held[0][0][0].nbytes >= _PART_BYTES:
            yield torch.cat([x for x, _ in held]).contiguous(), torch.cat([y for _, y in held])
            held.clear()
    if held:
        yield torch.cat([x for x, _ in held]).contiguous(), torch.cat([y for _, y in held])


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

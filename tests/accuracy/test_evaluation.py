"""Accuracy of known logits, and of a supernet's sub-networks."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.accuracy import SubnetEvaluator, score
from hwnas.data.arrays import ArrayDataset
from hwnas.spaces.mobilenet import MobileNetSpace
from hwnas.supernet.batches import BatchStream
from hwnas.supernet.elastic import Supernet
from hwnas.tasks.classification import Classification
from hwnas.testing.spaces import tiny_space

CLASSES = Classification()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Given(nn.Module):
    """Gives the logits that its input holds in its first row."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, 0]


def logits(*rows: list[float]) -> Tensor:
    """(N, classes) -> (N, 1, classes, classes), the size of an image."""
    x = torch.tensor(rows)
    return x[:, None, None, :].expand(-1, 1, x.shape[1], -1)


# ---------------------------------------------------------------- top1


def test_top1_is_the_share_of_highest_logits_that_are_labels() -> None:
    first = logits([3.0, 1.0, 2.0], [0.0, 0.1, 0.0]), torch.tensor([0, 2])
    second = logits([0.0, -1.0, 5.0]), torch.tensor([2])
    assert score(Given(), [first, second], task=CLASSES, in_shape=(1, 3, 3)).value == pytest.approx(2 / 3)


def test_batches_count_by_their_images() -> None:
    right = logits([1.0, 0.0]), torch.tensor([0])
    wrong = logits(*[[1.0, 0.0]] * 3), torch.tensor([1] * 3)
    assert score(Given(), [right, wrong], task=CLASSES, in_shape=(1, 2, 2)).value == pytest.approx(1 / 4)


def test_images_are_resized_to_the_network() -> None:
    sizes = []

    class Noting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(tuple(x.shape[2:]))
            return x.mean((2, 3))

    score(Noting(), [(torch.zeros(2, 3, 8, 8), torch.tensor([0, 0]))], task=CLASSES, in_shape=(3, 4, 6))
    assert sizes == [(4, 6)]


def test_no_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no sample"):
        score(Given(), [], task=CLASSES, in_shape=(1, 2, 2))


# ---------------------------------------------------------------- sub-networks


@pytest.fixture(scope="module")
def space() -> MobileNetSpace:
    return tiny_space()


@pytest.fixture(scope="module")
def stream() -> BatchStream:
    """Noise whose brightness tells its class, so that even random weights see something."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    images = rng.integers(0, 60, size=(200, 8, 8, 1)) + 19 * labels[:, None, None, None]
    dataset = ArrayDataset(inputs=images.astype(np.uint8), targets=labels.astype(np.int64))
    return BatchStream(dataset, batch_size=64, mean=(0.5,), std=(0.3,))


@pytest.fixture(scope="module")
def supernet(space: MobileNetSpace) -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Supernet(space)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p) * 0.2)
    return net.eval()


@pytest.fixture
def evaluator(supernet: Supernet, stream: BatchStream) -> SubnetEvaluator:
    return SubnetEvaluator(supernet, train=stream, validation=stream, recalibration_samples=100, calibration_samples=50)


def largest(space: MobileNetSpace, precision: str):  # type: ignore[no-untyped-def]
    part = space.restrict(precisions=(precision,))
    return part.named_blocks(part.largest())


def fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_evaluating_never_changes_the_supernet(
    precision: str, evaluator: SubnetEvaluator, supernet: Supernet, space: MobileNetSpace
) -> None:
    before = fingerprint(supernet)
    evaluator(largest(space, precision))
    assert fingerprint(supernet) == before
    assert not supernet.training


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_same_network_has_the_same_accuracy_whatever_came_before(
    precision: str, evaluator: SubnetEvaluator, space: MobileNetSpace
) -> None:
    blocks = largest(space, precision)
    first = evaluator(blocks)
    evaluator(space.named_blocks(space.smallest()))
    assert evaluator(blocks) == first


def test_an_int8_network_is_judged_by_its_quantized_outputs(
    evaluator: SubnetEvaluator, space: MobileNetSpace, stream: BatchStream
) -> None:
    blocks = largest(space, "int8")
    subnetwork = evaluator.extract(blocks)
    quantized = evaluator.quantize(subnetwork)
    images, _ = next(stream.unaugmented())
    with torch.inference_mode():
        assert not torch.allclose(subnetwork(images), quantized(images), atol=1e-3)
    assert evaluator(blocks) == evaluator.score(quantized, in_shape=(1, 8, 8))


def test_an_fp32_network_is_left_as_it_is(evaluator: SubnetEvaluator, space: MobileNetSpace) -> None:
    subnetwork = evaluator.extract(largest(space, "fp32"))
    assert evaluator.quantize(subnetwork) is subnetwork


def test_extraction_recalibrates_on_training_images(
    evaluator: SubnetEvaluator, space: MobileNetSpace, supernet: Supernet
) -> None:
    blocks = largest(space, "fp32")
    norms = [m for m in evaluator.extract(blocks).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.running_mean is not None and bool(m.running_mean.any()) for m in norms)


def test_only_so_many_validation_images_count(supernet: Supernet, stream: BatchStream, space: MobileNetSpace) -> None:
    few = SubnetEvaluator(supernet, train=stream, validation=stream, validation_samples=3)
    assert few(largest(space, "fp32")).value in (0, 1 / 3, 2 / 3, 1)


def test_statistics_are_means_over_batches_of_equal_size(supernet: Supernet, stream: BatchStream) -> None:
    """A last one of two images would count as much as all before it."""
    n = 2 * stream.batch_size + 1
    evaluator = SubnetEvaluator(supernet, train=stream, validation=stream, recalibration_samples=n)
    sizes = [len(x) for x, _ in evaluator._recalibration]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1


def test_all_calibration_images_are_used(
    supernet: Supernet, stream: BatchStream, space: MobileNetSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    def count(network: object, batches: Iterable[torch.Tensor], *, max_batches: int | None, **_: object) -> object:
        nonlocal seen
        seen = sum(len(x) for x in itertools.islice(batches, max_batches))
        return network

    monkeypatch.setattr("hwnas.supernet.quantization.quantize", count)
    small = copy.copy(stream)
    small.batch_size = 16
    evaluator = SubnetEvaluator(supernet, train=small, validation=stream, calibration_samples=150)
    evaluator.quantize(evaluator.extract(largest(space, "int8")))
    assert seen == 150


def test_statistics_are_of_all_classes_where_data_come_class_by_class(
    space: MobileNetSpace, supernet: Supernet
) -> None:
    """As those of folders do: the first images are of one class, and a network of their statistics is none."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2, dtype=np.int64), 200)
    images = rng.integers(0, 40, (400, 8, 8, 1), dtype=np.uint8) + (180 * labels).astype(np.uint8)[:, None, None, None]
    mixed = rng.permutation(400)
    found = []
    for rows in (np.arange(400), mixed):
        data = ArrayDataset(inputs=images[rows], targets=labels[rows])
        stream = BatchStream(data, batch_size=50, mean=(0.5,), std=(0.4,))
        evaluator = SubnetEvaluator(supernet, train=stream, validation=stream, recalibration_samples=400)
        network = evaluator.extract(largest(space, "fp32"))
        found.append({k: v for k, v in network.state_dict().items() if k.endswith(("running_mean", "running_var"))})
    by_class, at_random = found
    for name, value in at_random.items():
        scale = value.abs().max().clamp_min(1e-6)
        assert ((by_class[name] - value).abs() / scale).max() < 0.25, name

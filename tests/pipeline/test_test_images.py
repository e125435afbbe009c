"""How much of the test samples is held at once: outputs of every pixel take gigabytes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwnas.data import ArrayDataset
from hwnas.pipeline import _test_images
from hwnas.tasks import make_task, score_of, score_of_statistics

SHAPE = (1, 6, 6)
MASKS = torch.arange(40 * 36).reshape(40, 6, 6).remainder(3).to(torch.uint8)


class Worker:
    """A runtime that computes what torch does, and notes how many samples each request has."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.asked = network, []

    def predict(self, artefact: object, images: np.ndarray) -> np.ndarray:
        self.asked.append(len(images))
        with torch.inference_mode():
            return self.network(torch.from_numpy(images)).numpy()


def ask(held_bytes: int | None, *, part_bytes: int, monkeypatch: pytest.MonkeyPatch):
    """40 samples in batches of 8, through a network of three classes a pixel: 432 bytes a sample."""
    monkeypatch.setattr(_test_images, "_PART_BYTES", part_bytes)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 3, 3, padding=1).eval()
    images = torch.randn(40, *SHAPE)
    candidate = SimpleNamespace(network=network, subnetwork=network, in_shape=SHAPE)
    worker = Worker(network)
    answers, statistics = _test_images._ask(
        candidate,
        SimpleNamespace(precision="fp32"),
        worker,
        list(zip(images.split(8), MASKS.split(8), strict=True)),
        task=make_task("segmentation"),
        held_bytes=held_bytes,
    )
    with torch.inference_mode():
        return answers, statistics, worker.asked, network(images)


def test_requests_are_no_larger_than_outputs_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, asked, _ = ask(None, part_bytes=5 * 432, monkeypatch=monkeypatch)
    assert sum(asked) == 40
    assert max(asked) == 5


def test_all_samples_are_measured_and_the_first_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, statistics, _, outputs = ask(20 * 432, part_bytes=8 * 432, monkeypatch=monkeypatch)
    assert set(answers) == {"torch", "runtime", "targets"}
    assert {len(values) for values in answers.values()} == {20}
    np.testing.assert_allclose(answers["torch"], outputs[:20].numpy(), atol=1e-6)
    task = make_task("segmentation")
    wanted = score_of(task, [(outputs, MASKS)])
    assert all(score_of_statistics(task, parts) == wanted for parts in statistics.values())
    assert wanted.n == 40


def test_no_fewer_are_held_than_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, *_ = ask(1, part_bytes=432, monkeypatch=monkeypatch)
    assert len(answers["targets"]) == _test_images.N_SAMPLES


@pytest.mark.parametrize(("side", "fewest", "most"), [(32, 1000, 10**6), (512, 16, 30), (2048, 1, 1)])
def test_stored_samples_stay_far_below_what_is_read(side: int, fewest: int, most: int) -> None:
    test = ArrayDataset(inputs=np.zeros((1, side, side, 3), np.uint8), targets=np.zeros((1, side, side), np.uint8))
    outputs = np.broadcast_to(np.float32(0), (1, 21, side, side))
    assert fewest <= _test_images._stored(test, outputs, in_shape=(3, side, side)) <= most

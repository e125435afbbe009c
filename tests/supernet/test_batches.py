from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from hwnas.data import ArrayDataset
from hwnas.data.augment import Augment, augment_batch
from hwnas.errors import DataError
from hwnas.supernet import batches
from hwnas.supernet.batches import BatchStream, EpochOrder, made_ahead
from tests.supernet.test_training import make_images, make_stream

# 20 samples of a data set of 10 with seed 3, as every version since the first gave them
ORDER = [4, 1, 2, 8, 5, 0, 7, 9, 6, 3, 6, 5, 3, 1, 2, 0, 7, 4, 8, 9]


def augmented_stream() -> BatchStream:
    policy = Augment(shift=0.2, flip=True, erase=0.5)
    return make_stream(make_images(20), augment=lambda x, y, g: (augment_batch(x, policy, generator=g), y))


def test_every_sample_is_seen_once_an_epoch() -> None:
    seen = list(EpochOrder(10, seed=3, start=0, stop=20))
    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


@pytest.mark.parametrize("start", range(0, 20, 3))
def test_the_order_of_an_old_run_is_entered_anywhere(start) -> None:
    assert list(EpochOrder(10, seed=3, start=start, stop=20)) == ORDER[start:]


def test_a_batch_larger_than_the_data_set_goes_through_several_epochs() -> None:
    assert list(EpochOrder(10, seed=3, start=4, stop=19)) == ORDER[4:19]


def test_an_epoch_is_shuffled_once(monkeypatch) -> None:
    shuffled: list[int] = []
    step_rng = batches.step_rng

    def counted(seed: int, step: int, *, stream: int) -> np.random.Generator:
        shuffled.append(step)
        return step_rng(seed, step, stream=stream)

    monkeypatch.setattr(batches, "step_rng", counted)
    list(make_stream(make_images(64)).batches(0, 6))  # of 16
    assert shuffled == [0, 1]


@pytest.mark.parametrize("first", [1, 3])
def test_the_batches_of_a_resumed_run_are_those_of_an_uninterrupted_one(first) -> None:
    whole, rest = list(augmented_stream().batches(0, 5)), list(augmented_stream().batches(first, 5))
    assert len(rest) == 5 - first
    for (x, y), (x2, y2) in zip(whole[first:], rest, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_no_batches_remain_of_a_run_that_is_over() -> None:
    assert list(make_stream().batches(7, 7)) == []


def stream_of(image: object, *, channels: int = 3) -> BatchStream:
    return BatchStream([(image, 7)], batch_size=1, mean=(0.0,) * channels, std=(1.0,) * channels)


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (np.zeros((6, 4), np.uint8), (1, 6, 4)),
        (np.zeros((6, 4, 3), np.uint8), (3, 6, 4)),
        (torch.zeros(3, 6, 4), (3, 6, 4)),
    ],
)
def test_images_of_any_data_set_become_channels_first(image: object, shape: tuple[int, ...]) -> None:
    ((images, labels),) = stream_of(image, channels=shape[0]).unaugmented()
    assert (images.shape, labels.tolist()) == ((1, *shape), [7])


@pytest.mark.parametrize("image", [np.zeros(9, np.uint8), np.zeros((1, 6, 4, 3), np.uint8), torch.zeros(6, 4)])
def test_what_is_no_image_is_told_by_its_shape(image: object) -> None:
    with pytest.raises(DataError, match="an image has shape"):
        next(stream_of(image).unaugmented())


@pytest.mark.parametrize(("n", "sizes"), [(18, [9, 9]), (17, [9, 8]), (16, [16]), (50, [13, 13, 12, 12]), (0, [])])
def test_plain_batches_are_all_samples_in_order_and_of_one_size(n, sizes) -> None:
    """Statistics are means over batches: a last one of one image would count as much as all others."""
    data = make_images(60)
    stream = make_stream(data)
    found = list(stream.unaugmented(n))  # of 16 at most
    assert [len(x) for x, _ in found] == sizes
    assert [label for _, y in found for label in y.tolist()] == data.targets[stream.rows(n)].tolist()


def test_batches_made_ahead_are_the_same_in_the_same_order() -> None:
    plain = list(augmented_stream().batches(0, 12))
    ahead = list(made_ahead(augmented_stream().batches(0, 12)))
    assert len(ahead) == len(plain)
    for (x, y), (x2, y2) in zip(plain, ahead, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_what_goes_wrong_while_batches_are_made_ahead_is_raised_where_they_are_taken() -> None:
    def broken():
        yield from augmented_stream().batches(0, 2)
        raise DataError("an image is damaged")

    taken = made_ahead(broken())
    next(taken)
    next(taken)
    with pytest.raises(DataError, match="damaged"):
        next(taken)


def test_who_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    taken = made_ahead(augmented_stream().batches(0, 1000))
    next(taken)
    assert threading.active_count() == before + 1
    taken.close()
    assert threading.active_count() == before


def test_some_samples_are_drawn_from_all_of_them_and_always_the_same() -> None:
    """Data of folders come class by class: the first ones are of one class."""
    data = ArrayDataset(inputs=np.zeros((300, 4, 4, 2), np.uint8), targets=np.repeat(np.arange(3, dtype=np.int64), 100))
    stream = make_stream(data, batch_size=20)
    rows = stream.rows(60)
    assert (np.diff(rows) > 0).all()
    assert np.bincount(data.targets[rows]).min() > 10
    assert np.array_equal(np.sort(stream.rows(60, shuffled=True)), rows)
    assert np.array_equal(stream.rows(None), np.arange(300))
    assert np.array_equal(stream.rows(1000), np.arange(300))
    of_statistics = [y for _, y in stream.kept(60, shuffled=True)]
    assert all(len(set(y.tolist())) == 3 for y in of_statistics)  # statistics are means over batches
    assert all(len(set(y.tolist())) == 3 for _, y in stream.kept(None, shuffled=True))
    measured = torch.cat([y for _, y in stream.kept(60)])
    assert measured.tolist() == data.targets[rows].tolist()
    again = make_stream(data, batch_size=20, seed=9)
    assert np.array_equal(again.rows(60), rows)

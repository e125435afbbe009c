"""Training on images that are decoded when they are needed is training on those that are kept, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hwnas.data import ArrayDataset, Data, load_data
from hwnas.data.augment import Augment, augment_batch
from hwnas.data.streamed import StreamedImages
from hwnas.errors import DataError
from hwnas.supernet import batches
from hwnas.supernet.batches import BatchStream
from hwnas.testing.spaces import tiny_space
from tests.supernet.test_training import make_trainer

AUGMENT = Augment(shift=0.2, flip=True, erase=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of two classes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(48):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
        pixels[:, 6 * (i % 2) : 6 * (i % 2) + 6] += 120
        Image.fromarray(pixels).save(root / "ab"[i % 2] / f"{i:02d}.jpg")
    return root


@pytest.fixture(autouse=True)
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "processors", lambda: 4)


def loaded(folder: Path, *, stream: str) -> Data:
    return load_data(f"folder:{folder}?size=8&stream={stream}", seed=0)


def stream_of(data: Data, part: ArrayDataset | None = None) -> BatchStream:
    return BatchStream(
        data.train if part is None else part,
        batch_size=16,
        mean=data.mean,
        std=data.std,
        augment=lambda x, y, g: (augment_batch(x, AUGMENT, generator=g), y),
    )


def test_batches_are_those_of_images_in_memory_in_the_same_order(folder: Path) -> None:
    held, streamed = (stream_of(loaded(folder, stream=s)) for s in ("never", "always"))
    assert streamed.is_streamed
    assert not held.is_streamed
    for first in (0, 3):  # a run that goes on, too
        pairs = list(zip(held.batches(first, 7), streamed.batches(first, 7), strict=True))
        assert len(pairs) == 7 - first
        for one, other in pairs:
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


def test_weights_after_training_have_the_same_bits(folder: Path) -> None:
    space = tiny_space(3, 2)
    weights = []
    for stream in ("never", "always"):
        trainer = make_trainer(space, None, stream=stream_of(loaded(folder, stream=stream)))
        trainer.run()
        weights.append(trainer.supernet.state_dict())
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_what_is_gone_through_again_is_the_same_again(folder: Path) -> None:
    held, streamed = (stream_of(loaded(folder, stream=s)).kept(20) for s in ("never", "always"))
    assert isinstance(held, list)
    for _ in range(2):
        again = list(streamed)
        assert [len(y) for _, y in again] == [10, 10]
        for one, other in zip(held, again, strict=True):
            assert torch.equal(one[0], other[0])


def test_some_samples_are_those_of_images_in_memory(folder: Path) -> None:
    held, streamed = (stream_of(loaded(folder, stream=s)) for s in ("never", "always"))
    assert torch.equal(held.at([7, 0, 3]), streamed.at([7, 0, 3]))
    assert torch.equal(held.at([3])[0], next(held.unaugmented())[0][3])
    assert np.array_equal(held.rows(5), streamed.rows(5))


def test_torchs_own_randomness_stays_as_it_was(folder: Path) -> None:
    stream = stream_of(loaded(folder, stream="always"))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(stream.batches(0, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_that_has_gone_meanwhile_is_named_in_one_line(folder: Path) -> None:
    data = loaded(folder, stream="always")
    assert isinstance(data.train.inputs, StreamedImages)
    assert data.train.files is not None
    gone = data.train.files[3]
    content = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(DataError) as caught:
            list(stream_of(data).unaugmented())
    finally:
        gone.write_bytes(content)
    assert str(gone) in str(caught.value)
    assert "\n" not in str(caught.value)

"""Images that are decoded when they are read are those of an array that holds them all."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data import streamed
from hwnas.data.decoding import DecodingRule
from hwnas.data.stored import ImageFile
from hwnas.data.streamed import StreamedImages, image_digest
from hwnas.errors import DataError

N = 23
RULE = DecodingRule(channels=3, size=8)


@pytest.fixture
def held(tmp_path: Path) -> np.ndarray:
    """(N, 8, 8, 3), which also lie in files."""
    images = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    images[:, 0] = 7  # of an uneven distribution
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    return images


@pytest.fixture
def images(tmp_path: Path, held: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> StreamedImages:
    monkeypatch.setattr(streamed, "_PIECE_BYTES", 5 * held[0].nbytes)  # several pieces, the last one shorter
    return StreamedImages([ImageFile(tmp_path / f"{i:02d}.png") for i in range(N)], rule=RULE, shape=(8, 8, 3))


def test_it_looks_like_the_array(images: StreamedImages, held: np.ndarray) -> None:
    assert (images.shape, images.dtype, images.ndim, images.nbytes) == (held.shape, held.dtype, held.ndim, held.nbytes)
    assert len(images) == len(held)


def test_rows_are_those_of_the_array(images: StreamedImages, held: np.ndarray) -> None:
    np.testing.assert_array_equal(images[3], held[3])
    np.testing.assert_array_equal(images[-1], held[-1])
    np.testing.assert_array_equal(images[np.int64(4)], held[4])
    for rows in ([5, 2, 2, 19], np.array([7]), np.arange(N) % 3 == 0, []):
        np.testing.assert_array_equal(images[rows], held[np.asarray(rows, None if len(rows) else np.int64)])
    np.testing.assert_array_equal(np.asarray(images), held)
    np.testing.assert_array_equal(np.stack(list(images)), held)


def test_a_slice_is_a_view_that_opens_no_file(images: StreamedImages, held: np.ndarray, tmp_path: Path) -> None:
    view = images[4:20:3]
    assert isinstance(view, StreamedImages)
    np.testing.assert_array_equal(np.asarray(view), held[4:20:3])
    (tmp_path / "04.png").unlink()
    assert len(images[4:5]) == 1
    with pytest.raises(DataError, match=r"04\.png cannot be read"):
        images[4]


def test_a_view_may_be_in_any_order(images: StreamedImages, held: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(N)
    np.testing.assert_array_equal(np.asarray(images.view(order)), held[order])


def test_the_facts_are_those_of_the_array(images: StreamedImages, held: np.ndarray) -> None:
    facts = images.facts
    for c in range(3):
        np.testing.assert_array_equal(facts.counts[c], np.bincount(held[..., c].ravel(), minlength=256))
    assert facts.brightest == held.max()
    assert facts.digests.tolist() == [image_digest(image) for image in held]


def test_one_pass_is_enough_for_the_facts(images: StreamedImages, held: np.ndarray, tmp_path: Path) -> None:
    whole = b"".join(piece.tobytes() for piece in images.pieces())
    assert whole == held.tobytes()
    for path in tmp_path.iterdir():
        path.unlink()
    assert images.facts.brightest == held.max()


def test_another_process_reads_the_same(images: StreamedImages, held: np.ndarray) -> None:
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images))[[3, 1]], held[[3, 1]])


def test_an_image_that_changes_its_size_meanwhile_is_told(tmp_path: Path, held: np.ndarray) -> None:
    images = StreamedImages([ImageFile(tmp_path / "00.png")], rule=DecodingRule(channels=3), shape=(8, 8, 3))
    Image.new("RGB", (9, 8)).save(tmp_path / "00.png")
    with pytest.raises(DataError, match=r"00\.png is 9x8 pixels, but was 8x8 when it was first read"):
        images[0]

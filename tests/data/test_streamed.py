"""Images that are decoded when they are read are those of an array that holds them all."""

from __future__ import annotations

import io
import pickle
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hwnas.data import Data, load_data, streamed
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


# ---------------------------------------------------------------- as a data set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """JPEGs of several sizes in two classes, one of them twice."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20 + i % 3, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 30 + i % 3)).save(path)
    shutil.copy(tmp_path / "photos" / "a" / "00.jpg", tmp_path / "photos" / "b" / "99.jpg")
    return tmp_path / "photos"


def both(folder: Path, query: str = "size=16", **options: Any) -> tuple[Data, Data]:
    """The data set of a folder, held in memory and streamed."""
    held, streamed = (load_data(f"folder:{folder}?{query}&stream={s}", seed=0, **options) for s in ("never", "always"))
    return held, streamed


def test_a_streamed_data_set_is_the_same_in_every_bit(folder: Path) -> None:
    held, streamed = both(folder)
    assert isinstance(streamed.train.inputs, StreamedImages)
    assert isinstance(held.train.inputs, np.ndarray)
    assert (streamed.mean, streamed.std, streamed.fingerprint) == (held.mean, held.std, held.fingerprint)
    assert streamed.warnings == held.warnings
    assert any(
        "stand under more than one class" in warning or "exactly the same" in warning for warning in held.warnings
    )
    for one, other in zip(*([d.train, d.validation, d.test] for d in (held, streamed)), strict=True):
        np.testing.assert_array_equal(np.asarray(other.inputs), one.inputs)
        np.testing.assert_array_equal(other.targets, one.targets)
        assert other.files == one.files


def test_all_files_are_decoded_twice_to_be_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    read = ImageFile.open
    monkeypatch.setattr(ImageFile, "open", lambda self: opened.append(self.path) or read(self))
    load_data(f"folder:{folder}?size=16&stream=always", seed=0)
    assert len(opened) == 41 * 3  # the header, the pixels, and all that is asked of them


def test_a_piece_at_a_time_is_held_while_all_are_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "_PIECE_BYTES", 1)  # one image each
    pieces, held = StreamedImages.pieces, []

    def counted(self: StreamedImages) -> Iterator[np.ndarray]:
        found: list[weakref.ref[np.ndarray]] = []
        for piece in pieces(self):
            found.append(weakref.ref(piece))
            held.append(sum(ref() is not None for ref in found))
            yield piece

    monkeypatch.setattr(StreamedImages, "pieces", counted)
    load_data(f"folder:{folder}?size=16&stream=always", seed=0)
    assert len(held) > 20
    assert max(held) <= 2  # that which is read, and the last one


def test_images_without_labels_and_with_parts_are_streamed_too(folder: Path, tmp_path: Path) -> None:
    held, streamed = both(folder, "size=16&classes=none", labelled=False)
    assert streamed.fingerprint == held.fingerprint
    shutil.move(folder, tmp_path / "set" / "train")
    shutil.copytree(tmp_path / "set" / "train", tmp_path / "set" / "test")
    held, streamed = both(tmp_path / "set")
    assert streamed.fingerprint == held.fingerprint
    assert len(streamed.test) == 41


def test_what_cannot_be_read_is_left_out_of_both(folder: Path) -> None:
    (folder / "a" / "50.jpg").write_bytes(b"\xff\xd8\xff and no more")
    held, streamed = both(folder, "size=16&unreadable=skip")
    assert streamed.fingerprint == held.fingerprint
    assert [o.count for o in streamed.left_out] == [1]


def test_memory_decides_and_what_was_decided_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_needed = 41 * 16 * 16 * 3
    for free, is_streamed in ((10 * bytes_needed, False), (bytes_needed, True), (None, False)):
        monkeypatch.setattr("hwnas.data.images.available_memory", lambda free=free: free)
        data = load_data(f"folder:{folder}?size=16", seed=0)
        assert isinstance(data.train.inputs, StreamedImages) is is_streamed
        assert any("they are read from their files whenever they are needed" in n for n in data.notes) is is_streamed


def test_images_of_a_table_are_streamed_too(tmp_path: Path) -> None:
    rows = []
    for i in range(24):
        with io.BytesIO() as file:
            Image.fromarray(np.full((8, 8, 3), i * 9, np.uint8)).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
    images = pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    table = pa.table({"image": images, "label": [i % 2 for i in range(24)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=5)
    held, streamed = (load_data(f"datasets:{tmp_path}?stream={s}", seed=0) for s in ("never", "always"))
    assert isinstance(streamed.train.inputs, StreamedImages)
    assert streamed.fingerprint == held.fingerprint

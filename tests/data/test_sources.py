"""Each data source on files as people have them, and on damaged ones."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data import load_data
from hwnas.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)


def refused(spec: str) -> str:
    with pytest.raises(DataError) as caught:
        load_data(spec, seed=0)
    return str(caught.value)


# ---------------------------------------------------------------- idx


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, *, test: bool = True, compress: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for part in ("train", "t10k") if test else ("train",):
        for name, array in ((f"{part}-images-idx3-ubyte", IMAGES), (f"{part}-labels-idx1-ubyte", LABELS)):
            content = idx_bytes(array)
            path = folder / (f"{name}.gz" if compress else name)
            path.write_bytes(gzip.compress(content, mtime=0) if compress else content)
    return folder


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files_are_read_with_their_test_set(tmp_path: Path, *, compress: bool) -> None:
    data = load_data(f"idx:{write_idx(tmp_path, compress=compress)}", seed=0)
    assert np.array_equal(data.test.inputs[..., 0], IMAGES)
    assert np.array_equal(data.test.targets, LABELS)
    assert len(data.train) + len(data.validation) == 40


def test_idx_without_test_files_sets_a_share_aside(tmp_path: Path) -> None:
    assert len(load_data(f"idx:{write_idx(tmp_path, test=False)}", seed=0).test) == 8


def test_a_fashion_folder_gets_class_names_and_is_mirrored(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "fashion-mnist")
    labels = np.arange(40, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    data = load_data(f"idx:{folder}", seed=0)
    assert data.class_names[9] == "Ankle boot"
    assert data.augment.flip


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "has no t10k-labels-idx1-ubyte" in refused(f"idx:{tmp_path}")


def test_an_idx_folder_without_any_file_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert "has no train-images-idx3-ubyte" in (message := refused(f"idx:{tmp_path}"))
    assert "it holds notes.txt" in message


@pytest.mark.parametrize("keep", [0, 3, 10, 200, -1])
@pytest.mark.parametrize("compress", [False, True])
def test_an_idx_file_cut_short_is_refused(tmp_path: Path, *, keep: int, compress: bool) -> None:
    write_idx(tmp_path, compress=compress)
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if compress else ''}"
    path.write_bytes(path.read_bytes()[:keep])
    assert str(path) in refused(f"idx:{tmp_path}")


def test_a_damaged_gzip_stream_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "cannot be read" in refused(f"idx:{tmp_path}")


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"<html>not found</html>")
    assert "is not an idx file" in refused(f"idx:{tmp_path}")


@pytest.mark.parametrize("source", ["idx", "npz", "folder"])
def test_a_path_that_does_not_exist_is_named(source: str) -> None:
    assert "/no/such/place does not exist" in refused(f"{source}:/no/such/place")


@pytest.mark.parametrize("source", ["idx", "npz", "folder"])
def test_a_source_without_its_path_says_so(source: str) -> None:
    assert f"{source}:PATH" in refused(source)


@pytest.mark.parametrize("source", ["idx", "npz", "folder"])
@pytest.mark.parametrize("argument", ["a\0b", "~nobody-of-that-name/x", "x" * 5000, "/dev/zero", "{fifo}", "{file}/x"])
def test_a_path_that_cannot_be_one_is_wrong_input(tmp_path: Path, source: str, argument: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    argument = argument.format(fifo=tmp_path / "fifo", file=tmp_path / "file")
    with pytest.raises((DataError, ConfigError)) as caught:
        load_data(f"{source}:{argument}", seed=0)
    assert caught.value.exit_status == 2
    assert str(caught.value).isprintable()


def test_an_idx_file_that_claims_more_than_it_can_hold_takes_no_memory(tmp_path: Path) -> None:
    write_idx(tmp_path, test=False)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, *[2**31] * 3) + b"x" * 9)
    assert "is the download complete?" in refused(f"idx:{tmp_path}")


@pytest.mark.parametrize("dimensions", [5, 70, 255])
def test_an_idx_file_of_many_dimensions_is_refused(tmp_path: Path, dimensions: int) -> None:
    write_idx(tmp_path, test=False)
    content = bytes([0, 0, 8, dimensions]) + b"\0\0\0\1" * dimensions + b"x"
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    assert f"claims {dimensions} dimensions" in refused(f"idx:{tmp_path}")


def test_idx_files_may_have_longer_names_in_upper_case(tmp_path: Path) -> None:
    for path in list(write_idx(tmp_path).iterdir()):
        path.rename(tmp_path / f"EMNIST-Letters-{path.name.upper()}")
    assert len(load_data(f"idx:{tmp_path}", seed=0).test) == 40


def test_two_data_sets_in_one_idx_folder_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    (tmp_path / "emnist-train-images-idx3-ubyte").write_bytes(path.read_bytes())
    assert "keep one data set in a folder" in refused(f"idx:{tmp_path}")


# ---------------------------------------------------------------- npz


def test_npz_arrays_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(
        path, x_train=IMAGES, y_train=LABELS, x_val=IMAGES[:4], y_val=LABELS[:4], class_names=np.array(list("abcd"))
    )
    data = load_data(f"npz:{path}", seed=0)
    assert (data.name, data.class_names, len(data.validation), len(data.test)) == ("mine", tuple("abcd"), 4, 8)


def test_npz_without_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x_train=IMAGES)
    assert "both x_train and y_train are needed" in refused(f"npz:{tmp_path / 'mine.npz'}")


@pytest.mark.parametrize(
    "names",
    [
        {"X_train": "x", "Y_train": "y", "x_valid": "x", "y_valid": "y"},
        {"train_images": "x", "train_labels": "y", "val_images": "x", "val_labels": "y"},
        {"images": "x", "labels": "y", "images_dev": "x", "targets_dev": "y"},
    ],
)
def test_names_that_say_the_same_are_understood_and_told(tmp_path: Path, names: dict[str, str]) -> None:
    np.savez(tmp_path / "m.npz", **{name: IMAGES if x == "x" else LABELS[:, None] for name, x in names.items()})
    data = load_data(f"npz:{tmp_path / 'm.npz'}", seed=0)
    assert len(data.validation) == 40
    assert "as x_train" in data.notes[0]


def test_names_that_mean_the_same_twice_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x_train=IMAGES, X_train=IMAGES, y_train=LABELS)
    assert "which mean the same" in refused(f"npz:{tmp_path / 'm.npz'}")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(np.array([b"a", b"b\xc3\xa9", b"c", b"d"]), ("a", "bé", "c", "d")), (np.array(list("abcd")), tuple("abcd"))],
)
def test_class_names_are_text(tmp_path: Path, names: np.ndarray, expected: tuple[str, ...]) -> None:
    np.savez(tmp_path / "m.npz", x_train=IMAGES, y_train=LABELS, class_names=names)
    assert load_data(f"npz:{tmp_path / 'm.npz'}", seed=0).class_names == expected


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (np.array([b"a", b"\xe4", b"c", b"d"]), "is not UTF-8"),
        (np.arange(4), "is of type int"),
        (np.array("abcd"), "must be a list of text"),
        (np.array([list("abcd")]), "is of type list"),
        (np.array(["", "b", "c", "d"]), "is empty"),
        (np.array(["a\nb", "b", "c", "d"]), "cannot be printed"),
        (np.array(["a", "a", "c", "d"]), "class names repeat: a"),
    ],
)
def test_class_names_that_are_none_are_refused(tmp_path: Path, names: np.ndarray, says: str) -> None:
    np.savez(tmp_path / "m.npz", x_train=IMAGES, y_train=LABELS, class_names=names)
    assert says in refused(f"npz:{tmp_path / 'm.npz'}")


def test_the_augmentation_may_stand_in_the_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x_train=IMAGES, y_train=LABELS, augment="natural")
    assert load_data(f"npz:{tmp_path / 'm.npz'}", seed=0).augment.flip
    np.savez(tmp_path / "m.npz", x_train=IMAGES, y_train=LABELS, augment=np.array([1, 2]))
    assert "augment is a ndarray" in refused(f"npz:{tmp_path / 'm.npz'}")


def npz_member(header: bytes, values: bytes = b"", *, method: int = zipfile.ZIP_STORED) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", method) as archive:
            for name in ("x_train.npy", "y_train.npy"):
                archive.writestr(name, header + values)
        return file.getvalue()


def npy_header(*shape: int, descr: str = "|u1", version: int = 1) -> bytes:
    with io.BytesIO() as file:
        write = np.lib.format.write_array_header_1_0 if version == 1 else np.lib.format.write_array_header_2_0
        write(file, {"descr": descr, "fortran_order": False, "shape": shape})
        return file.getvalue()


def claiming(content: bytes, size: int) -> bytes:
    """The archive with the sizes of its first member replaced in the central directory."""
    at = content.index(b"PK\x01\x02")
    return content[: at + 20] + struct.pack("<II", min(size, 2**32 - 1), min(size, 2**32 - 1)) + content[at + 28 :]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npz_member(npy_header(10**6, 10**4, 10**3)), "claims 10,000,000,000,000 bytes"),
        (npz_member(npy_header(931 * 10**12)), "claims 931,000,000,000,000 bytes"),
        (npz_member(npy_header(20, 10**9), bytes(10**6), method=zipfile.ZIP_DEFLATED), "claims 20,000,000,000 bytes"),
        (npz_member(npy_header(-5, 8, 8)), "claims the shape"),
        (npz_member(npy_header(4, descr="|O"), bytes(32)), "would have to be unpickled"),
        (npz_member(b"\x93NUMPY\x02\0" + struct.pack("<I", 2**32 - 1) + b"{}"), "claims a header of 4,294,967,295"),
        (npz_member(b"\x93NUMPY\x09\0" + bytes(20)), "has a header of version 9"),
        (npz_member(b"hello"), "is not an array"),
        (claiming(npz_member(npy_header(4, 8, 8), bytes(256)), 2 * 10**9), "claims 2,000,000,000 bytes"),
    ],
)
def test_an_archive_that_claims_what_it_does_not_hold_takes_no_memory(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (path := tmp_path / "m.npz").write_bytes(content)
    assert says in refused(f"npz:{path}")


@pytest.mark.parametrize(("at", "value", "says"), [(8, 1, "is encrypted"), (10, 99, "a method that is not known here")])
def test_an_archive_that_cannot_be_unpacked_is_refused(tmp_path: Path, at: int, value: int, says: str) -> None:
    np.savez(path := tmp_path / "m.npz", x_train=IMAGES, y_train=LABELS)
    content = bytearray(path.read_bytes())
    start = content.find(b"PK\x01\x02")
    while start >= 0:
        content[start + at] |= value
        start = content.find(b"PK\x01\x02", start + 4)
    path.write_bytes(content)
    assert says in refused(f"npz:{path}")


def test_arrays_that_do_not_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.data.memory.available_memory", lambda: 1000)
    np.savez(tmp_path / "m.npz", x_train=IMAGES, y_train=LABELS)
    assert "take 2.6e-06 GB of memory, but 1e-06 GB are free" in refused(f"npz:{tmp_path / 'm.npz'}")


def test_npz_with_an_array_nobody_knows_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x_train=IMAGES, y_train=LABELS, x_tset=IMAGES)
    assert "has x_tset; known are x_train" in refused(f"npz:{tmp_path / 'mine.npz'}")


@pytest.mark.parametrize("keep", [0, 10, 300, -30])
def test_npz_cut_short_is_refused(tmp_path: Path, *, keep: int) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x_train=IMAGES, y_train=LABELS)
    path.write_bytes(path.read_bytes()[:keep])
    assert str(path) in refused(f"npz:{path}")


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9, 0.97])
def test_npz_with_a_flipped_byte_never_fails_otherwise(tmp_path: Path, *, where: float) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, x_train=IMAGES, y_train=LABELS)
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0xFF
    path.write_bytes(content)
    try:
        load_data(f"npz:{path}", seed=0)
    except DataError as e:
        assert str(path) in str(e)  # noqa: PT017 - a byte that does not matter may be flipped too


def test_npz_that_needs_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x_train=np.array([IMAGES, "x"], dtype=object), y_train=LABELS)
    assert "would have to be unpickled" in refused(f"npz:{tmp_path / 'mine.npz'}")


def test_a_bare_npy_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "mine.npz").open("wb") as f:
        np.save(f, IMAGES)
    assert "is not a numpy archive" in refused(f"npz:{tmp_path / 'mine.npz'}")


# ---------------------------------------------------------------- folder


def write_images(root: Path, *, classes: str = "ab", n: int = 10, size: tuple[int, int] = (8, 8)) -> Path:
    for c in classes:
        (root / c).mkdir(parents=True)
        for i in range(n):
            pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / c / f"{i}.png")
    return root


def test_a_folder_of_folders_is_read(tmp_path: Path) -> None:
    data = load_data(f"folder:{write_images(tmp_path / 'pets')}", seed=0)
    assert (data.name, data.class_names, data.in_channels, data.native_size) == ("pets", ("a", "b"), 3, (8, 8))
    assert len(data.train) + len(data.validation) + len(data.test) == 20


def test_pixels_are_kept_exactly(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", n=1)
    data = load_data(f"folder:{tmp_path}", seed=0)
    assert np.array_equal(data.test.inputs[1], np.asarray(Image.open(tmp_path / "test/b/0.png")))


def test_train_validation_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    for part, n in (("train", 5), ("validation", 2), ("test", 3)):
        write_images(tmp_path / part, n=n)
    data = load_data(f"folder:{tmp_path}", seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 4, 6)


def test_a_common_size_is_asked_for_when_sizes_differ(tmp_path: Path) -> None:
    write_images(tmp_path)
    Image.new("RGB", (9, 7)).save(tmp_path / "b" / "odd.png")
    assert "odd.png is 9x7 pixels" in (message := refused(f"folder:{tmp_path}"))
    assert "?size=64" in message


def test_images_are_resized_to_the_size_given(tmp_path: Path) -> None:
    write_images(tmp_path, size=(20, 12))
    assert load_data(f"folder:{tmp_path}?size=16", seed=0).native_size == (16, 16)


def test_grey_images_have_one_channel_and_mixed_ones_three(tmp_path: Path) -> None:
    for c in "ab":
        (tmp_path / c).mkdir()
        for i in range(10):
            Image.fromarray(IMAGES[i]).save(tmp_path / c / f"{i}.png")
    assert load_data(f"folder:{tmp_path}", seed=0).in_channels == 1
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "colour.png")
    assert load_data(f"folder:{tmp_path}", seed=0).in_channels == 3
    assert load_data(f"folder:{tmp_path}?channels=1", seed=0).in_channels == 1


def test_eight_bits_and_sixteen_are_mixed_by_a_range_that_must_be_given(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    for c in "ab":
        (tmp_path / "test" / c).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), 0x80FF, np.uint16)).save(tmp_path / "test" / c / "0.png")
    assert "?range=0..65535" in refused(f"folder:{tmp_path}")
    data = load_data(f"folder:{tmp_path}?range=0..65535", seed=0)
    assert np.all(data.test.inputs == round(0x80FF * 255 / 65535))


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "b" / "3.png").write_bytes(b"not an image")
    assert f"{tmp_path / 'b' / '3.png'} cannot be read" in refused(f"folder:{tmp_path}")


def test_an_image_cut_short_is_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    path = tmp_path / "b" / "3.png"
    path.write_bytes(path.read_bytes()[:-80])
    assert f"{path} cannot be read" in refused(f"folder:{tmp_path}")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "README.txt").touch()
    load_data(f"folder:{tmp_path}", seed=0)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cats").mkdir()
    assert "the class 'cats' has no image" in refused(f"folder:{tmp_path}")


def test_a_folder_with_images_only_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    assert "one folder a class" in refused(f"folder:{tmp_path}")


def test_one_class_folder_is_refused(tmp_path: Path) -> None:
    assert "one class only" in refused(f"folder:{write_images(tmp_path / 'x', classes='a')}")


def test_parts_with_different_classes_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", classes="abc")
    write_images(tmp_path / "test", classes="ab")
    assert "different classes: c" in refused(f"folder:{tmp_path}")


@pytest.mark.parametrize("option", ["size=0", "size=big", "channels=2"])
def test_an_option_out_of_range_says_what_is_allowed(tmp_path: Path, *, option: str) -> None:
    assert "must be" in refused(f"folder:{tmp_path}?{option}")

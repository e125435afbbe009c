"""Folders of images with masks: which layouts are read, what every pixel becomes, and what is refused by its name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data import Data, load_data
from hwnas.data.targets import CLASS_INDICES, MASKS
from hwnas.errors import DataError

RNG = np.random.default_rng(0)


def plant(folder: Path, *, images: str = "images", masks: str = "masks", n: int = 10, size: int = 12) -> Path:
    """Photos whose left halves are of class 0, right halves of class 1, and the mask's first row unknown."""
    for name in (images, masks):
        (folder / name).mkdir(parents=True, exist_ok=True)
    classes = np.zeros((size, size), np.uint8)
    classes[:, size // 2 :] = 1
    classes[0] = 255
    for i in range(n):
        pixels = RNG.integers(0, 100, (size, size, 3), dtype=np.uint8) + 100 * (classes == 1)[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / images / f"{i}.jpg", quality=95)
        Image.fromarray(classes).save(folder / masks / f"{i}.png")
    return folder


def load(folder: Path, options: str = "") -> Data:
    return load_data(f"folder:{folder}{options}", seed=0, targets=MASKS)


def refused(folder: Path, options: str = "") -> str:
    with pytest.raises(DataError) as caught:
        load(folder, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sizes(data: Data) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), len(data.test)


# ---------------------------------------------------------------- layouts


def test_two_folders_are_images_and_their_masks(tmp_path: Path) -> None:
    data = load(plant(tmp_path))
    assert sum(sizes(data)) == 10
    assert data.class_names == ("0", "1")
    assert data.train.inputs.shape[1:] == (12, 12, 3)
    assert data.train.targets.shape[1:] == (12, 12)
    assert (data.train.targets[:, 0] == 255).all()
    assert (data.train.targets[:, 1:, 6:] == 1).all()
    assert data.train.files is not None
    assert data.train.files[0].parent.name == "images"


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{}/images", "{}/masks"),
        ("images/{}", "masks/{}"),
        ("{}_images", "{}_masks"),
        ("{}/imgs", "{}/labels"),
        ("{0}/{0}_images", "{0}/{0}_masks"),
        ("unpacked/images/{}", "unpacked/annotations/{}"),
    ],
)
def test_parts_are_known_in_common_layouts(tmp_path: Path, images: str, masks: str) -> None:
    for part, n in (("train", 6), ("val", 3), ("test", 2)):
        plant(tmp_path, images=images.format(part), masks=masks.format(part), n=n)
    assert sizes(load(tmp_path)) == (6, 3, 2)


@pytest.mark.parametrize(("images", "masks"), [("{}/images", "{}/masks"), ("images/{}", "masks/{}")])
def test_parts_of_other_names_are_told(tmp_path: Path, images: str, masks: str) -> None:
    for part, n in (("Learn", 6), ("Check", 3)):
        plant(tmp_path, images=images.format(part), masks=masks.format(part), n=n)
    data = load(tmp_path, "?train=Learn&val=Check")
    assert len(data.validation) == 3
    assert len(data.train) + len(data.test) == 6


def test_another_part_beside_validation_is_the_test(tmp_path: Path) -> None:
    for part, n in (("training", 6), ("valid", 3), ("eval", 2)):
        plant(tmp_path, images=f"{part}/images", masks=f"{part}/masks", n=n)
    assert sizes(load(tmp_path)) == (6, 3, 2)


@pytest.mark.parametrize("options", ["?train=tr&test=tr", "?train=tr&test=tr/more"])
def test_parts_that_overlap_are_refused(tmp_path: Path, options: str) -> None:
    plant(plant(tmp_path / "tr") / "more")
    assert "the folder of the test images lies in that of the training images" in refused(tmp_path, options)


def test_folders_that_are_named_are_those_below_the_one_that_is_given(tmp_path: Path) -> None:
    plant(tmp_path / "alone" / "tr", n=7)
    assert sum(sizes(load(tmp_path / "alone", "?train=tr"))) == 7
    plant(plant(tmp_path / "beside") / "holdout", n=6)
    assert sum(sizes(load(tmp_path / "beside", "?train=holdout"))) == 6


def test_a_part_of_images_alone_is_named_with_what_to_do(tmp_path: Path) -> None:
    plant(tmp_path, images="images/train", masks="masks/train")
    plant(tmp_path, images="images/test", masks="elsewhere")
    assert "images in " in (said := refused(tmp_path))
    assert "has a part 'test' that masks has not; add it, or name the parts" in said


def test_what_may_be_either_part_is_asked_about(tmp_path: Path) -> None:
    for part in ("train", "eval"):
        plant(tmp_path, images=f"{part}/images", masks=f"{part}/masks")
    assert "may be for validation or for the test" in refused(tmp_path)


def test_folders_below_are_matched_by_their_names(tmp_path: Path) -> None:
    for city in ("bonn", "ulm"):
        plant(tmp_path, images=f"images/{city}", masks=f"masks/{city}", n=5)
    assert sum(sizes(load(tmp_path))) == 10


def test_what_lies_elsewhere_is_told(tmp_path: Path) -> None:
    plant(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "preview.png")
    (tmp_path / "images" / "notes.txt").touch()
    told = {item.reason: item.count for item in load(tmp_path).left_out}
    assert told == {"outside the folders of images and masks": 1, "not an image": 1}


def test_a_folder_of_classes_is_refused_with_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cats" / "a.png")
    assert "a segmentation reads images/ and masks/" in refused(tmp_path)


def test_images_alone_are_read_for_other_tasks_as_before(tmp_path: Path) -> None:
    plant(tmp_path)
    data = load_data(f"folder:{tmp_path}", seed=0, targets=CLASS_INDICES)
    assert data.class_names == ("images", "masks")
    unlabelled = load_data(f"folder:{tmp_path / 'images'}?classes=none", seed=0, labelled=False, targets=MASKS)
    assert not unlabelled.train.is_labelled
    with pytest.raises(
        DataError, match=r"has masks beside its images.*name the images alone: folder:.*images\?classes"
    ):
        load_data(f"folder:{tmp_path}", seed=0, labelled=False, targets=MASKS)


# ---------------------------------------------------------------- pixels


def test_masks_are_cut_and_resized_as_their_images(tmp_path: Path) -> None:
    plant(tmp_path)
    wide = np.zeros((24, 32), np.uint8)  # the centred square is from column 4 to 28
    wide[:, :16] = 1
    wide[:, :4] = 2
    Image.fromarray(wide * 80).save(tmp_path / "images" / "wide.png")
    Image.fromarray(wide).save(tmp_path / "masks" / "wide.png")
    plant(tmp_path, n=10)
    data = load(tmp_path, "?size=6&channels=1")
    (found,) = [
        (part.inputs[i, ..., 0], part.targets[i])
        for part in (data.train, data.validation, data.test)
        for i, file in enumerate(part.files or ())
        if file.name == "wide.png"
    ]
    assert found[1].tolist() == [[1, 1, 1, 0, 0, 0]] * 6
    assert ((found[0] > 40) == (found[1] == 1)).all()


@pytest.mark.parametrize("stored", ["palette", "one bit", "two bits", "four bits", "sixteen bits"])
def test_values_are_those_that_are_stored(tmp_path: Path, stored: str) -> None:
    plant(tmp_path)
    classes = np.zeros((12, 12), np.uint8)
    classes[:, 6:] = 1
    for i in range(10):
        path = tmp_path / "masks" / f"{i}.png"
        if stored == "palette":
            image = Image.new("P", (12, 12))
            image.putdata(classes.ravel().tolist())
            image.putpalette([200, 10, 10, 10, 200, 10])
            image.save(path)
        elif stored == "one bit":
            Image.fromarray(classes.astype(bool)).save(path)
        elif stored == "sixteen bits":
            Image.fromarray(classes.astype(np.uint16)).save(path)
        else:
            path.write_bytes(grey_png(classes, bits=2 if stored == "two bits" else 4))
    data = load(tmp_path)
    assert all((mask == classes).all() for mask in data.train.targets)


def grey_png(values: np.ndarray, *, bits: int) -> bytes:
    """A PNG of a few bits of grey, which Pillow reads but does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape
    planes = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1  # (H, W, bits), the highest first
    rows = np.packbits(planes.reshape(height, -1), axis=1)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_classes_are_named_by_a_file(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "classes.txt").write_text("\ufeffroad\nHäuser\n", encoding="utf-8")
    data = load(tmp_path)
    assert (data.class_names, data.left_out) == (("road", "Häuser"), ())
    plant(tmp_path / "archive" / "inner")
    (tmp_path / "archive" / "classes.txt").write_text("grass\nroof\n")
    assert load(tmp_path / "archive").class_names == ("grass", "roof")


def test_streamed_images_have_the_same_masks(tmp_path: Path) -> None:
    plant(tmp_path)
    held, streamed = (load(tmp_path, f"?stream={s}") for s in ("never", "always"))
    assert held.fingerprint == streamed.fingerprint


def test_images_that_cannot_be_read_are_skipped_with_their_masks(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "images" / "3.jpg").write_bytes(b"damaged")
    (tmp_path / "images" / "4.jpg").rename(tmp_path / "images" / "4.heic")
    assert "4.heic cannot be used" in refused(tmp_path)
    data = load(tmp_path, "?unreadable=skip")
    assert sum(sizes(data)) == 8
    assert sum(item.count for item in data.left_out if item.image) == 2


# ---------------------------------------------------------------- what is refused, by its name


def test_an_image_without_a_mask_is_named(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "masks" / "3.png").unlink()
    message = refused(tmp_path)
    assert "images of which there is not a mask" in message
    assert "images/3.jpg" in message


def test_a_mask_without_an_image_is_named(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "images" / "3.jpg").unlink()
    assert "masks/3.png; add what is missing, or remove the mask" in refused(tmp_path)


def test_two_images_of_one_name_are_named(tmp_path: Path) -> None:
    plant(tmp_path)
    Image.new("RGB", (12, 12)).save(tmp_path / "images" / "3.png")
    assert "3.jpg and" in (message := refused(tmp_path))
    assert "3.png differ in their endings only" in message


def change(folder: Path, mask: Image.Image | np.ndarray, ending: str = "png") -> Path:
    """Another mask of image 7."""
    image = Image.fromarray(mask) if isinstance(mask, np.ndarray) else mask
    (folder / "masks" / "7.png").unlink()
    image.save(folder / "masks" / f"7.{ending}")
    return folder


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_coloured_mask_is_refused_with_what_to_do(tmp_path: Path, mode: str) -> None:
    message = refused(change(plant(tmp_path), Image.new(mode, (12, 12))))
    assert f"masks/7.png is coloured ({mode})" in message
    assert "0 for the first class, 1 for the second" in message


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    message = refused(change(plant(tmp_path), np.zeros((12, 16), np.uint8)), "?size=8")
    assert "masks/7.png is 16x12 pixels, but its image" in message
    assert "images/7.jpg 12x12" in message


def test_a_mask_that_is_no_png_is_refused(tmp_path: Path) -> None:
    assert "masks/7.jpg is a JPEG file, but masks must be PNG" in refused(
        change(plant(tmp_path), np.zeros((12, 12), np.uint8), "jpg")
    )


def test_values_beyond_the_named_classes_are_refused(tmp_path: Path) -> None:
    change(plant(tmp_path), np.full((12, 12), 2, np.uint8))
    (tmp_path / "classes.txt").write_text("road\nhouse\n")
    assert "masks/7.png has a pixel of class 2, but classes.txt names 2 classes" in refused(tmp_path)


def test_a_named_class_without_a_pixel_is_refused(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "classes.txt").write_text("road\nhouse\ntree\n")
    assert "no training mask has a pixel of class 2 (tree), which classes.txt names" in refused(tmp_path)


def test_values_beyond_those_of_training_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, images="train/images", masks="train/masks")
    change(plant(tmp_path / "test"), np.full((12, 12), 2, np.uint8))
    assert "test/masks/7.png has a pixel of class 2, but the training masks have 2 classes" in refused(tmp_path)


def test_a_gap_in_the_classes_is_refused(tmp_path: Path) -> None:
    message = refused(change(plant(tmp_path), np.full((12, 12), 128, np.uint8)))
    assert "masks/7.png has a pixel of class 128, but no training mask one of class 2" in message


def test_values_of_more_than_a_byte_are_refused(tmp_path: Path) -> None:
    message = refused(change(plant(tmp_path), np.full((12, 12), 4000, np.uint16)))
    assert "masks/7.png has a pixel of value 4000" in message


def test_masks_of_0_and_255_are_refused_with_what_to_do(tmp_path: Path) -> None:
    plant(tmp_path)
    for i in range(10):
        mask = np.zeros((12, 12), np.uint8)
        mask[4:8] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    assert "hold 0 and 255 only" in (message := refused(tmp_path))
    assert "save 1 for what is now 255" in message


def test_options_of_class_folders_are_refused(tmp_path: Path) -> None:
    assert "has no option 'parts'" in refused(plant(tmp_path), "?parts=none")

"""Which folders become parts and which classes; what is left out is counted and told."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data import Data, load_data
from hwnas.data.discovery import NO_CLASS, Discovery, FolderOptions, discover
from hwnas.errors import DataError


def plant(root: Path, *paths: str, classes: Sequence[str] = ("a", "b"), n: int = 3) -> Path:
    """Empty files named like images (nothing is decoded here): `paths` with one folder a class in each."""
    for path in paths or (".",):
        for name in classes:
            (root / path / name).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                (root / path / name / f"{i}.png").touch()
    return root


def found(root: Path, **options: object) -> Discovery:
    return discover(root, source="folder:photos", options=FolderOptions(**options))  # type: ignore[arg-type]


def counts(discovery: Discovery) -> dict[str, dict[str, int]]:
    return {part: {name: len(files) for name, files in held.items()} for part, held in discovery.files.items()}


def refused(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        found(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


BOTH = {"a": 3, "b": 3}


# ---------------------------------------------------------------- parts in any spelling


@pytest.mark.parametrize(
    "names",
    [
        {"train": "Train", "test": "Test"},
        {"train": "Training", "test": "Testing"},
        {"train": "TRAIN", "val": "dev", "test": "TEST"},
        {"train": "seg_train", "test": "seg_test"},
        {"train": "train_set", "val": "valid_set", "test": "test_set"},
        {"train": "01_train", "val": "02_val2", "test": "03_test"},
        {"train": "Training set", "test": "images_test"},
        {"train": "train", "val": "val", "test": "eval"},
        {"train": "train", "val": "evaluation", "test": "test"},
        {"train": "训练集", "val": "验证集", "test": "测试集"},
        {"train": "entrenamiento", "test": "prueba"},
        {"train": "train"},
        {"train": "train", "val": "val"},
    ],
)
def test_parts_are_recognised(tmp_path: Path, names: Mapping[str, str]) -> None:
    plant(tmp_path, *names.values())
    assert counts(found(tmp_path)) == dict.fromkeys(names, BOTH)


@pytest.mark.parametrize("wrapper", ["dataset", "a/b/c", "chest_xray/chest_xray"])
def test_wrappers_are_opened_and_told(tmp_path: Path, wrapper: str) -> None:
    plant(tmp_path, f"{wrapper}/train", f"{wrapper}/test")
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "train" / "._0.png").touch()
    discovery = found(tmp_path)
    assert counts(discovery) == {"train": BOTH, "test": BOTH}
    assert any(wrapper in note for note in discovery.notes)


def test_a_wrapper_above_classes_is_opened(tmp_path: Path) -> None:
    assert counts(found(plant(tmp_path, "dataset"))) == {"train": BOTH}


def test_a_wrapper_inside_each_part_is_opened(tmp_path: Path) -> None:
    plant(tmp_path, "seg_train/seg_train", "seg_test/seg_test")
    assert counts(found(tmp_path)) == {"train": BOTH, "test": BOTH}


# ---------------------------------------------------------------- parts whose images nobody has labelled


@pytest.mark.parametrize(
    ("flat", "name", "n"),
    [
        ("test", "test", 2),
        ("Test images", "Test images", 2),
        ("val/images", "val", 2),
        ("test/test", "test", 2),
        ("asl_alphabet_test/asl_alphabet_test", "asl_alphabet_test", 2),
        ("seg_pred/seg_pred", "seg_pred", 2),
        ("unlabeled", "unlabeled", 2),
    ],
)
def test_a_part_without_classes_beside_one_with_them_is_left_out_and_told(
    tmp_path: Path, flat: str, name: str, n: int
) -> None:
    plant(tmp_path, "seg_train/seg_train")
    (tmp_path / flat).mkdir(parents=True)
    for i in range(n):
        (tmp_path / flat / f"{i}.jpg").touch()
    discovery = found(tmp_path)
    assert counts(discovery) == {"train": BOTH}
    assert f"the folder {name!r} has no folders of classes, so its {n} images have no labels" in discovery.warnings[0]
    assert [(o.count, o.image) for o in discovery.left_out] == [(n, True)]


def test_a_part_with_classes_is_used_beside_one_without(tmp_path: Path) -> None:
    plant(tmp_path, "train", "val")
    plant(tmp_path, classes=("test",))
    assert counts(found(tmp_path)) == {"train": BOTH, "val": BOTH}


def test_images_to_be_predicted_are_not_used_though_they_lie_in_folders(tmp_path: Path) -> None:
    plant(tmp_path, "train", "test", "predictions")
    assert counts(found(tmp_path)) == {"train": BOTH, "test": BOTH}


def test_without_training_images_in_classes_nothing_is_left_out_by_its_name(tmp_path: Path) -> None:
    plant(tmp_path, "val")
    plant(tmp_path, classes=("test",))
    assert "'val' holds folders, as parts of a data set do, but 'test' stands beside" in refused(tmp_path)


def test_a_folder_of_images_in_each_class_is_opened(tmp_path: Path) -> None:
    for name in "ab":
        plant(tmp_path / "train" / name, classes=("images",))
    discovery = found(tmp_path)
    assert counts(discovery) == {"train": BOTH}
    assert "6 images lie in sub-folders of their class" in discovery.notes


# ---------------------------------------------------------------- what is ambiguous is asked about


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (["train", "val", "validation"], "'val' and 'validation' are both names for the validation images"),
        (["train", "test_a", "test_b"], "are both names for the test images"),
        (["train", "eval"], "'eval' may be for validation or for the test"),
        (["test", "val"], "no folder of training images"),
        (["2019", "2020"], "'2019' and '2020' hold folders of images"),
        (["train", "test", "extra"], "but 'extra' stands beside"),
        (["lower", "upper", "train"], "but 'lower' and 'upper' stand beside"),
    ],
)
def test_folders_of_folders_are_asked_about(tmp_path: Path, parts: list[str], says: str) -> None:
    message = refused(plant(tmp_path, *parts))
    assert says in message
    assert "folder:photos?train=" in message
    assert "folder:photos?parts=none" in message


def test_a_class_that_is_called_train_and_holds_folders_is_asked_about(tmp_path: Path) -> None:
    plant(tmp_path, classes=("bus", "car"))
    plant(tmp_path, "train", classes=("old", "new"))
    assert "'train' holds folders" in refused(tmp_path)
    assert counts(found(tmp_path, no_parts=True)) == {"train": {"bus": 3, "car": 3, "train": 6}}
    assert counts(found(tmp_path, folders={"train": "train"})) == {"train": {"new": 3, "old": 3}}


@pytest.mark.parametrize("classes", [("train", "test"), ("Training", "Testing"), ("seg_train", "seg_test"), ("train",)])
def test_parts_without_classes_are_never_classes(tmp_path: Path, classes: Sequence[str]) -> None:
    plant(tmp_path, classes=classes)
    assert "named like parts of a data set, but hold images" in refused(tmp_path)
    assert set(counts(found(tmp_path, no_parts=True))["train"]) == set(classes)


@pytest.mark.parametrize("classes", [("bus", "car", "train"), ("invalid", "valid"), ("other", "test")])
def test_a_class_that_is_really_called_like_a_part_works_and_is_told(tmp_path: Path, classes: Sequence[str]) -> None:
    discovery = found(plant(tmp_path, classes=classes))
    assert counts(discovery) == {"train": dict.fromkeys(classes, 3)}
    assert "is taken as a class" in discovery.warnings[0]


def test_classes_whose_names_only_contain_a_part_work_without_a_word(tmp_path: Path) -> None:
    discovery = found(plant(tmp_path, classes=("bullet train", "freight train", "contest")))
    assert len(counts(discovery)["train"]) == 3
    assert not discovery.warnings


def test_classes_of_a_part_that_hold_folders_are_asked_about(tmp_path: Path) -> None:
    plant(tmp_path, "train/animals", "train/cars", "test/animals", "test/cars")
    assert "'animals' and 'cars' hold folders of images" in refused(tmp_path)
    held = found(tmp_path, folders={"train": "train", "test": "test"})
    assert counts(held)["test"] == {"animals": 6, "cars": 6}
    assert "lie in sub-folders of their class" in " ".join(held.notes)


# ---------------------------------------------------------------- what the user says


def test_parts_may_be_named(tmp_path: Path) -> None:
    plant(tmp_path, "lots", "few/inner", "else")
    discovery = found(tmp_path, folders={"train": "lots", "test": "few/inner"})
    assert counts(discovery) == {"train": BOTH, "test": BOTH}
    assert [(o.reason, o.count) for o in discovery.left_out] == [("in the folder else, which is not used", 6)]


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        ({"test": "test"}, "name the folder of the training images too"),
        ({"train": "tarin"}, "has no folder 'tarin' (option train); it holds test, train"),
        ({"train": "../x"}, "must be a folder below"),
        ({"train": "/etc"}, "must be a folder below"),
        ({"train": "train", "test": "train"}, "lies in that of"),
        ({"train": "train", "test": "train/a"}, "lies in that of"),
    ],
)
def test_named_parts_that_cannot_be_are_refused(tmp_path: Path, folders: Mapping[str, str], says: str) -> None:
    assert says in refused(plant(tmp_path, "train", "test"), folders=folders)


def test_options_reach_the_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("mine", 6), ("yours", 2)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / part / name / f"{i}.png")
    data = load_data(f"folder:{tmp_path}?train=mine&test=yours", seed=0)
    assert (len(data.train) + len(data.validation), len(data.test)) == (12, 4)
    for option in ("parts=some", "unreadable=maybe", "ground=pink", "range=3", "range=5..1", "parts=none&train=mine"):
        with pytest.raises(DataError, match=option.partition("=")[0]):
            load_data(f"folder:{tmp_path}?{option}", seed=0)


# ---------------------------------------------------------------- what is not used


def reasons(discovery: Discovery) -> set[str]:
    return {o.reason for o in discovery.left_out}


def test_everything_that_is_left_out_is_counted_with_its_part_class_and_reason(tmp_path: Path) -> None:
    plant(tmp_path, "train", "test")
    a = tmp_path / "train" / "a"
    (a / ".ipynb_checkpoints").mkdir()
    (a / "@eaDir" / "0.png").mkdir(parents=True)
    for path in (
        ".ipynb_checkpoints/0-checkpoint.png",
        ".ipynb_checkpoints/1.png",
        "._0.png",
        "Thumbs.db",
        "notes.txt",
    ):
        (a / path).touch()
    (a / "@eaDir/0.png/SYNO.jpg").touch()
    (a / "clip.mpg").write_bytes(b"\0\0\1\xba")
    (a / "0.png.bak").write_bytes(b"\xff\xd8\xff")
    os.mkfifo(a / "pipe.png")
    (tmp_path / "train" / "grid.png").touch()
    (tmp_path / "labels.csv").touch()
    (tmp_path / "annotations").mkdir()
    listed = {(o.part, o.class_name, o.reason, o.count) for o in found(tmp_path).left_out}
    assert listed == {
        ("train", "a", "hidden (the name begins with a dot)", 3),
        ("train", "a", "made by a system or program, not by people", 2),
        ("train", "a", "not an image", 2),
        ("train", "a", "an image, but a copy or an unfinished download by its name", 1),
        ("train", "a", "a pipe, socket or device, not a file", 1),
        ("train", "", "an image beside the folders of classes", 1),
        ("", "", "a folder without images", 1),
        ("", "", "not an image", 1),
    }


def test_images_of_kinds_that_cannot_be_read_are_refused_or_left_out_by_request(tmp_path: Path) -> None:
    plant(tmp_path)
    for i in range(40):
        (tmp_path / "a" / f"IMG_{i}.HEIC").touch()
    (tmp_path / "b" / "photo").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    message = refused(tmp_path)
    assert "41 of the files cannot be used: 41 × an image of a kind that cannot be read here (HEIC)" in message
    assert "unreadable=skip" in message
    discovery = found(tmp_path, skip_unreadable=True)
    assert counts(discovery) == {"train": BOTH}
    assert [(o.class_name, o.count, o.image) for o in discovery.left_out] == [("a", 40, True), ("b", 1, True)]


def test_files_without_an_ending_are_read_by_their_content(tmp_path: Path) -> None:
    plant(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "a" / "photo", "JPEG")
    (tmp_path / "a" / "README").write_text("about")
    discovery = found(tmp_path)
    assert counts(discovery)["train"]["a"] == 4
    assert "1 files without an image's ending are images, and used" in discovery.notes


def test_tools_folders_are_no_classes(tmp_path: Path) -> None:
    plant(tmp_path)
    for name in ("@eaDir", "lost+found", "__MACOSX", ".git", "$RECYCLE.BIN", "System Volume Information"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
    assert counts(found(tmp_path)) == {"train": BOTH}


# ---------------------------------------------------------------- links and names


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    plant(tmp_path / "set")
    plant(tmp_path, "far", classes=("c",))
    (tmp_path / "set" / "c").symlink_to(tmp_path / "far" / "c")
    (tmp_path / "set" / "a" / "again").symlink_to(tmp_path / "set")
    discovery = found(tmp_path / "set")
    assert counts(discovery) == {"train": BOTH | {"c": 3}}
    assert "a link that leads back to a folder above it" in reasons(discovery)


@pytest.mark.parametrize("at", ["a/gone.png", "gone"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, at: str) -> None:
    plant(tmp_path)
    (tmp_path / at).symlink_to("/nowhere/at/all")
    assert "1 × a link that leads nowhere" in refused(tmp_path)


def test_a_class_whose_name_is_not_utf8_is_refused_at_once(tmp_path: Path) -> None:
    plant(tmp_path)
    os.makedirs(os.fsencode(tmp_path) + b"/K\xe4fer")
    with open(os.fsencode(tmp_path) + b"/K\xe4fer/0.png", "wb"):
        pass
    message = refused(tmp_path)
    assert r"K\xe4fer" in message
    assert "is not UTF-8" in message
    message.encode()


def test_a_class_whose_name_moves_the_cursor_is_refused(tmp_path: Path) -> None:
    assert "cannot be printed" in (message := refused(plant(tmp_path, classes=("a", "b\x1b[2J"))))
    assert "\x1b" not in message


def test_names_composed_in_two_ways_are_one_class(tmp_path: Path) -> None:
    plant(tmp_path, "train", classes=("Gr\u00f6\u00dfe", "b"))
    plant(tmp_path, "test", classes=("Gro\u0308\u00dfe", "b"))
    assert list(counts(found(tmp_path))["test"]) == ["Gr\u00f6\u00dfe", "b"]


def test_two_folders_with_one_name_are_refused(tmp_path: Path) -> None:
    assert "have the same name" in refused(plant(tmp_path, classes=("Gr\u00f6\u00dfe", "Gro\u0308\u00dfe")))


def test_classes_that_differ_by_case_are_told(tmp_path: Path) -> None:
    assert (
        "Cat and cat differ by upper and lower case only" in found(plant(tmp_path, classes=("Cat", "cat"))).warnings[0]
    )


def test_parts_with_other_classes_are_refused_with_how_to_leave_them_out(tmp_path: Path) -> None:
    plant(tmp_path, "train", "val")
    plant(tmp_path, "test", classes=("unknown",))
    assert "leave the test images out: folder:photos?train=train&val=val" in refused(tmp_path)


# ---------------------------------------------------------------- images by one rule


def test_damaged_images_are_left_out_by_request_and_a_class_that_is_lost_so_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = {f"{i}.png": Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)) for i in range(5)}
    write(tmp_path, images)
    (tmp_path / "b" / "9.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"9\.jpg cannot be read"):
        write(tmp_path, images)
    left_out = write(tmp_path, images, unreadable="skip").left_out
    assert [(o.part, o.class_name, o.count, o.image) for o in left_out] == [("train", "b", 1, True)]
    for i in range(5):
        (tmp_path / "b" / f"{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match="not one image of the class 'b' can be read"):
        write(tmp_path, {}, unreadable="skip")


@pytest.mark.parametrize("seen", [("a", "a"), ("b", "a")])
def test_headers_are_told(tmp_path: Path, seen: tuple[str, str]) -> None:
    rng = np.random.default_rng(0)
    images = {f"{i}.tif": Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for i in range(5)}
    data = write(tmp_path, images)
    assert (data.notes, data.warnings) == ((), ())
    for name in seen:
        path = tmp_path / name / "0.tif"
        frames = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert("CMYK") for _ in range(2)]
        frames[0].save(path, save_all=True, append_images=frames[1:], icc_profile=b"Coated FOGRA39")
    data = load_data(f"folder:{tmp_path}", seed=0)
    n = len(set(seen))
    assert data.notes == (
        f"{n} images have several frames or pages: the first is used",
        f"{n} images are CMYK: converted to RGB without a colour profile",
    )
    assert f"{n} images have a colour profile other than sRGB" in data.warnings[0]


def write(root: Path, images: Mapping[str, Image.Image], **options: object) -> Data:
    for name in "ab":
        (root / name).mkdir(parents=True, exist_ok=True)
        for file, image in images.items():
            turned = image if name == "a" else image.transpose(Image.Transpose.TRANSPOSE)
            turned.save(root / name / file)
    query = "&".join(f"{k}={v}" for k, v in options.items())
    return load_data(f"folder:{root}" + (f"?{query}" if query else ""), seed=0)


def ramps(top: int, *, low: int = 0) -> dict[str, Image.Image]:
    values = np.linspace(low, top, 64).round().astype(np.uint16).reshape(8, 8)
    return {f"{i}.png": Image.fromarray(np.roll(values, i, axis=0)) for i in range(6)}


@pytest.mark.parametrize(("low", "top"), [(0, 4095), (0, 1023), (0, 65535), (29_000, 31_000)])
def test_deep_grey_spans_all_of_0_to_255_by_one_range_that_is_told(tmp_path: Path, low: int, top: int) -> None:
    data = write(tmp_path, ramps(top, low=low))
    assert len(np.unique(data.train.inputs)) == 64
    assert data.decoding is not None
    assert data.decoding.value_range == (low, top)
    assert any(f"{low}..{top} becomes 0..255" in note for note in data.notes)


def test_images_are_not_stretched_one_by_one(tmp_path: Path) -> None:
    dark = Image.fromarray((np.arange(64, dtype=np.uint16) * 10).reshape(8, 8))
    data = write(tmp_path, ramps(65535) | {"dark.png": dark})
    everything = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert sorted(everything.max(axis=(1, 2, 3)))[:2] == [2, 2]


def test_a_range_that_one_pixel_has_made_is_doubted(tmp_path: Path) -> None:
    values = np.linspace(29_000, 31_000, 4096).round().astype(np.uint16).reshape(64, 64)
    hot = values.copy()
    hot[3, 3] = 65535
    images = {f"{i}.png": Image.fromarray(np.roll(values, i, axis=0)) for i in range(5)}
    data = write(tmp_path, images | {"hot.png": Image.fromarray(hot)})
    assert any("few grey levels" in warning for warning in data.warnings)


def test_ink_on_alpha_and_flat_images_become_the_same(tmp_path: Path) -> None:
    flat, ink = {}, {}
    for i in range(4):
        drawn = np.zeros((8, 8), np.uint8)
        drawn[1 : 3 + i, 2:5] = 255
        flat[f"flat{i}.png"] = Image.fromarray(255 - drawn).convert("RGB")
        layer = Image.new("RGBA", (8, 8))
        layer.putalpha(Image.fromarray(drawn))
        ink[f"ink{i}.png"] = layer
    data = write(tmp_path, flat | ink)
    everything = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert len(np.unique(everything.reshape(len(everything), -1), axis=0)) == 8
    assert any("8 images are transparent in places: laid on a white ground" in note for note in data.notes)
    with pytest.raises(DataError, match=r"8 images show nothing on a black ground.*ground=white"):
        write(tmp_path, {}, ground="black")


# ---------------------------------------------------------------- folders that are no classes


def test_without_classes_every_image_below_is_taken(tmp_path: Path) -> None:
    plant(tmp_path, "2024", "2025/more")
    (tmp_path / "here.png").touch()
    found_there = found(tmp_path, no_classes=True)
    assert counts(found_there) == {"train": {NO_CLASS: 13}}
    assert not any("sub-folders of their class" in note for note in found_there.notes)


def test_without_classes_parts_are_those_that_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "train", "final")
    (tmp_path / "final" / "flat.png").touch()
    named = found(tmp_path, no_classes=True, folders={"train": "train", "test": "final"})
    assert counts(named) == {"train": {NO_CLASS: 6}, "test": {NO_CLASS: 7}}
    assert counts(found(tmp_path, no_classes=True)) == {"train": {NO_CLASS: 13}}  # no name is guessed from


def test_a_folder_without_an_image_is_refused_without_classes_too(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no image in" in refused(tmp_path, no_classes=True)


def test_a_flat_folder_is_told_how_to_do_without_classes(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "folder:photos?classes=none" in refused(tmp_path)


def test_folders_cannot_be_classes_and_none(tmp_path: Path) -> None:
    plant(tmp_path)
    with pytest.raises(DataError, match="parts=none says that folders are classes, and classes=none"):
        load_data(f"folder:{tmp_path}?parts=none&classes=none", seed=0)

"""What is told of the images before training, and kept beside the run."""

from __future__ import annotations

import dataclasses
import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console as RichConsole

from hwnas._console import Console
from hwnas.data import POLICIES, Data, RawData, split
from hwnas.data.arrays import LeftOut
from hwnas.data.decoding import DecodingRule
from hwnas.integrity import open_document
from hwnas.pipeline._data_told import data_record, tell_data, tell_unchanged
from tests.runs import FinishedRun

LEFT_OUT = (
    LeftOut(part="train", class_name="a", reason="not an image", count=2, example="x/a/notes.txt"),
    LeftOut(part="test", class_name="b", reason="not an image", count=1, example="x/b/notes.txt"),
    LeftOut(part="train", class_name="b", reason="an image of a kind", count=40, example="x/b/1.heic", image=True),
)


def data(n_classes: int = 2, n: int = 10) -> Data:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), n)
    labels = np.append(labels, [0, 0])
    return split(
        RawData(
            name="toy",
            train=(rng.integers(0, 256, (len(labels), 8, 8), dtype=np.uint8), labels),
            test=(rng.integers(0, 256, (n_classes, 8, 8), dtype=np.uint8), np.arange(n_classes)),
            class_names=tuple("abcdefghijklmnopqrstuvwxyz"[:n_classes]),
            left_out=LEFT_OUT,
            notes=("chosen so",),
            warnings=("perhaps wrong",),
            decoding=DecodingRule(channels=1, size=8),
        ),
        seed=0,
    )


def told(data: Data) -> str:
    stderr = StringIO()
    tell_data(data, Console(stderr=RichConsole(file=stderr, width=120)))
    return stderr.getvalue()


def test_images_are_counted_by_class_and_part_and_what_is_left_out_beside_them() -> None:
    rows = [line.split() for line in told(data()).splitlines()]
    assert ["a", "11", "1", "1", "2"] in rows
    assert ["b", "9", "1", "1", "41"] in rows
    assert ["all", "20", "2", "2", "43"] in rows


def test_each_reason_is_told_and_what_loses_images_is_a_warning() -> None:
    text = told(data())
    assert "\nnot used: 3 in training a, test b, not an image; the first: x/a/notes.txt" in text
    assert "warning: not used: 40 in training b, an image of a kind; the first: x/b/1.heic" in text
    assert "\nchosen so" in text
    assert "warning: perhaps wrong" in text


def test_of_many_classes_the_smallest_are_shown_and_all_are_counted() -> None:
    rows = [line.split() for line in told(data(26)).splitlines()]
    assert len([row for row in rows if row and len(row[0]) == 1 and row[0].isalpha()]) == 20
    assert ["6", "larger", "classes", "56", "6", "6", "2"] in rows
    assert ["all", "236", "26", "26", "43"] in rows


def test_the_record_is_of_everything() -> None:
    record = json.loads(json.dumps(data_record(data(), source="folder:x")))
    assert record["counts"]["train"] == {"a": 11, "b": 9}
    assert record["left_out"][2] == {
        "part": "train", "class": "b", "reason": "an image of a kind", "count": 40, "example": "x/b/1.heic"
    }  # fmt: skip
    assert record["decoding"] == DecodingRule(channels=1, size=8).to_dict()


def test_a_run_keeps_the_record(finished: FinishedRun) -> None:
    record = open_document((finished.folder / "data.json").read_bytes())
    assert sum(record["counts"]["test"].values()) == 359
    assert record["source"] == "digits"
    assert "Images: digits" in finished.stderr


# ---------------------------------------------------------------- what may be a mistake


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 2


def doubts(**parts: object) -> list[str]:
    return list(split(RawData(name="toy", **({"train": (IMAGES, LABELS)} | parts)), seed=0).warnings)  # type: ignore[arg-type]


def test_a_sound_data_set_raises_no_doubt() -> None:
    assert doubts() == []


def test_images_that_are_in_two_parts_are_told() -> None:
    assert doubts(test=(IMAGES[:5], LABELS[:5]), validation=(255 - IMAGES, LABELS)) == [
        "5 of the 5 test images are exactly the same as training images (the first is of class 0); what is measured on "
        "them is too good"
    ]


def test_one_image_under_two_classes_is_told() -> None:
    (warning,) = doubts(train=(np.concatenate([IMAGES, IMAGES[:1]]), np.append(LABELS, 1)), **{
        which: (255 - IMAGES[i : i + 3], LABELS[i : i + 3]) for i, which in ((0, "validation"), (3, "test"))
    })  # fmt: skip
    assert warning == "1 images stand under more than one class, exactly the same (the first under 0 and 1)"


def test_dark_images_and_parts_of_different_scales_are_told() -> None:
    assert "the brightest pixel of the training images is 1 of 255" in doubts(train=(IMAGES // 128, LABELS))[0]
    (warning,) = doubts(test=((IMAGES[:4] > 127).astype(int), LABELS[:4]))
    assert "of the test images is 1 of 255, that of the training images 255; are both scaled alike?" in warning


def test_channels_that_may_come_first_are_told() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 8), dtype=np.uint8)
    assert "the images have 8 channels" in doubts(train=(images, LABELS))[0]
    with pytest.raises(ValueError, match=r"transpose\(0, 2, 3, 1\)"):
        doubts(train=(np.zeros((12, 4, 16, 16), np.uint8), LABELS))


def test_that_images_are_shown_unchanged_is_told_unless_it_was_asked_for() -> None:
    def said(source: str, policy: str = "none") -> str:
        stderr = StringIO()
        given = dataclasses.replace(data(), augment=POLICIES[policy])
        tell_unchanged(given, source, Console(stderr=RichConsole(file=stderr, width=400)))
        return stderr.getvalue()

    assert 'write source = "npz:a.npz?augment=natural"' in said("npz:a.npz")
    assert 'write source = "python:m:f?year=1&augment=natural"' in said("python:m:f?year=1")
    assert said("npz:a.npz?augment=none") == said("folder:photos", "natural") == ""

"""From a specification to a checked, split data set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.data import Augment, Data, RawData, load_data, parse_spec, sources, split
from hwnas.data.arrays import ArrayDataset
from hwnas.data.splits import partition, stratified_split
from hwnas.errors import ConfigError, DataError, UnknownNameError


def raw(n: int = 60, *, n_classes: int = 3, seed: int = 0, **parts: object) -> RawData:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    return RawData(name="toy", train=(images, np.arange(n) % n_classes), **parts)  # type: ignore[arg-type]


def class_counts(labels: np.ndarray) -> list[int]:
    return [int(n) for n in np.bincount(labels)]


# ---------------------------------------------------------------- digits


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data("digits", seed=0)


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits  # takes a second or two to import

    theirs = load_digits()
    images, labels = sources.digits("", options={}).train
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(images, np.rint(theirs.images * 255 / 16))
    np.testing.assert_array_equal(labels, theirs.target)


def test_digits_are_all_there_once(digits: Data) -> None:
    assert len(digits.train) + len(digits.validation) + len(digits.test) == 1797
    assert (digits.n_classes, digits.in_channels, digits.native_size) == (10, 1, (8, 8))


def test_digits_span_all_of_0_to_255(digits: Data) -> None:
    assert (digits.train.inputs.min(), digits.train.inputs.max()) == (0, 255)


def test_digits_are_never_mirrored(digits: Data) -> None:
    assert not digits.augment.flip
    assert digits.augment.shift > 0


def test_fractions_give_the_sizes_of_the_parts(digits: Data) -> None:
    assert abs(len(digits.test) - 0.2 * 1797) <= 1
    assert abs(len(digits.validation) - 0.1 * (1797 - len(digits.test))) <= 1


def test_statistics_are_those_of_the_training_images(digits: Data) -> None:
    scaled = digits.train.inputs / 255
    assert digits.mean == pytest.approx((scaled.mean(),))
    assert digits.std == pytest.approx((scaled.std(),))


def test_same_seed_gives_same_fingerprint_and_another_seed_another(digits: Data) -> None:
    assert load_data("digits", seed=0).fingerprint == digits.fingerprint
    assert load_data("digits", seed=1).fingerprint != digits.fingerprint


def test_an_item_is_an_image_with_its_label(digits: Data) -> None:
    image, label = digits.train[3]
    assert image.shape == (8, 8, 1)
    assert label == digits.train.targets[3]
    assert isinstance(label, int)


def test_indexing_past_the_end_stops_iteration(digits: Data) -> None:
    with pytest.raises(IndexError):
        digits.train[len(digits.train)]


# ---------------------------------------------------------------- specifications


def test_a_specification_has_name_argument_and_options() -> None:
    assert parse_spec("folder:a/b:c?size=64&channels=1") == ("folder", "a/b:c", {"size": "64", "channels": "1"})
    assert parse_spec("digits") == ("digits", "", {})


@pytest.mark.parametrize("spec", ["", ":x", "digits?size", "digits?=3", "digits?a=1&a=2"])
def test_a_malformed_specification_is_refused(spec: str) -> None:
    with pytest.raises(DataError):
        load_data(spec, seed=0)


def test_an_unknown_source_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="digits, folder, idx, npz, python"):
        load_data("cifar", seed=0)


def test_an_unknown_option_lists_the_known() -> None:
    with pytest.raises(DataError, match="no option 'sise'; known: augment"):
        load_data("digits?sise=3", seed=0)


def test_the_augmentation_can_be_overridden() -> None:
    assert load_data("digits?augment=none", seed=0).augment == Augment()


def test_an_unknown_augmentation_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="natural"):
        load_data("digits?augment=flip", seed=0)


def test_an_augmentation_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="shift is 2"):
        Augment(shift=2)


def test_a_source_of_anybodys_does_not_end_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def source(argument: str, *, options: object) -> RawData:
        raise SystemExit(0)

    monkeypatch.setattr("hwnas.registry.load", lambda kind, name: source)
    with pytest.raises(DataError, match="'theirs' ended the program"):
        load_data("theirs:x", seed=0)


# ---------------------------------------------------------------- splitting


@pytest.mark.parametrize("in_place", [False, True])
@given(n=st.integers(1, 30), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_a_partition_holds_the_rows_asked_for(n: int, seed: int, *, in_place: bool) -> None:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    labels = rng.integers(0, 5, n)
    ends = sorted(rng.integers(0, n + 1, 2).tolist())
    rows = np.split(rng.permutation(n), ends)
    expected = [(images[r].copy(), labels[r].copy()) for r in rows]
    parts = partition(ArrayDataset(inputs=images, targets=labels), rows, in_place=in_place)
    for part, (its_images, its_labels) in zip(parts, expected, strict=True):
        assert np.array_equal(part.inputs, its_images)
        assert np.array_equal(part.targets, its_labels)
    assert all(part.inputs.base is images for part in parts) is in_place


def test_images_handed_over_are_not_copied() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    kept = split(RawData(name="toy", train=(images, np.arange(60) % 3)), seed=0)
    before = images.copy()
    moved = split(RawData(name="toy", train=(images, np.arange(60) % 3), handed_over=True), seed=0)
    assert moved.fingerprint == kept.fingerprint
    assert np.may_share_memory(moved.train.inputs, images)
    assert not np.may_share_memory(kept.train.inputs, images)
    assert not np.array_equal(images, before)


def test_given_parts_are_kept_as_they_are() -> None:
    mine = raw(30, seed=1)
    data = split(raw(validation=mine.train, test=mine.train), seed=0)
    assert np.array_equal(data.validation.inputs, mine.train[0])
    assert len(data.train) == 60


def test_parts_do_not_overlap() -> None:
    images = np.arange(60 * 64, dtype=np.int64).reshape(60, 8, 8) % 251
    data = split(RawData(name="toy", train=(images, np.arange(60) % 3)), seed=0)
    seen = [image.tobytes() for part in (data.train, data.validation, data.test) for image in part.inputs]
    assert len(set(seen)) == 60


@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=60)
def test_a_split_is_a_partition_in_which_no_class_is_lost(sizes: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = [str(c) for c in range(len(sizes))]
    stay, aside = stratified_split(labels, fraction, rng=np.random.default_rng(seed), class_names=names, purpose="test")
    assert sorted([*stay, *aside]) == list(range(len(labels)))
    for part in (stay, aside):
        assert min(class_counts(labels[part])) >= 1
        assert len(class_counts(labels[part])) == len(sizes)
    for c, size in enumerate(sizes):
        assert abs((labels[aside] == c).sum() - size * fraction) <= 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match="test_fraction"):
        split(raw(), seed=0, test_fraction=fraction)


def test_a_class_too_small_to_split_is_named() -> None:
    labels = np.array([0] * 20 + [1])
    images = np.random.default_rng(0).integers(0, 256, (21, 8, 8), dtype=np.uint8)
    with pytest.raises(DataError, match=r"class 1 \(cat\) has 1 image left"):
        split(RawData(name="toy", train=(images, labels), class_names=("dog", "cat")), seed=0)


# ---------------------------------------------------------------- what is refused before any training


def refused(images: object, labels: object, **parts: object) -> str:
    with pytest.raises(DataError) as caught:
        split(RawData(name="toy", train=(images, labels), **parts), seed=0)  # type: ignore[arg-type]
    return str(caught.value)


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 2


def test_flat_images_are_refused() -> None:
    assert "shape (12, 64) is not allowed; give (N, H, W)" in refused(IMAGES.reshape(12, 64), LABELS)


def test_channels_first_is_refused_with_the_transposition_to_do() -> None:
    assert "transpose(0, 2, 3, 1)" in refused(np.zeros((12, 3, 32, 32), np.uint8), LABELS)


def test_no_image_is_refused() -> None:
    assert "not one image" in refused(IMAGES[:0], LABELS[:0])


def test_floats_beyond_one_are_refused_with_their_range() -> None:
    message = refused(IMAGES.astype(np.float32), LABELS)
    assert f"values from {IMAGES.min()} to {IMAGES.max()}" in message
    assert "divide them by 255" in message


def test_negative_floats_are_refused() -> None:
    assert "must lie within 0..1" in refused(IMAGES / 255 - 0.5, LABELS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_named(bad: float) -> None:
    images = IMAGES / 255
    images[7, 2, 2] = bad
    assert "image 7 holds NaN or infinite" in refused(images, LABELS)


def test_wide_integers_beyond_255_are_refused() -> None:
    assert "0..255" in refused(IMAGES.astype(np.uint16) * 256, LABELS)


def test_text_is_refused() -> None:
    assert "is not allowed" in refused(IMAGES.astype(str), LABELS)


def test_floats_in_range_become_bytes() -> None:
    data = split(RawData(name="toy", train=(IMAGES / 255, LABELS), test=(IMAGES, LABELS)), seed=0)
    assert {i.tobytes() for i in data.train.inputs} < {i.tobytes() for i in data.test.inputs}


def test_float_labels_are_refused() -> None:
    assert "float64 is not allowed" in refused(IMAGES, LABELS + 0.5)


def test_a_negative_label_is_named_with_its_position() -> None:
    assert "label -1 at position 5" in refused(IMAGES, np.where(np.arange(12) == 5, -1, LABELS))


def test_labels_in_a_column_are_understood() -> None:
    data = split(RawData(name="toy", train=(IMAGES, LABELS[:, None])), seed=0)
    assert data.n_classes == 2


def test_one_hot_labels_are_refused() -> None:
    assert "one class index an image" in refused(IMAGES, np.eye(2)[LABELS])


def test_another_number_of_labels_is_refused() -> None:
    assert "11 labels for 12 images" in refused(IMAGES, LABELS[:11])


def test_a_single_class_is_refused() -> None:
    assert "one class only" in refused(IMAGES, LABELS * 0)


def test_a_class_without_an_image_is_named() -> None:
    assert "class 1 has no image" in refused(IMAGES, LABELS * 2)
    assert "class 2 (c) has no image" in refused(IMAGES, LABELS, class_names=("a", "b", "c"))


def test_a_stray_huge_label_is_refused_at_once() -> None:
    assert "class 2 has no image" in refused(IMAGES, np.where(np.arange(12) == 5, 10**15, LABELS))


def test_a_label_without_a_name_is_refused() -> None:
    assert "label 1 is out of range" in refused(IMAGES, LABELS, class_names=("a",))


def test_repeated_class_names_are_refused() -> None:
    assert "repeat" in refused(IMAGES, LABELS, class_names=("a", "a"))


def test_a_test_label_unknown_to_training_is_named() -> None:
    message = refused(IMAGES, LABELS, test=(IMAGES, np.where(np.arange(12) == 3, 2, LABELS)))
    assert "test labels: label 2 at position 3 does not occur in training" in message


def test_test_images_of_another_size_are_refused() -> None:
    message = refused(IMAGES, LABELS, test=(np.zeros((2, 9, 8), np.uint8), [0, 1]))
    assert "test images are 9x8 with 1 channel, but training images are 8x8 with 1 channel" in message


def test_images_that_are_all_alike_are_refused() -> None:
    assert "same value" in refused(IMAGES * 0 + 7, LABELS)


def test_a_constant_channel_gets_a_deviation_above_zero() -> None:
    images = np.stack([IMAGES, np.full_like(IMAGES, 255)], axis=-1)
    assert split(RawData(name="toy", train=(images, LABELS)), seed=0).std[1] == 1 / 255

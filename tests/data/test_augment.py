"""Augmentation: what it may change, what it must keep."""

from __future__ import annotations

import pytest
import torch

from hwnas.data import POLICIES, Augment, augment_batch

PIXELS = torch.randint(0, 256, (64, 3, 16, 12), generator=torch.Generator().manual_seed(9), dtype=torch.uint8)


def augmented(policy: Augment, *, images: torch.Tensor = PIXELS, seed: int = 0) -> torch.Tensor:
    return augment_batch(images, policy, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shape_and_type_are_kept(name: str, dtype: torch.dtype) -> None:
    out = augmented(POLICIES[name], images=PIXELS.to(dtype))
    assert (out.shape, out.dtype) == (PIXELS.shape, dtype)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_generator_decides_everything(name: str) -> None:
    assert torch.equal(augmented(POLICIES[name]), augmented(POLICIES[name]))
    if name != "none":
        assert not torch.equal(augmented(POLICIES[name]), augmented(POLICIES[name], seed=1))


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_input_is_not_changed(name: str) -> None:
    before = PIXELS.clone()
    augmented(POLICIES[name])
    assert torch.equal(PIXELS, before)


def test_flips_mirror_about_half_of_the_images() -> None:
    out = augmented(Augment(flip=True))
    kept = (out == PIXELS).flatten(1).all(1)
    mirrored = (out == PIXELS.flip(3)).flatten(1).all(1)
    assert bool((kept ^ mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_shifts_move_whole_pixels_and_fill_with_zero() -> None:
    out = augmented(Augment(shift=1 / 8), images=torch.ones(64, 1, 16, 16))
    sides = {
        (int(rows), int(cols)) for rows, cols in zip(out.amax(3).sum((1, 2)), out.amax(2).sum((1, 2)), strict=True)
    }
    assert {rows for rows, _ in sides} == {cols for _, cols in sides} == {14, 15, 16}


def test_small_images_shift_by_at_least_a_pixel() -> None:
    images = torch.ones(64, 1, 8, 8)
    assert int((augmented(Augment(shift=0.01), images=images) == 0).sum()) > 0


def test_a_resampling_that_changes_nothing_gives_the_image() -> None:
    out = augmented(Augment(rotate_degrees=1e-9), images=PIXELS.float())
    torch.testing.assert_close(out, PIXELS.float(), atol=0.01, rtol=0)


def test_a_rotation_keeps_a_round_spot_in_a_wide_image() -> None:
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(48) - 23.5, indexing="ij")
    spot = torch.exp(-(x**2 + y**2) / 40).expand(16, 1, 32, 48)
    out = augmented(Augment(rotate_degrees=90), images=spot)
    torch.testing.assert_close(out, spot, atol=0.02, rtol=0)


def test_a_resampling_keeps_values_in_range() -> None:
    out = augmented(POLICIES["text"], images=torch.full((32, 1, 8, 8), 255, dtype=torch.uint8))
    assert int(out[:, :, 3:5, 3:5].min()) == 255


def test_erasing_clears_one_rectangle_in_a_share_of_the_images() -> None:
    out = augmented(Augment(erase=0.5, erase_side=0.5), images=torch.ones(200, 2, 16, 16))
    holes = out == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    hit = holes[:, 0].flatten(1).any(1)
    assert 70 < int(hit.sum()) < 130
    rows, columns = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), rows * columns)
    assert int(rows.max()) == int(columns.max()) == 8

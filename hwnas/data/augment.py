"""Random changes to training images that keep their class, on whole batches.

Knows torch inside functions only; never where images come from or which network sees them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwnas.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from torch import Generator, Tensor

IGNORED = 255  # of a mask: a pixel that nobody knows the class of, as in Pascal VOC and Cityscapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """What may be done to a training image. The default does nothing.

    Attributes:
        shift: largest shift, as a share of the side; the border is filled with zeros.
        flip: mirror left and right every second time. Wrong for digits and text.
        rotate_degrees: largest rotation either way.
        scale: largest change of size: 0.1 gives 0.9 to 1.1.
        erase: share of images that lose a rectangle (Zhong et al., 2020, random erasing).
        erase_side: largest side of that rectangle, as a share of the image's side.
    """

    shift: float = 0.0
    flip: bool = False
    rotate_degrees: float = 0.0
    scale: float = 0.0
    erase: float = 0.0
    erase_side: float = 0.4

    def __post_init__(self) -> None:
        shares = {
            "shift": self.shift, "scale": self.scale, "erase": self.erase, "erase_side": self.erase_side
        }  # fmt: skip
        for name, value in shares.items():
            if not 0 <= value <= 1 or (name == "scale" and value == 1):
                raise ConfigError(f"augmentation: {name} is {value:g}, but is a share from 0 to 1")
        if not 0 <= self.rotate_degrees <= 180:
            raise ConfigError(f"augmentation: rotate_degrees is {self.rotate_degrees:g}, but goes from 0 to 180")


# The names a data source's specification may give: `npz:my.npz?augment=natural`.
POLICIES: dict[str, Augment] = {
    "none": Augment(),
    "text": Augment(shift=1 / 8, rotate_degrees=10.0, scale=0.1),
    "centred": Augment(shift=1 / 12, flip=True, erase=0.25, erase_side=0.35),
    "natural": Augment(shift=1 / 8, flip=True),
}


def policy(name: str) -> Augment:
    """The policy of that name.

    Raises:
        UnknownNameError: there is none; lists the known.
    """
    if name not in POLICIES:
        raise UnknownNameError("augmentation", name, POLICIES)
    return POLICIES[name]


def augment_batch(images: Tensor, policy: Augment, *, generator: Generator | None = None) -> Tensor:
    """Change every image of a batch at random, each on its own.

    The same generator state gives the same result. The input is not changed.

    Args:
        images: (N, C, H, W), uint8 in 0..255 or float in [0, 1]: zero is what fills a gap.
        policy: what may be done.
        generator: on the images' device; None: torch's own.

    Returns:
        Tensor of the same shape, type and device.
    """
    out = images
    if policy.rotate_degrees or policy.scale:
        out = _affine(out, policy, generator)
    elif policy.shift or policy.flip:
        out = _shift_and_flip(out, policy, generator)
    if policy.erase:
        out = _erase(out, policy, generator)
    return out


def augment_samples(
    inputs: Tensor, targets: Tensor, generator: Generator | None = None, *, policy: Augment
) -> tuple[Tensor, Tensor]:
    """The same of samples with their targets: masks move with their images; what comes in over the border is ignored.

    Args:
        inputs: (N, C, H, W) images; others are left as they are.
        targets: (N, H, W) uint8 masks move, others are left as they are.
        generator: as of `augment_batch`.
        policy: what may be done. Masks take no rotation and no scale.

    Raises:
        ConfigError: the policy rotates or scales images whose targets are masks.
    """
    if inputs.dim() != 4:
        return inputs, targets
    if targets.dim() != 3:
        return augment_batch(inputs, policy, generator=generator), targets
    import torch

    if policy.rotate_degrees or policy.scale:
        raise ConfigError("images with masks are shifted and flipped, never rotated or scaled; give augment=natural")
    # one more channel that pixels are moved with exactly: 0 is what fills a gap, so it stands for an ignored pixel
    known = (IGNORED - targets[:, None].to(inputs.dtype)) / IGNORED
    moved = torch.cat([inputs, known], 1)
    if policy.shift or policy.flip:
        moved = _shift_and_flip(moved, policy, generator)
    masks = (IGNORED - (moved[:, -1] * IGNORED).round()).to(torch.uint8)
    images = moved[:, :-1]
    return _erase(images, policy, generator) if policy.erase else images, masks


def _affine(images: Tensor, policy: Augment, generator: Generator | None) -> Tensor:
    """Rotation, scale, shift and flip as one resampling."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    n, _, height, width = images.shape
    # (5, N) in [-1, 1): angle, scale, two shifts, flip
    u = torch.rand((5, n), generator=generator, device=images.device) * 2 - 1
    angle = u[0] * math.radians(policy.rotate_degrees)
    factor = 1 + u[1] * policy.scale
    # all five are drawn in any case: the others' values must not depend on which are used
    mirror = torch.where(u[4] < 0, -1.0, 1.0) if policy.flip else torch.ones_like(factor)
    theta = torch.zeros((n, 2, 3), device=images.device)
    # in pixels a rotation is orthogonal; affine_grid's coordinates are scaled by the sides
    theta[:, 0, 0] = mirror * angle.cos() / factor
    theta[:, 0, 1] = -angle.sin() / factor * (height / width)
    theta[:, 1, 0] = mirror * angle.sin() / factor * (width / height)
    theta[:, 1, 1] = angle.cos() / factor
    theta[:, :, 2] = 2 * policy.shift * u[2:4].T
    grid = affine_grid(theta, list(images.shape), align_corners=False)  # (N, H, W, 2)
    x = images if images.is_floating_point() else images.float()
    # rotation, scale, shift and flip in one resampling: each further one would blur
    out = grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
    return out if images.is_floating_point() else out.round_().to(images.dtype)


def _shift_and_flip(images: Tensor, policy: Augment, generator: Generator | None) -> Tensor:
    """Pad, then cut each image out at its own place: exact pixels, one gather."""
    import torch
    from torch.nn.functional import pad

    n, _, height, width = images.shape
    room = (round(policy.shift * height), round(policy.shift * width))
    if policy.shift:
        # a small image still moves by a pixel
        room = (max(1, room[0]), max(1, room[1]))
    rows, columns = (
        torch.randint(0, 2 * r + 1, (n, 1), generator=generator, device=images.device)
        + torch.arange(side, device=images.device)
        for r, side in zip(room, (height, width), strict=True)
    )  # (N, H), (N, W)
    if policy.flip:
        mirrored = torch.rand((n, 1), generator=generator, device=images.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = pad(images, (room[1], room[1], room[0], room[0]))
    sample = torch.arange(n, device=images.device)[:, None, None]
    cut = padded[sample, :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return cut.permute(0, 3, 1, 2)  # (N, C, H, W), channels last in memory


def _erase(images: Tensor, policy: Augment, generator: Generator | None) -> Tensor:
    """Set one rectangle to zero in a share of the images."""
    import torch

    n, _, height, width = images.shape
    u = torch.rand((5, n, 1), generator=generator, device=images.device)
    inside = []
    for side, length, place in ((height, u[0], u[1]), (width, u[2], u[3])):
        extent = (length * policy.erase_side * side).ceil()  # (N, 1), in pixels
        # wholly inside, as in the paper: a rectangle over the border would be smaller
        start = (place * (side - extent + 1)).floor()
        at = torch.arange(side, device=images.device)
        inside.append((at >= start) & (at < start + extent))  # (N, side)
    hit = u[4] < policy.erase
    hole = inside[0][:, :, None] & inside[1][:, None, :] & hit[:, :, None]  # (N, H, W)
    return images.masked_fill(hole[:, None], 0)

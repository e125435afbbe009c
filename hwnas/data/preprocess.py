"""Every step from a sample to a network's input, in order, as data that a manifest holds, and as a function.

    steps = Preprocessing((Decode(channels=3, ground="white"), CentreSquare(), ..., UnitRange(), Normalise(...), ...))
    x = steps.apply("photo.jpg")  # (C, H, W) float32

Training does the same: a data source lists what it did (`RawData.decoding`) and does it by these steps; what follows is
`tensors.py`'s, the same in torch. The single steps are in `steps.py`. This module must never know torch, networks or
where images come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.data.decoding import DecodingRule, Source
from hwnas.data.steps import (
    CentreSquare,
    ChannelsFirst,
    Decode,
    Image,
    Normalise,
    NormaliseNumbers,
    Numbers,
    Pixels,
    Resize,
    Step,
    UnitRange,
    step_from_json,
)
from hwnas.errors import DataError
from hwnas.foreign import as_written

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_MOST_LISTED = 64  # means of channels, each by itself
_LUMA = np.array([19595, 38470, 7471])  # of ITU-R 601, in units of 1 / 65536


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Steps in order.

    Attributes:
        steps: one at least.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise DataError("preprocessing has no steps; the last one leads to the network's input")

    @classmethod
    def from_json(cls, value: object) -> Preprocessing:
        """What `to_json` gave.

        Raises:
            DataError: it is no list of steps, or one is none that this version can do.
        """
        if not isinstance(value, list):
            raise DataError(f"preprocessing is {as_written(value)}, but must be a list of steps")
        return cls(tuple(map(step_from_json, value)))

    def to_json(self) -> list[dict[str, Any]]:
        """For a manifest."""
        return [step.to_json() for step in self.steps]

    @classmethod
    def of(
        cls,
        decoding: DecodingRule | None,
        *,
        shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        resolution: tuple[int, int],
    ) -> Preprocessing:
        """All steps to the input of a network.

        Args:
            decoding: how image files became the images of a data set; None: they were given as arrays.
            shape: (H, W, C) of these images.
            mean: of each channel, on the scale from 0 to 1.
            std: likewise.
            resolution: (H, W) of the network's input.
        """
        # no file, no decoding: `Pixels` then says what arrays must be
        first = () if decoding is None else file_steps(decoding)
        height, width, channels = shape
        pixels = Pixels(height=height, width=width, channels=channels)
        # after normalising, unrounded, as in training: a smaller
        # resolution is a choice of the network, not of the files
        resize = Resize(height=resolution[0], width=resolution[1], rounding="none")
        normalise = Normalise(mean=tuple(map(float, mean)), std=tuple(map(float, std)))
        last = (resize, ChannelsFirst()) if resolution != (height, width) else (ChannelsFirst(),)
        return cls((*first, pixels, UnitRange(), normalise, *last))

    @classmethod
    def of_numbers(cls, shape: tuple[int, ...], *, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """All steps from a sample that is no image to the input of a network.

        Args:
            shape: (C, ...) of a sample.
            mean: of each channel.
            std: likewise.
        """
        each = list(zip(map(float, mean), map(float, std), strict=True))
        if len(each) <= _MOST_LISTED:
            normalise = NormaliseNumbers(mean=tuple(m for m, _ in each), std=tuple(s for _, s in each))
        else:  # rows of several inputs have as many channels as numbers
            runs = [(pair, len(list(same))) for pair, same in itertools.groupby(each)]
            normalise = NormaliseNumbers(
                mean=tuple(m for (m, _), _ in runs),
                std=tuple(s for (_, s), _ in runs),
                counts=tuple(n for _, n in runs),
            )
        return cls((Numbers(shape=tuple(map(int, shape))), normalise))

    @property
    def takes_images(self) -> bool:
        """Whether they begin with an image."""
        return not isinstance(self.steps[0], Numbers)

    def apply(self, image: Source | PillowImage | Image) -> Image:
        """The network's input for one image, or one sample of another kind.

        Args:
            image: a path, a file's content, a Pillow image, or an array of pixels, (H, W) or (H, W, C) uint8, turned as
                it is to be seen; of a network of other samples an array of numbers, (C, ...).

        Returns:
            (C, H, W) float32, or (C, ...).

        Raises:
            DataError: it is not such an image, or not like those that the network was trained on.
        """
        x = self._decode(image) if self.takes_images else _numbers(image)
        for step in self.steps:
            # done above, by what kind of thing the image is
            if not isinstance(step, Decode):
                x = step.apply(x)
        return x

    def _decode(self, image: Source | PillowImage | Image) -> Image:
        rule = next((step for step in self.steps if isinstance(step, Decode)), None)
        if not isinstance(image, np.ndarray):
            if rule is None:
                raise DataError(
                    "the network was trained on arrays of pixels, so nothing says how an image file becomes one; "
                    "give the pixels as such an array"
                )
            return rule.apply(image)
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise DataError(f"pixels must be (H, W) or (H, W, C) uint8, got {image.shape} {image.dtype}")
        pixels = image if image.ndim == 3 else image[..., None]
        if rule is None:
            return pixels
        if pixels.shape[2] not in (1, 3):
            raise DataError(
                f"pixels of {pixels.shape[2]} channels: give grey, (H, W), or red, green and blue, (H, W, 3); where "
                "there is transparency, give the file"
            )
        return _in_channels(pixels, rule.channels)


def _numbers(sample: object) -> Image:
    if isinstance(sample, np.ndarray):
        return sample
    raise DataError(
        f"the network was trained on arrays of numbers, not on what a {type(sample).__name__} holds; give an array"
    )


def file_steps(rule: DecodingRule) -> tuple[Step, ...]:
    """What a rule does to a file, step by step."""
    # rounded to uint8: Pillow resized files so when the data set was read
    fit = () if rule.size is None else (CentreSquare(), Resize(height=rule.size, width=rule.size, rounding="uint8"))
    return (Decode(channels=rule.channels, ground=rule.ground, value_range=rule.value_range), *fit)


def _in_channels(pixels: Image, channels: int) -> Image:
    """(H, W, 1) or (H, W, 3) -> (H, W, channels), as Pillow converts between L and RGB."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    luma = pixels.astype(np.int64) @ _LUMA
    # half is added before the shift: rounding as Pillow does it, in its own integers
    grey: Image = ((luma + (1 << 15)) >> 16).astype(np.uint8)
    return grey[..., None]

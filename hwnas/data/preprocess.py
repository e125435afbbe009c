"""Every step from an image to a network's input, in order, as data that a manifest holds, and as functions.

    steps = Preprocessing((Decode(channels=3, ground="white"), CentreSquare(), ..., UnitRange(), Normalise(...), ...))
    x = steps.apply("photo.jpg")  # (C, H, W) float32

Training does the same: a data source lists what it did (`RawData.steps`) and does it by these steps; what follows is
`tensors.py`'s, the same in torch. numpy alone computes them here: a board that runs a network has no torch. This module
must never know torch, networks or where images come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from hwnas.data.decoding import DecodingRule, Source, decode
from hwnas.data.resampling import resize_float, resize_uint8
from hwnas.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Image = npt.NDArray[Any]  # (H, W, C)
_LUMA = np.array([19595, 38470, 7471])  # of ITU-R 601, in units of 1 / 65536


class _Step(BaseModel):
    """One step. Its fields say all there is to know; those of a single allowed value are for people and programs."""

    # forbidden: a step of a newer version that is read without its new field would give other pixels in silence
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Decode(_Step):
    """From an image file to pixels, see `decoding.py`: the first frame, turned as its EXIF data say.

    Attributes:
        channels: 1: grey (ITU-R 601 luma). 3: red, green, blue.
        ground: what lies under transparent pixels.
        value_range: of grey images of more than eight bits: the values that become 0 and 255.
    """

    step: Literal["decode"] = "decode"
    frame: Literal["first"] = "first"
    orientation: Literal["EXIF"] = "EXIF"
    channels: Literal[1, 3]
    ground: str
    value_range: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _possible(self) -> Decode:
        # `DecodingRule` holds what is allowed; asked here, so that a wrong manifest is refused when it is read
        self.rule()
        return self

    def rule(self) -> DecodingRule:
        """The same for `decoding.decode`."""
        return DecodingRule(channels=self.channels, ground=self.ground, value_range=self.value_range)

    def describe(self) -> str:
        """In words."""
        colours = "grey" if self.channels == 1 else "red, green, blue"
        return (
            f"read the first frame, turned as its EXIF data say, as {colours}; "
            f"transparent pixels on {self.ground}"
            + (
                f"; grey values {self.value_range[0]:g} to {self.value_range[1]:g} become 0 to 255"
                if self.value_range
                else ""
            )
        )

    def apply(self, source: Source | PillowImage) -> Image:
        """A path, a file's content or a Pillow image -> (H, W, C) uint8."""
        return decode(source, self.rule())


class CentreSquare(_Step):
    """Cut out the centred square: where a pixel is left over, it is the last one that goes."""

    step: Literal["crop"] = "crop"
    shape: Literal["centre square"] = "centre square"

    def describe(self) -> str:
        """In words."""
        return "cut out the centred square"

    def apply(self, image: Image) -> Image:
        """(H, W, C) -> (S, S, C), S the shorter side."""
        height, width, _ = image.shape
        side = min(height, width)
        # rounded down, as `decoding._centre_square` does
        top, left = (height - side) // 2, (width - side) // 2
        return image[top : top + side, left : left + side]


class Resize(_Step):
    """Resize, see `resampling.py`.

    Attributes:
        height, width: of the result, in pixels.
        rounding: `uint8`: whole values from 0 to 255, after the width is resized and again after the height, ties up,
            as Pillow does; `none`: float32.
    """

    step: Literal["resize"] = "resize"
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    filter: Literal["bilinear"] = "bilinear"
    antialias: Literal[True] = True
    centres: Literal["half-pixel"] = "half-pixel"
    border: Literal["weights renormalised"] = "weights renormalised"
    rounding: Literal["uint8", "none"]

    def describe(self) -> str:
        """In words."""
        return (
            f"resize to {self.width} × {self.height} pixels: bilinear, with a filter as wide as the reduction, "
            f"half-pixel centres{', rounded to whole values' if self.rounding == 'uint8' else ''}"
        )

    def apply(self, image: Image) -> Image:
        """(H, W, C) -> (height, width, C), of the same type."""
        size = (self.height, self.width)
        return resize_uint8(image, size) if self.rounding == "uint8" else resize_float(image, size)


class Pixels(_Step):
    """What the steps before must have led to: pixels as those that the network learned from.

    Attributes:
        height, width: in pixels.
        channels: 1: grey. 3: red, green, blue, where image files were read; else as in the arrays that were given.
    """

    step: Literal["pixels"] = "pixels"
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: int = Field(ge=1)
    dtype: Literal["uint8"] = "uint8"
    layout: Literal["HWC"] = "HWC"

    def describe(self) -> str:
        """In words."""
        return (
            f"that is {self.width} × {self.height} pixels of {self.channels} "
            f"channel{'s' * (self.channels > 1)}, whole values from 0 to 255"
        )

    def apply(self, image: Image) -> Image:
        """The image itself.

        Raises:
            DataError: it is of another size.
        """
        # arrays that a caller gives have gone through no step that would fix their size
        wanted = (self.height, self.width, self.channels)
        if image.shape != wanted or image.dtype != np.uint8:
            raise DataError(
                f"the image has shape {image.shape}, {image.dtype}; the network was trained on images of the shape "
                f"{wanted} (height, width, channels), uint8"
            )
        return image


class UnitRange(_Step):
    """Pixels from 0 to 255 -> float32 from 0 to 1."""

    step: Literal["scale"] = "scale"
    divide_by: Literal[255] = 255
    dtype: Literal["float32"] = "float32"

    def describe(self) -> str:
        """In words."""
        return f"divide by {self.divide_by}"

    def apply(self, image: Image) -> Image:
        """(H, W, C) uint8 -> float32."""
        # divided, not multiplied by 1 / 255, which is another float: torch does the same
        return image.astype(np.float32) / np.float32(self.divide_by)


class Normalise(_Step):
    """Subtract the mean, divide by the standard deviation.

    Attributes:
        mean: of each channel, on the scale from 0 to 1.
        std: likewise, above zero.
    """

    step: Literal["normalise"] = "normalise"
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _one_of_each(self) -> Normalise:
        _check_one_of_each(self.mean, self.std)
        return self

    def describe(self) -> str:
        """In words."""
        return _normalising(self.mean, self.std)

    def apply(self, image: Image) -> Image:
        """(H, W, C) float32 -> float32."""
        # in float32 as in torch, so that both agree to the last bits
        return (image - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)


class ChannelsFirst(_Step):
    """The network's input; how the artefact stores it, its manifest says at `artefact.input`."""

    step: Literal["layout"] = "layout"
    layout: Literal["CHW"] = "CHW"

    def describe(self) -> str:
        """In words."""
        return "put the channels first"

    def apply(self, image: Image) -> Image:
        """(H, W, C) -> (C, H, W), contiguous."""
        return np.ascontiguousarray(image.transpose(2, 0, 1))


class Numbers(_Step):
    """Samples that are no images: numbers as those that the network learned from, channels first.

    Attributes:
        shape: (C, ...) of one sample.
    """

    step: Literal["numbers"] = "numbers"
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: Literal["float32"] = "float32"

    def describe(self) -> str:
        """In words."""
        return f"numbers of the shape {' × '.join(map(str, self.shape))}, channels first"

    def apply(self, sample: Image) -> Image:
        """(C, ...) float32.

        Raises:
            DataError: it is of another shape, or holds no numbers.
        """
        if sample.shape != self.shape or sample.dtype.kind not in "biuf":
            raise DataError(
                f"the sample has shape {sample.shape}, {sample.dtype}; the network was trained on numbers of the shape "
                f"{self.shape}, channels first"
            )
        return sample.astype(np.float32)


class NormaliseNumbers(_Step):
    """Subtract the mean of each channel, divide by its standard deviation; channels come first.

    Attributes:
        mean: of each channel.
        std: likewise, above zero.
    """

    step: Literal["normalise_numbers"] = "normalise_numbers"
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _one_of_each(self) -> NormaliseNumbers:
        _check_one_of_each(self.mean, self.std)
        return self

    def describe(self) -> str:
        """In words."""
        return _normalising(self.mean, self.std)

    def apply(self, sample: Image) -> Image:
        """(C, ...) float32 -> float32."""
        around = (-1, *(1,) * (sample.ndim - 1))
        shift, scale = (np.asarray(v, np.float32).reshape(around) for v in (self.mean, self.std))
        return np.ascontiguousarray((sample - shift) / scale)


Step = Annotated[
    Decode | CentreSquare | Resize | Pixels | UnitRange | Normalise | ChannelsFirst | Numbers | NormaliseNumbers,
    Field(discriminator="step"),
]


class Preprocessing(RootModel[tuple[Step, ...]]):
    """Steps in order; as JSON, the list of them."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def of(
        cls,
        decoding: DecodingRule | None,
        *,
        shape: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
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
        rest = (UnitRange(), Normalise(mean=mean, std=std), *((resize,) if resolution != (height, width) else ()))
        return cls((*first, pixels, *rest, ChannelsFirst()))

    @classmethod
    def of_numbers(cls, shape: tuple[int, ...], *, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
        """All steps from a sample that is no image to the input of a network.

        Args:
            shape: (C, ...) of a sample.
            mean: of each channel.
            std: likewise.
        """
        return cls((Numbers(shape=shape), NormaliseNumbers(mean=mean, std=std)))

    @property
    def takes_images(self) -> bool:
        """Whether they begin with an image."""
        return not isinstance(self.root[0], Numbers)

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
        for step in self.root:
            # done above, by what kind of thing the image is
            if not isinstance(step, Decode):
                x = step.apply(x)
        return x

    def _decode(self, image: Source | PillowImage | Image) -> Image:
        rule = next((step for step in self.root if isinstance(step, Decode)), None)
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


def _check_one_of_each(mean: Sequence[float], std: Sequence[float]) -> None:
    if not mean or len(mean) != len(std):
        raise ValueError(f"{len(mean)} means and {len(std)} deviations; there is one of each a channel")


def _normalising(mean: Sequence[float], std: Sequence[float]) -> str:
    return f"subtract {', '.join(f'{m:.6g}' for m in mean)}, divide by {', '.join(f'{v:.6g}' for v in std)}"


def file_steps(rule: DecodingRule) -> tuple[Step, ...]:
    """What a rule does to a file, step by step."""
    # rounded to uint8: Pillow resized files so when the data set was read
    fit = () if rule.size is None else (CentreSquare(), Resize(height=rule.size, width=rule.size, rounding="uint8"))
    channels: Literal[1, 3] = 1 if rule.channels == 1 else 3
    return (Decode(channels=channels, ground=rule.ground, value_range=rule.value_range), *fit)


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

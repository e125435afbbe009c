"""The steps from a sample to a network's input: each as data that a manifest holds, and as what it does.

numpy alone computes them here, because a board that runs a network has neither torch nor what checks documents. This
module must never know torch, networks or where images come from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hwnas.data.decoding import DecodingRule, Source, decode
from hwnas.data.resampling import resize_float, resize_uint8
from hwnas.errors import DataError
from hwnas.foreign import as_written

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Image = npt.NDArray[Any]  # (H, W, C)
Sample = npt.NDArray[Any]  # an image, or (C, ...) numbers
_ROUNDINGS = ("uint8", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. Its fields say all there is to know, together with `always`: what is the same in each of its kind.

    Attributes:
        step: the name of its kind.
        always: further names with their only value, for people and programs that read a manifest.
    """

    step: ClassVar[str] = ""
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType({})

    def describe(self) -> str:
        """In words."""
        raise NotImplementedError

    def apply(self, given: Any) -> Sample:
        """What it makes of what the step before it gives."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """For a manifest."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"step": self.step, **self.always, **listed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode(Step):
    """From an image file to pixels, see `decoding.py`: the first frame, turned as its EXIF data say.

    Attributes:
        channels: 1: grey (ITU-R 601 luma). 3: red, green, blue.
        ground: what lies under transparent pixels.
        value_range: of grey images of more than eight bits: the values that become 0 and 255.
    """

    step: ClassVar[str] = "decode"
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType({"frame": "first", "orientation": "EXIF"})

    channels: int
    ground: str
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.value_range is not None:
            _check_numbers("value_range", self.value_range, n=2)
        if type(self.channels) is not int or not isinstance(self.ground, str):
            raise DataError(
                f"decode: channels {as_written(self.channels)} on {as_written(self.ground)} are not allowed"
            )
        # `DecodingRule` holds what is allowed; asked here, so that a wrong manifest is refused when it is read
        self.rule()

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

    def apply(self, given: Source | PillowImage) -> Image:
        """A path, a file's content or a Pillow image -> (H, W, C) uint8."""
        return decode(given, self.rule())


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreSquare(Step):
    """Cut out the centred square: where a pixel is left over, it is the last one that goes."""

    step: ClassVar[str] = "crop"
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType({"shape": "centre square"})

    def describe(self) -> str:
        """In words."""
        return "cut out the centred square"

    def apply(self, given: Image) -> Image:
        """(H, W, C) -> (S, S, C), S the shorter side."""
        height, width, _ = given.shape
        side = min(height, width)
        # rounded down, as `decoding.centre_square` does
        top, left = (height - side) // 2, (width - side) // 2
        return given[top : top + side, left : left + side]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Step):
    """Resize, see `resampling.py`.

    Attributes:
        height, width: of the result, in pixels.
        rounding: `uint8`: whole values from 0 to 255, after the width is resized and again after the height, ties up,
            as Pillow does; `none`: float32.
    """

    step: ClassVar[str] = "resize"
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType(
        {"filter": "bilinear", "antialias": True, "centres": "half-pixel", "border": "weights renormalised"}
    )

    height: int
    width: int
    rounding: str

    def __post_init__(self) -> None:
        _check_counts(self, "height", "width")
        if self.rounding not in _ROUNDINGS:
            raise DataError(f"resize: rounding is {as_written(self.rounding)}, but must be {' or '.join(_ROUNDINGS)}")

    def describe(self) -> str:
        """In words."""
        return (
            f"resize to {self.width} × {self.height} pixels: bilinear, with a filter as wide as the reduction, "
            f"half-pixel centres{', rounded to whole values' if self.rounding == 'uint8' else ''}"
        )

    def apply(self, given: Image) -> Image:
        """(H, W, C) -> (height, width, C), of the same type."""
        size = (self.height, self.width)
        return resize_uint8(given, size) if self.rounding == "uint8" else resize_float(given, size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels(Step):
    """What the steps before must have led to: pixels as those that the network learned from.

    Attributes:
        height, width: in pixels.
        channels: 1: grey. 3: red, green, blue, where image files were read; else as in the arrays that were given.
    """

    step: ClassVar[str] = "pixels"
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType({"dtype": "uint8", "layout": "HWC"})

    height: int
    width: int
    channels: int

    def __post_init__(self) -> None:
        _check_counts(self, "height", "width", "channels")

    def describe(self) -> str:
        """In words."""
        return (
            f"that is {self.width} × {self.height} pixels of {self.channels} "
            f"channel{'s' * (self.channels > 1)}, whole values from 0 to 255"
        )

    def apply(self, given: Image) -> Image:
        """The image itself.

        Raises:
            DataError: it is of another size.
        """
        # arrays that a caller gives have gone through no step that would fix their size
        wanted = (self.height, self.width, self.channels)
        if given.shape != wanted or given.dtype != np.uint8:
            raise DataError(
                f"the image has shape {given.shape}, {given.dtype}; the network was trained on images of the shape "
                f"{wanted} (height, width, channels), uint8"
            )
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRange(Step):
    """Pixels from 0 to 255 -> float32 from 0 to 1."""

    step: ClassVar[str] = "scale"
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType({"divide_by": 255, "dtype": "float32"})

    def describe(self) -> str:
        """In words."""
        return "divide by 255"

    def apply(self, given: Image) -> Image:
        """(H, W, C) uint8 -> float32."""
        # divided, not multiplied by 1 / 255, which is another float: torch does the same
        return given.astype(np.float32) / np.float32(255)


_MOST_TOLD = 16  # means in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByChannel(Step):
    """What subtracts a mean from each channel and divides it by a deviation.

    Attributes:
        mean: of each channel.
        std: likewise, above zero.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_numbers("mean", self.mean)
        _check_numbers("std", self.std)
        if not self.mean or len(self.mean) != len(self.std):
            raise DataError(f"{len(self.mean)} means and {len(self.std)} deviations; there is one of each a channel")
        if min(self.std) <= 0:
            raise DataError(f"std is {as_written(self.std)}, but every one must be above zero")

    def describe(self) -> str:
        """In words."""
        mean, std = (", ".join(f"{v:.6g}" for v in values) for values in (self.mean, self.std))
        return f"subtract {mean}, divide by {std}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalise(_ByChannel):
    """Subtract the mean, divide by the standard deviation.

    Attributes:
        mean: of each channel, on the scale from 0 to 1.
        std: likewise, above zero.
    """

    step: ClassVar[str] = "normalise"

    def apply(self, given: Image) -> Image:
        """(H, W, C) float32 -> float32."""
        # in float32 as in torch, so that both agree to the last bits
        return (given - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelsFirst(Step):
    """The network's input; how the artefact stores it, its manifest says at `artefact.input`."""

    step: ClassVar[str] = "layout"
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType({"layout": "CHW"})

    def describe(self) -> str:
        """In words."""
        return "put the channels first"

    def apply(self, given: Image) -> Image:
        """(H, W, C) -> (C, H, W), contiguous."""
        return np.ascontiguousarray(given.transpose(2, 0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers(Step):
    """Samples that are no images: numbers as those that the network learned from, channels first.

    Attributes:
        shape: (C, ...) of one sample.
    """

    step: ClassVar[str] = "numbers"
    always: ClassVar[Mapping[str, str | int]] = MappingProxyType({"dtype": "float32"})

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or not all(type(n) is int and n >= 1 for n in self.shape):
            raise DataError(f"numbers: shape is {as_written(self.shape)}, but must be whole numbers from 1")

    def describe(self) -> str:
        """In words."""
        return f"numbers of the shape {' × '.join(map(str, self.shape))}, channels first"

    def apply(self, given: Sample) -> Sample:
        """(C, ...) float32.

        Raises:
            DataError: it is of another shape, or holds no numbers.
        """
        if given.shape != self.shape or given.dtype.kind not in "biuf":
            raise DataError(
                f"the sample has shape {given.shape}, {given.dtype}; the network was trained on numbers of the shape "
                f"{self.shape}, channels first"
            )
        return given.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseNumbers(_ByChannel):
    """Subtract the mean of each channel, divide by its standard deviation; channels come first.

    Attributes:
        mean: of each channel, or of each run of channels.
        std: likewise, above zero.
        counts: channels of each run, one run after the other; empty where there is one of each a channel.
    """

    step: ClassVar[str] = "normalise_numbers"

    counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _ByChannel.__post_init__(self)
        right = isinstance(self.counts, tuple) and all(type(n) is int and n >= 1 for n in self.counts)
        if not right or (self.counts and len(self.counts) != len(self.mean)):
            raise DataError(f"counts is {as_written(self.counts)}, but must be a whole number from 1 for each mean")

    def to_json(self) -> dict[str, Any]:
        """For a manifest."""
        found = Step.to_json(self)
        if not self.counts:  # as before there were runs
            del found["counts"]
        return found

    def describe(self) -> str:
        """In words."""
        if len(self.mean) > _MOST_TOLD:
            return f"subtract a mean and divide by a deviation, of {len(self.mean)} channels each its own"
        words = _ByChannel.describe(self)
        return f"{words}, of {', '.join(map(str, self.counts))} channels in their order" if self.counts else words

    def apply(self, given: Sample) -> Sample:
        """(C, ...) float32 -> float32."""
        around = (-1, *(1,) * (given.ndim - 1))
        counts = self.counts or 1
        shift, scale = (np.repeat(np.asarray(v, np.float32), counts).reshape(around) for v in (self.mean, self.std))
        return np.ascontiguousarray((given - shift) / scale)


_STEPS: dict[str, type[Step]] = {
    kind.step: kind
    for kind in (
        Decode, CentreSquare, Resize, Pixels, UnitRange, Normalise, ChannelsFirst, Numbers, NormaliseNumbers
    )
}  # fmt: skip


def step_from_json(value: object) -> Step:
    """A step of a manifest, strictly.

    Raises:
        DataError: it is none that this version can do, or says something that this version does not know: without it
            pixels would become others in silence.
    """
    kind = value.get("step") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str) or kind not in _STEPS:
        raise DataError(f"preprocessing: {as_written(kind)} is no step that is known here; known: {', '.join(_STEPS)}")
    found = _STEPS[kind]
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items() if name != "step"}
    for name, only in found.always.items():
        told = given.pop(name, only)
        if told != only or type(told) is not type(only):
            raise DataError(f"preprocessing: {kind}: {name} is {as_written(told)}, but is {only} in every one")
    fields = {field.name: field for field in dataclasses.fields(found)}
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if odd := sorted(map(str, set(given) - set(fields) | needed - set(given))):
        raise DataError(f"preprocessing: {kind}: {as_written(odd[0])} is not known or is missing")
    return found(**given)


def _check_counts(step: Step, *names: str) -> None:
    for name in names:
        value = getattr(step, name)
        if type(value) is not int or value < 1:
            raise DataError(f"{step.step}: {name} is {as_written(value)}, but must be a whole number from 1")


def _check_numbers(name: str, values: object, *, n: int | None = None) -> None:
    right = isinstance(values, tuple) and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    if not isinstance(values, tuple) or not right or (n is not None and len(values) != n):
        raise DataError(f"{name} is {as_written(values)}, but must be {n or 'a list of'} finite numbers")

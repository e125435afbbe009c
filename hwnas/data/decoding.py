"""From an image file to pixels, by a rule that is a value: training reads by it, a deployment repeats it.

    rule = DecodingRule(channels=3, ground="white", size=64)
    pixels = decode(Path("cat.png"), rule)  # (64, 64, 3) uint8

The aim is what a viewer shows: turned by its EXIF orientation, palettes and CMYK as colours, transparent
pixels on a ground, the first frame of several. More than eight bits of grey are mapped by one range for a
whole data set, never image by image. Knows Pillow and numpy; never folders, data sets or torch.
"""

from __future__ import annotations

import io
import math
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import DataError
from hwnas.foreign import shown

if TYPE_CHECKING:
    from PIL.Image import Image

UInt8Array = npt.NDArray[np.uint8]
Source = Path | str | bytes | IO[bytes]

# The value of what lies under transparent pixels.
GROUNDS = {"white": 255, "grey": 128, "black": 0}
# Read by Pillow itself. Never EPS, which it hands to Ghostscript, nor WMF, nor what it only recognises.
FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "ICNS",
    "ICO", "IM", "JPEG2000", "MPO", "MSP", "PCX", "PSD", "QOI", "SGI", "SUN", "TGA", "XBM", "XPM",
)  # fmt: skip
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_MANY_FRAMES = frozenset({"GIF", "WEBP", "TIFF", "PNG", "AVIF", "DCX", "FLI"})  # not MPO: its first frame is the photo
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # TIFF tags
_CMYK_MODES = frozenset({"CMYK", "YCCK"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingRule:
    """How an image file becomes (H, W, C) in 0..255; the steps are done in the order of the attributes.

    Attributes:
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.
        ground: of GROUNDS: what lies under transparent pixels.
        value_range: stored values of grey images of more than eight bits that become 0 and 255; what lies
            between them is scaled linearly, what lies beyond is clipped. None: such images are refused.
        size: side in pixels of the centred square that is cut out and resized, by a bilinear filter as wide as
            the reduction; None: pixels stay as they are.
    """

    channels: int
    ground: str = "white"
    value_range: tuple[float, float] | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise DataError(f"decoding: channels is {self.channels!r}, but must be 1 or 3")
        if self.ground not in GROUNDS:
            raise DataError(f"decoding: unknown ground {self.ground!r}; known: {', '.join(GROUNDS)}")
        if self.size is not None and not 1 <= self.size <= 1 << 14:
            raise DataError(f"decoding: size is {self.size!r}, but must be 1 to {1 << 14} pixels")
        if self.value_range is not None:
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise DataError(f"decoding: the range {low:g}..{high:g} is not of two numbers that grow")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"value_range": None if self.value_range is None else list(self.value_range)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What an image's header says about how its pixels are stored.

    Attributes:
        grey: there is no colour in it.
        deep: grey of more than eight bits, which a range must map.
        deep_colour: colour of more than eight bits, of which the upper eight are kept.
        alpha: it may be transparent in places.
        cmyk: inks, converted without a colour profile.
        frames: more than one.
        profile: a colour profile other than sRGB, which is not applied.
    """

    grey: bool
    deep: bool
    deep_colour: bool
    alpha: bool
    cmyk: bool
    frames: bool
    profile: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """One image's pixels, and what was done to transparent ones.

    Attributes:
        pixels: (H, W, C).
        transparent: some pixels let the ground through.
        hidden: the drawing is in the transparency, but on this ground nothing of it is seen.
    """

    pixels: UInt8Array
    transparent: bool = False
    hidden: bool = False


def decode(source: Source | Image, rule: DecodingRule) -> UInt8Array:
    """The pixels of an image file: (H, W, C) in 0..255.

    Args:
        source: a path, a file's content, a file open for reading bytes, or an image that Pillow has opened.
        rule: how.

    Raises:
        DataError: it cannot be read as an image, or is one the rule does not cover.
    """
    return decode_fully(source, rule).pixels


def decode_fully(source: Source | Image, rule: DecodingRule) -> Decoded:
    """The pixels of an image file, and what was done to transparent ones.

    Raises:
        DataError: see `decode`.
    """
    with open_image(source) as image:
        return _decode(image, rule)


def look(source: Source) -> ImageFacts:
    """What the header of an image file says; its pixels are not read.

    Raises:
        DataError: it is not an image of a format in FORMATS.
    """
    with open_image(source) as image:
        raw = stored_mode(image)
        deep = _is_deep(image)
        profile = image.info.get("icc_profile")
        return ImageFacts(
            grey=image.mode in _GREY_MODES or raw.startswith("LA;"),
            deep=deep,
            deep_colour=not deep and ";16" in raw and image.format in ("PNG", "TIFF"),
            alpha=_may_be_transparent(image),
            cmyk=image.mode in _CMYK_MODES,
            frames=image.format in _MANY_FRAMES and getattr(image, "n_frames", 1) > 1,
            profile=isinstance(profile, bytes) and not _is_srgb(profile),
        )


def raw_grey(source: Source) -> npt.NDArray[Any]:
    """The stored values of a grey image of more than eight bits: (H, W).

    Raises:
        DataError: it cannot be read, or is no such image; NaN.
    """
    with open_image(source) as image:
        return _raw(image)


def readable_suffixes() -> frozenset[str]:
    """Endings of files that can be read here, with their dot, in lower case."""
    from PIL import Image

    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in FORMATS)


# ---------------------------------------------------------------- one image


@contextmanager
def open_image(source: Source | Image) -> Iterator[Image]:
    """The image, not yet decoded; whatever goes wrong inside becomes a DataError that names it."""
    from PIL import Image, UnidentifiedImageError

    # registers every plug-in, so that `Image.OPEN` tells which formats this Pillow has
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        if isinstance(source, Image.Image):
            yield source
            return
        if isinstance(source, str | Path):
            _regular(Path(source))
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on odd metadata: the pixels are what counts
            # only these: without the list Pillow hands EPS to Ghostscript, a program
            with Image.open(file, formats=formats) as image:
                yield image
    except DataError:
        raise
    # damaged files bring decoders to raise nearly anything: struct.error, KeyError, RuntimeError, ...
    except Exception as e:
        why = str(e) or type(e).__name__
        if isinstance(e, UnidentifiedImageError):
            why = "it is not an image of a format that can be read"
        raise DataError(f"the image {_named(source)} cannot be read: {why}; repair or remove it") from e


def _regular(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, a device never ends
        raise DataError(f"the image {shown(path)} cannot be read: it is not a regular file; remove it")


def _decode(file: Image, rule: DecodingRule) -> Decoded:
    from PIL import Image as pillow  # noqa: N813 - the class is named Image too
    from PIL import ImageOps

    mode = "L" if rule.channels == 1 else "RGB"
    transparent = hidden = False
    image: Image
    if _is_deep(file):
        image = pillow.fromarray(_eight_bits(file, rule))
    else:
        may_be, stored = _may_be_transparent(file), stored_mode(file)
        # first of all: the steps after it are about the picture as it is seen
        image = ImageOps.exif_transpose(file)
        if may_be:
            _scale_key_(image, stored)
            image, transparent, hidden = _on_ground(image, GROUNDS[rule.ground])
        elif image.mode == "P":  # palettes first to colours: their indices are no brightness
            image = image.convert("RGB")
    if image.mode != mode:
        image = image.convert(mode)
    if rule.size is not None:
        # the crop first: the resize then computes only what stays
        image = centre_square(image).resize((rule.size, rule.size), pillow.Resampling.BILINEAR)
    array = np.array(image, dtype=np.uint8)
    pixels = array.reshape(*array.shape[:2], rule.channels)
    return Decoded(pixels=pixels, transparent=transparent, hidden=hidden)


def centre_square(image: Image) -> Image:
    """As `preprocess.CentreSquare` cuts it out: at whole pixels."""
    side = min(image.size)
    left, top = ((extent - side) // 2 for extent in image.size)
    return image.crop((left, top, left + side, top + side))


def _scale_key_(image: Image, stored: str) -> None:
    """Bring a PNG's transparent colour to eight bits, as Pillow has brought the pixels but not the colour itself.

    Args:
        image: a copy of the file's.
        stored: how the file stores a pixel, see `stored_mode`.
    """
    key = image.info.get("transparency")
    if isinstance(key, tuple) and ";16" in stored:
        # colours that share the upper eight bits with it go with it: the lower ones are lost
        image.info["transparency"] = tuple(value >> 8 for value in key)
    elif isinstance(key, int) and stored in ("L;2", "L;4"):
        image.info["transparency"] = key * (255 // ((1 << int(stored[2:])) - 1))


def _on_ground(image: Image, value: int) -> tuple[Image, bool, bool]:
    """The image laid on a ground; whether it lets the ground through; whether nothing of it is seen."""
    from PIL import Image as pillow  # noqa: N813

    # premultiplied modes convert to RGBA only by way of their plain ones
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
    alpha = np.asarray(image.getchannel("A"))
    # an alpha channel that is opaque everywhere changes nothing, and is not told of
    if alpha.min() == 255:
        return image.convert("RGB"), False, False
    ground = pillow.new("RGBA", image.size, (value, value, value, 255))
    seen = pillow.alpha_composite(ground, image).convert("RGB")
    colours = np.asarray(seen).reshape(-1, 3)
    # black drawings on nothing, laid on black: all pixels equal, though alpha has a shape
    hidden = bool(alpha.min() != alpha.max() and (colours == colours[0]).all())
    return seen, True, hidden


def _is_deep(image: Image) -> bool:
    # Pillow's modes: 16 and 32 bit integers, and floats
    return image.mode.startswith("I") or image.mode == "F"


def _eight_bits(image: Image, rule: DecodingRule) -> UInt8Array:
    """Grey of more than eight bits, mapped by the rule's range."""
    if rule.value_range is None:
        raise DataError(
            f"the image {_named(image)} has more than eight bits of grey, and the range of its values is not known; "
            "give it, for example range=0..65535"
        )
    inverted = _tag(image, _PHOTOMETRIC) == 0  # of TIFF: zero is white
    key = image.info.get("transparency")
    raw = _raw(image)
    low, high = rule.value_range
    # in double precision: 32-bit values would lose their last bits in single
    grey = np.rint(np.clip((raw.astype(np.float64) - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    if inverted:
        grey = 255 - grey
    # a PNG's transparent grey is one stored value; compared before mapping, which is not one to one
    if isinstance(key, int):
        grey[raw == key] = GROUNDS[rule.ground]
    return grey


def _raw(image: Image) -> npt.NDArray[Any]:
    from PIL import ImageOps

    unsigned = image.mode == "I" and _tag(image, _SAMPLE_FORMAT) == 1
    raw = np.asarray(ImageOps.exif_transpose(image))
    if raw.ndim != 2 or not _is_deep(image):
        raise ValueError(f"its mode {image.mode} is not grey of more than eight bits")
    if unsigned:  # Pillow has no mode for 32 bits without a sign
        raw = raw.view(np.uint32)
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise ValueError("it holds NaN or infinite values")
    return raw


def _may_be_transparent(image: Image) -> bool:
    return "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")


def stored_mode(image: Image) -> str:
    """How the file stores a pixel, in Pillow's words: `RGB;16B`."""
    tile = getattr(image, "tile", None)
    if not tile:
        return ""
    arguments = tile[0][3]
    # Pillow's plug-ins hold it as a text or as the first of a tuple
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _tag(image: Image, number: int) -> int | None:
    """A TIFF tag's first value; None in other formats."""
    tags = getattr(image, "tag_v2", None)
    value = tags.get(number) if tags is not None else None
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else None


def _is_srgb(profile: bytes) -> bool:
    # by its description, which is ASCII in version 2 and UTF-16 in version 4
    return b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile


def _named(source: object) -> str:
    if isinstance(source, str | Path):
        return shown(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return shown(name) if isinstance(name, str) and name else "given"

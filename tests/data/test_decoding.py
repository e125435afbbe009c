"""Each way of storing pixels becomes what a viewer shows, or an error that names the file."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from hwnas.data.decoding import FORMATS, DecodingRule, decode, decode_fully, look, raw_grey, readable_suffixes
from hwnas.errors import DataError

COLOUR = DecodingRule(channels=3)
GREY = DecodingRule(channels=1)
RAMP = (np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)


def png(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    with io.BytesIO() as file:
        image.save(file, format, **options)
        return file.getvalue()


def ink(mode: str) -> Image.Image:
    """Black ink on a transparent ground: all colours are 0, the drawing is in alpha."""
    alpha = Image.new("L", (8, 8), 0)
    alpha.paste(255, (2, 2, 5, 6))
    image = Image.new(mode, (8, 8), 0)
    image.putalpha(alpha)
    return image


DRAWN = np.full((8, 8), 255, np.uint8)
DRAWN[2:6, 2:5] = 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_ink_on_a_transparent_ground_is_drawn_on_white(mode: str) -> None:
    assert np.array_equal(decode(png(ink(mode)), GREY)[..., 0], DRAWN)
    assert np.array_equal(decode(png(ink(mode)), COLOUR)[..., 2], DRAWN)


def test_another_ground_may_be_asked_for() -> None:
    grey = decode(png(ink("RGBA")), DecodingRule(channels=1, ground="grey"))[..., 0]
    assert (grey[0, 0], grey[3, 3]) == (128, 0)


def test_ink_that_is_not_seen_on_its_ground_is_told() -> None:
    assert decode_fully(png(ink("RGBA")), DecodingRule(channels=1, ground="black")).hidden
    assert not decode_fully(png(ink("RGBA")), GREY).hidden


def test_an_opaque_alpha_channel_changes_nothing() -> None:
    image = Image.fromarray(RAMP).convert("RGB")
    image.putalpha(255)
    found = decode_fully(png(image), GREY)
    assert np.array_equal(found.pixels[..., 0], RAMP)
    assert not found.transparent


def test_half_transparent_pixels_are_mixed_with_the_ground() -> None:
    assert decode(png(Image.new("RGBA", (8, 8), (0, 100, 200, 51))), COLOUR)[0, 0] == pytest.approx(
        [204, 224, 244], abs=1
    )


def test_a_palette_with_a_transparent_entry_is_drawn_on_white() -> None:
    image = Image.fromarray((RAMP > 100).astype(np.uint8))
    image = image.convert("P")
    image.putpalette([9, 9, 9, 200, 0, 0])
    pixels = decode(png(image, transparency=0), COLOUR)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[7, 7].tolist() == [200, 0, 0]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_key_is_drawn_on_white(mode: str) -> None:
    image = Image.fromarray(np.where(RAMP > 100, 60, 0).astype(np.uint8)).convert(mode)
    pixels = decode(png(image, transparency=0 if mode == "L" else (0, 0, 0)), GREY)
    assert (pixels[0, 0, 0], pixels[7, 7, 0]) == (255, 60)


def test_palettes_are_read_as_their_colours() -> None:
    image = Image.fromarray((RAMP > 100).astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 0, 0])
    for kind in ("GIF", "PNG", "BMP", "TIFF"):
        assert decode(png(image, kind), COLOUR)[0, 0].tolist() == [10, 20, 30]


def test_black_and_white_spans_the_full_range() -> None:
    pixels = decode(png(Image.fromarray(RAMP > 100)), GREY)
    assert set(pixels.ravel()) == {0, 255}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_read_as_its_colour(kind: str) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow ink: red
    red, green, blue = decode(png(image, kind), COLOUR)[4, 4].tolist()
    assert red > 245
    assert max(green, blue) < 10
    assert look(png(image, kind)).cmyk


@pytest.mark.parametrize("top", [65535, 16383, 4095, 1023, 255])
def test_deep_grey_keeps_all_levels_of_its_range(top: int) -> None:
    values = np.linspace(0, top, 64).round().astype(np.uint16).reshape(8, 8)
    rule = DecodingRule(channels=1, value_range=(0, top))
    expected = np.rint(values * (255 / top))
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decode(png(Image.fromarray(values), kind), rule)[..., 0], expected)


def test_deep_grey_is_clipped_to_the_range_of_the_set() -> None:
    image = Image.fromarray(np.array([[100, 200], [300, 400]], np.uint16).repeat(4, 0))
    pixels = decode(png(image), DecodingRule(channels=1, value_range=(200, 300)))
    assert sorted(set(pixels.ravel())) == [0, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wider_grey_is_scaled_by_the_range(dtype: type) -> None:
    values = np.linspace(-10, 50, 64).astype(dtype).reshape(8, 8)
    pixels = decode(png(Image.fromarray(values), "TIFF"), DecodingRule(channels=1, value_range=(-10, 50)))
    assert np.array_equal(pixels[..., 0], np.rint((values.astype(float) + 10) * (255 / 60)))


def test_deep_grey_without_a_range_is_refused_with_what_to_give() -> None:
    with pytest.raises(DataError, match=r"range=0\.\.65535"):
        decode(png(Image.fromarray(RAMP.astype(np.uint16))), GREY)


def test_nan_is_refused(tmp_path: Path) -> None:
    (path := tmp_path / "x.tif").write_bytes(png(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"))
    with pytest.raises(DataError, match="NaN"):
        decode(path, DecodingRule(channels=1, value_range=(0, 1)))


def test_tiff_whose_zero_is_white_is_turned_round() -> None:
    content = bytearray(png(Image.fromarray(RAMP.astype(np.uint16) * 256), "TIFF"))
    at = content.index(struct.pack("<HHIHH", 262, 3, 1, 1, 0))
    content[at + 8] = 0  # photometric interpretation: minimum is white
    pixels = decode(bytes(content), DecodingRule(channels=1, value_range=(0, 255 * 256)))
    assert np.array_equal(pixels[..., 0], 255 - RAMP)


def test_unsigned_values_of_32_bits_are_not_taken_as_negative() -> None:
    content = bytearray(png(Image.fromarray(np.full((8, 8), -1, np.int32)), "TIFF"))
    at = content.index(struct.pack("<HHIHH", 339, 3, 1, 2, 0))
    content[at + 8] = 1  # sample format: unsigned
    assert raw_grey(bytes(content)).max() == 2**32 - 1


def test_an_image_is_turned_by_its_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    for image in (Image.fromarray(RAMP[:4]), Image.fromarray(RAMP[:4].astype(np.uint16))):
        pixels = decode(png(image, exif=exif), DecodingRule(channels=1, value_range=(0, 255)))
        assert np.array_equal(pixels[..., 0], np.rot90(RAMP[:4], -1))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_of_several_frames_is_read(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 255, 255)), Image.new("RGB", (8, 8))
    options = {"lossless": True} if kind == "WEBP" else {}
    content = png(first, kind, save_all=True, append_images=[second], **options)
    assert decode(content, GREY).min() == 255
    assert look(content).frames


def test_the_header_says_what_will_be_told() -> None:
    deep = look(png(Image.fromarray(RAMP.astype(np.uint16))))
    assert (deep.deep, deep.grey, deep.alpha) == (True, True, False)
    plain = look(png(Image.new("RGB", (8, 8)), icc_profile=b"Adobe RGB (1998)"))
    assert (plain.grey, plain.profile, plain.frames, plain.cmyk) == (False, True, False, False)
    assert not look(png(Image.new("RGB", (8, 8)), icc_profile=b"desc sRGB IEC61966-2.1")).profile


def raw_png(row: bytes, *, depth: int, kind: int, key: bytes = b"") -> bytes:
    """Four equal rows of four pixels in a form that Pillow does not write; `kind` 0 is grey, 2 red, green, blue."""
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 4, 4, depth, kind, 0, 0, 0)
    transparent = chunk(b"tRNS", key) if key else b""
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 4))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + transparent + pixels + chunk(b"IEND", b"")


def deep_colour_png() -> bytes:
    """4x4 of 16 bits a channel."""
    return raw_png(struct.pack(">3H", 0x80FF, 0x10FF, 0) * 4, depth=16, kind=2)


def test_colour_of_sixteen_bits_keeps_the_upper_eight_and_is_told() -> None:
    assert decode(deep_colour_png(), COLOUR)[0, 0].tolist() == [0x80, 0x10, 0]
    assert look(deep_colour_png()).deep_colour


@pytest.mark.parametrize(
    ("row", "depth", "key", "seen"),
    [
        (b"\x50", 1, 1, [0, 128, 0, 128]),
        (b"\x1b", 2, 2, [0, 85, 128, 255]),
        (b"\x0f\x5a", 4, 5, [0, 255, 128, 170]),
        (b"\x00\x05\x5a\xff", 8, 5, [0, 128, 90, 255]),
    ],
)
def test_a_transparent_grey_of_any_depth_shows_the_ground(row: bytes, depth: int, key: int, seen: list[int]) -> None:
    content = raw_png(row, depth=depth, kind=0, key=struct.pack(">H", key))
    assert decode(content, DecodingRule(channels=1, ground="grey"))[0, :, 0].tolist() == seen


def test_a_transparent_colour_of_sixteen_bits_shows_the_ground() -> None:
    colours = struct.pack(">3H", 0x80FF, 0x1011, 0x2022), struct.pack(">3H", 0x1111, 0x2222, 0x3333)
    content = raw_png(b"".join(colours) * 2, depth=16, kind=2, key=colours[0])
    assert decode(content, COLOUR)[0, :2].tolist() == [[255, 255, 255], [0x11, 0x22, 0x33]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_all_eight_orientations_are_turned_in_every_format_that_has_them(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow reads no AVIF")
    stored = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, np.ones((8, 8), np.uint8))
    # what Exif 2.3, section 4.6.4, says of rows and columns
    seen = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.T, 6: stored[::-1].T, 7: stored[::-1, ::-1].T, 8: stored.T[::-1],
    }  # fmt: skip
    for orientation, expected in seen.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind in ("JPEG", "MPO", "AVIF") else {}
        pixels = decode(png(Image.fromarray(stored).convert("RGB"), kind, exif=exif, **options), GREY)[..., 0]
        np.testing.assert_allclose(pixels.astype(int), expected.astype(int), atol=8)


def test_a_size_cuts_a_centred_square_and_averages() -> None:
    image = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 64)))  # columns, 128 wide
    pixels = decode(png(image), DecodingRule(channels=1, size=8))
    assert pixels.shape == (8, 8, 1)
    assert np.abs(pixels.astype(int) - 127).max() <= 5  # two taps would give 0 or 255


# ---------------------------------------------------------------- the rule as a value


def test_a_rule_can_be_written_as_json() -> None:
    rule = DecodingRule(channels=1, ground="black", value_range=(29_000, 31_000.5), size=64)
    assert json.loads(json.dumps(rule.to_dict())) == {
        "channels": 1, "ground": "black", "value_range": [29_000, 31_000.5], "size": 64
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"ground": "pink"},
        {"value_range": (3, 3)},
        {"value_range": (0, float("nan"))},
        {"size": 0},
    ],
)
def test_a_rule_that_is_not_one_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="decoding"):
        replace(COLOUR, **change)


def test_decoding_loads_no_torch() -> None:
    code = "import sys, hwnas.data.decoding as d; d.readable_suffixes(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- what is not an image


def test_postscript_is_never_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "x.png").write_bytes(png(Image.new("RGB", (8, 8)), "EPS"))
    monkeypatch.setattr(subprocess, "check_call", lambda *a, **k: pytest.fail("a program was started"))
    with pytest.raises(DataError, match=r"x\.png cannot be read: it is not an image of a format"):
        decode(path, COLOUR)
    assert not {"EPS", "WMF"} & set(FORMATS)
    assert not {".eps", ".ps", ".wmf", ".pdf"} & readable_suffixes()


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "y.png").symlink_to("/dev/zero")
    for name in ("x.png", "y.png"):
        with pytest.raises(DataError, match="not a regular file"):
            decode(tmp_path / name, COLOUR)


def test_a_name_that_is_not_utf8_can_be_printed() -> None:
    with pytest.raises(DataError) as caught:
        decode(os.fsdecode(b"/no/K\xe4fer.png"), COLOUR)
    assert r"K\xe4fer.png" in str(caught.value)
    str(caught.value).encode()


SAVED = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "TGA",
    "PCX",
    "ICO",
    "PPM",
    "SGI",
    "JPEG2000",
    "DDS",
    "AVIF",
    "QOI",
)


@pytest.mark.parametrize("kind", [*SAVED, "MSP", "XBM"])
def test_a_damaged_image_is_a_data_error(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow reads no AVIF")
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    whole = png(image.convert("1") if kind in ("MSP", "XBM") else image, kind)
    for _ in range(25):
        content = bytearray(whole)
        for at in rng.integers(0, min(len(content), 300), 4):
            content[at] = rng.integers(256)
        for damaged in (bytes(content), whole[: rng.integers(len(whole))]):
            for read in (look, lambda given: decode(given, DecodingRule(channels=3, size=8, value_range=(0, 9)))):
                try:
                    read(damaged)
                except DataError as e:
                    assert "\n" not in str(e)  # noqa: PT017 - some damage leaves an image

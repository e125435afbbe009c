"""Ways to damage the bytes of a file, each with a random generator. Knows nothing of what the bytes mean."""

from __future__ import annotations

import random
from collections.abc import Callable


def flip_bit(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data))
    return data[:i] + bytes([data[i] ^ (1 << rng.randrange(8))]) + data[i + 1 :]


def another_byte(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data))
    return data[:i] + bytes([(data[i] + rng.randrange(1, 256)) % 256]) + data[i + 1 :]


def another_digit(data: bytes, rng: random.Random) -> bytes:
    places = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return another_byte(data, rng)
    i = rng.choice(places)
    return data[:i] + rng.choice([d for d in b"0123456789" if d != data[i]]).to_bytes(1, "big") + data[i + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def cut_at_a_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(lines[: rng.randrange(1, len(lines))]) if len(lines) > 1 else cut(data, rng)


def nul_block(data: bytes, rng: random.Random) -> bytes:
    i = rng.randrange(len(data))
    size = rng.randrange(1, 513)
    return data[:i] + b"\0" * min(size, len(data) - i) + data[i + size :]


def without_a_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def doubled_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    i = rng.randrange(len(lines))
    return b"".join([*lines[: i + 1], *lines[i:]])


def swapped_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    i, j = (rng.sample(range(len(lines)), 2)) if len(lines) > 1 else (0, 0)
    lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


def emptied(data: bytes, rng: random.Random) -> bytes:
    return b""


def garbage_at_the_end(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randrange(1, 200)) + rng.choice([b"", b"\n"])


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bit,
    another_byte,
    another_digit,
    cut,
    cut_at_a_line,
    nul_block,
    without_a_line,
    doubled_line,
    swapped_lines,
    emptied,
    garbage_at_the_end,
)
GONE = "gone"

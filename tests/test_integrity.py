"""Checksums: nothing that was written can change unnoticed, and what says the same is not refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load, save

from hwnas.errors import IntegrityError
from hwnas.integrity import (
    SHA256,
    digest,
    open_document,
    open_line,
    open_tensors,
    parse_json,
    seal_document,
    seal_line,
    seal_tensors,
)

VALUES = {"schema": 2, "time_ms": 0.140, "on": True, "names": ["cat", "dög"], "rest": {"a": 1, "b": None}}


def flips(data: bytes, n: int, *, seed: int = 0) -> list[bytes]:
    """Copies of some bytes, each with one changed: all 8 bits of chosen places, and other bytes."""
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        changed = bytearray(data)
        i = rng.randrange(len(data))
        changed[i] ^= rng.choice([1 << rng.randrange(8), rng.randrange(1, 256)])
        found.append(bytes(changed))
    return found


def sealed() -> bytes:
    return json.dumps(seal_document(VALUES), indent=2).encode()


def test_a_sealed_document_is_read_as_it_was_written() -> None:
    assert open_document(sealed()) == VALUES


def test_another_layout_of_the_same_values_is_the_same_document() -> None:
    values = json.loads(sealed())
    shuffled = dict(sorted(values.items(), reverse=True))
    assert open_document(json.dumps(shuffled, separators=(",", ":"), ensure_ascii=False)) == VALUES


def test_sealing_again_gives_the_same_digest() -> None:
    assert seal_document(seal_document(VALUES)) == seal_document(VALUES)
    assert seal_document({"t": (1, 2)})[SHA256] == seal_document({"t": [1, 2]})[SHA256]


def test_no_changed_byte_of_a_document_changes_what_is_read() -> None:
    for changed in flips(sealed(), 2000):
        try:
            assert open_document(changed) == VALUES  # a space became another space, say
        except IntegrityError:
            continue


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.replace(b"0.14", b"0.15"), "does not match its checksum"),
        (lambda d: d.replace(b'"time_ms"', b'"time_us"'), "does not match its checksum"),
        (lambda d: d.replace(b"true", b"1"), "does not match its checksum"),
        (lambda d: d.replace(b"0.14", b"NaN"), "NaN is no JSON number"),
        (lambda d: d.replace(b"0.14", b"1e999"), "not JSON compliant"),
        (lambda d: d.replace(b'"sha256"', b'"sha257"'), "is missing"),
        (lambda d: d.replace(b'"schema": 2', b'"schema": 1'), "does not match its checksum"),
        (lambda d: d.replace(b'"on"', b'"schema"'), "stands twice"),
        (lambda d: d + b"}", "Extra data"),
        (lambda d: d[: len(d) // 2], "Expecting"),
        (lambda d: d.replace(b"cat", b"c\xffat"), "utf-8"),
        (lambda d: b"\0" * len(d), "Expecting value"),
        (lambda d: b"[" * 100_000, "nested too deeply"),
        (lambda d: b"[]", "holds list"),
        (lambda d: b"", "Expecting value"),
    ],
)
def test_every_kind_of_damage_to_a_document_is_told(change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        open_document(change(sealed()))


def test_a_document_of_an_older_schema_may_lack_the_digest_and_one_of_today_may_not() -> None:
    def is_older(values: dict[str, object]) -> bool:
        return values.get("schema") == 1

    assert open_document('{"schema": 1}', is_older=is_older) == {"schema": 1}
    with pytest.raises(IntegrityError, match="is missing"):
        open_document('{"schema": 2}', is_older=is_older)
    with pytest.raises(IntegrityError, match="does not match"):  # the schema alone does not switch the check off
        open_document(sealed().replace(b'"schema": 2', b'"schema": 1'), is_older=is_older)


def test_what_is_not_finite_has_no_digest() -> None:
    with pytest.raises(IntegrityError, match="JSON compliant"):
        digest({"x": float("nan")})


def test_json_is_read_strictly() -> None:
    assert parse_json(b'{"a": [1, 2.5]}') == {"a": [1, 2.5]}
    with pytest.raises(IntegrityError):
        parse_json('{"a": 1, "a": 1}')


# ---------------------------------------------------------------- lines


def test_a_line_is_read_as_it_was_written_with_its_number() -> None:
    line = seal_line(VALUES, number=7, first="0123")
    assert open_line(line[:-1].encode(), first="0123") == (7, VALUES)
    assert json.loads(line)["time_ms"] == 0.14  # any reader of JSON lines can read it


def test_no_byte_of_a_line_can_be_changed() -> None:
    line = seal_line(VALUES, number=7)[:-1].encode()
    for changed in flips(line, 2000):
        with pytest.raises(IntegrityError):
            open_line(changed)


def test_a_line_of_another_file_is_refused() -> None:
    with pytest.raises(IntegrityError, match="does not match"):
        open_line(seal_line(VALUES, number=7, first="0123")[:-1].encode(), first="4567")


# ---------------------------------------------------------------- tensors


def tensors(**metadata: str) -> bytes:
    data: bytes = save(
        {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, np.int8)}, metadata=metadata or None
    )
    return data


def test_sealed_tensors_are_a_safetensors_file_with_the_same_content() -> None:
    data = seal_tensors(tensors(note="x"))
    assert open_tensors(data) == {"note": "x"}
    assert {k: v.tolist() for k, v in load(data).items()} == {"w": [[0, 1, 2], [3, 4, 5]], "b": [0, 0]}
    assert seal_tensors(data) == data


def test_tensors_without_metadata_are_sealed_too() -> None:
    assert open_tensors(seal_tensors(tensors())) == {}


def test_sealed_tensors_are_the_same_bytes_every_time() -> None:
    many = {f"key{i}": str(i) for i in range(20)}
    assert seal_tensors(tensors(**many)) == seal_tensors(tensors(**dict(reversed(many.items()))))


def test_no_changed_byte_of_a_tensor_or_its_description_is_read() -> None:
    data = seal_tensors(tensors(note="x"))
    for changed in flips(data, 2000):
        try:
            assert open_tensors(changed) == {"note": "x"}
        except IntegrityError:
            continue
        assert changed.replace(b"\t", b" ").replace(b"\n", b" ").replace(b"\r", b" ") == data  # the padding


@pytest.mark.parametrize(
    "change",
    [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:5], lambda d: b"", lambda d: b"\xff" * 8 + d[8:]],
)
def test_cut_or_longer_tensors_are_told(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(IntegrityError):
        open_tensors(change(seal_tensors(tensors())))


def test_tensors_of_an_older_file_may_lack_the_digest() -> None:
    assert open_tensors(tensors(note="x"), is_older=lambda m: m == {"note": "x"}) == {"note": "x"}
    with pytest.raises(IntegrityError, match="is missing"):
        open_tensors(tensors(note="y"), is_older=lambda m: m == {"note": "x"})

"""Files, names and texts that come from elsewhere."""

import os
from pathlib import Path

import pytest

from hwnas.foreign import ForeignFileError, inner_path, is_file_name, printable, quoted, read_foreign, words_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a board, 4 °C, Grün, 板", "a board, 4 °C, Grün, 板"),
        ("\x1b]0;owned\x07\x1b[31mred", r"\x1b]0;owned\x07\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),  # the same sequence in one character
        ("two\nlines\tand\rback", "two lines and back"),
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),  # turns the direction of writing
        ("zero\u200bwidth\u2028line", r"zero\u200bwidth line"),
        ("\udcff name that is not UTF-8", r"\udcff name that is not UTF-8"),
        ("\0\b\x7f", r"\x00\x08\x7f"),
    ],
)
def test_nothing_a_terminal_would_act_on_is_left(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_a_long_text_is_cut_with_a_mark() -> None:
    assert printable("x" * 1000, limit=10) == "xxxxxxxxxx… (1000 characters)"
    assert len(quoted({"a": "x" * 10_000})) < 400


def test_words_are_the_lines_with_words() -> None:
    assert words_of(b"\r\n@@@@\n  Your password   has expired.\x1b[0m\n\xff\xfe\n3 left") == (
        r"Your password has expired.\x1b[0m; 3 left"
    )
    assert words_of(b"\n \n") == ""


def test_a_regular_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_foreign(path, limit_bytes=5) == b"12345"
    assert read_foreign(path, limit_bytes=1 << 50, start=3) == b"45"  # (no memory is taken for the limit)
    assert read_foreign(path, limit_bytes=5, start=9) == b""
    assert read_foreign(Path("/proc/self/status"), limit_bytes=1 << 20).startswith(b"Name:")
    with pytest.raises(ForeignFileError, match="larger than 4 bytes"):
        read_foreign(path, limit_bytes=4)


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(ForeignFileError, match="regular file"):
            read_foreign(path, limit_bytes=10)
    with pytest.raises((ForeignFileError, OSError)):
        read_foreign(tmp_path, limit_bytes=10)
    with pytest.raises(ForeignFileError, match="NUL"):
        read_foreign(Path("a\0b"), limit_bytes=10)


def test_a_file_of_the_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model.onnx").write_bytes(b"")
    assert inner_path(tmp_path, "sub/model.onnx") == tmp_path / "sub" / "model.onnx"
    assert inner_path(tmp_path, "absent.onnx") == tmp_path / "absent.onnx"  # told by who opens it


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "a/../../x", "link", "dir/x", "", ".", "a\0b", "c:\\x", "..\\x", "pipe", "sub", "a\nb"],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "x").write_text("outside")
    (folder / "link").symlink_to(tmp_path / "x")
    (folder / "dir").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    with pytest.raises(ForeignFileError):
        inner_path(folder, name)


def test_names_of_files() -> None:
    assert all(map(is_file_name, ("my-pi", "Grün", "a.b", "Pi 5 (lab)")))
    assert not any(map(is_file_name, ("", ".", "..", "-x", "~x", "a/b", "a\\b", "c:", "a\x1b", " a", "a\n", "x" * 500)))

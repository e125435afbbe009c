"""Names from file systems, archives and programs: shown safely, checked as names of classes. Knows text only."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from hwnas.errors import DataError

_NOT_TEXT = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, surrogates, line and paragraph separators
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they make other text read backwards


def class_name(given: object) -> str:
    """A class's name as text: bytes are decoded as UTF-8, composed characters are written one way (NFC).

    Raises:
        DataError: it is not text, empty, or holds characters that cannot be printed; says what to do.
    """
    what = f"the class name {given!a}"
    if isinstance(given, bytes):
        try:
            given = given.decode()
        except UnicodeDecodeError as e:
            raise DataError(f"{what} is not UTF-8; give class names as text") from e
    if not isinstance(given, str):
        raise DataError(f"{what} is of type {type(given).__name__}; give class names as text")
    if not given.strip():
        raise DataError(f"{what} is empty; give each class a name")
    odd = {unicodedata.category(c) for c in given} & _NOT_TEXT
    if "Cs" in odd:
        raise DataError(f"{what} is not UTF-8 (is it from an old archive?); rename it")
    if odd or _DIRECTIONS & set(given):
        raise DataError(f"{what} holds characters that cannot be printed; rename it")
    return unicodedata.normalize("NFC", given)


def class_names(given: Any) -> tuple[str, ...]:
    """Names of classes in the order of the labels, checked one by one.

    Args:
        given: a list, tuple or one-dimensional array of text.

    Raises:
        DataError: it is something else, a name is wrong, or names repeat.
    """
    if hasattr(given, "tolist"):  # an array of numpy
        given = given.tolist()
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise DataError(f"class_names is {given!a:.80}, but must be a list of text, one name a class")
    names = tuple(class_name(name) for name in given)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"class names repeat: {', '.join(repeated[:8])}; give each class its own")
    return names

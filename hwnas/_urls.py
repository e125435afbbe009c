"""Addresses as people write them, and what of them must not be shown. Knows texts, never what is there."""

from __future__ import annotations

import re

# scheme://user:PASSWORD@host as SQLAlchemy reads it (a password may hold a slash), and ?password=...
_PASSWORDS = (re.compile(r"(://[^:/@]*:)[^@]*(?=@)"), re.compile(r"([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE))


def is_url(text: str) -> bool:
    """Whether a text is an address, and not a path."""
    return "://" in text


def without_password(text: str) -> str:
    """A text in which every password of an address is `***`."""
    for pattern in _PASSWORDS:
        text = pattern.sub(r"\1***", text)
    return text


def has_password(url: str) -> bool:
    """Whether an address has a password in it."""
    return without_password(url) != url

"""The data source `zoo`: the images of a trained supernet's entry. Knows entries; never torch or runs."""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.data import Data
from hwnas.data.options import check_known
from hwnas.errors import DataError
from hwnas.zoo.entry import PREFIX, find_entry


def images(argument: str, *, options: Mapping[str, str]) -> Data:
    """Some of the images that a trained supernet learned from, to recalibrate it with, and some that it has not seen.

    Raises:
        DataError: no entry was named, or its images cannot be used.
        ConfigError: there is no such entry, or it is damaged.
    """
    check_known(options, source="zoo")
    if not argument:
        raise DataError("the source 'zoo' wants a name or folder after it; `hwnas zoo` lists those that ship")
    return find_entry(f"{PREFIX}{argument}").data()

"""From a line of text that names a data source to a checked, split data set.

Knows the registry of sources, not the sources: a third party adds one by an entry point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from hwnas import registry
from hwnas.data.arrays import ArrayDataset, Data, RawData, channel_statistics, fingerprint
from hwnas.data.augment import policy
from hwnas.data.checks import check_against, check_classes, check_part
from hwnas.data.splits import stratified_split
from hwnas.errors import DataError


class DataSource(Protocol):
    """What is registered under the kind `data`."""

    def __call__(self, argument: str, *, options: Mapping[str, str]) -> RawData | Data:
        """The data of `name:argument?option=value`.

        Raises:
            DataError: the data cannot be read, or an option is unknown.
        """
        ...


def parse_spec(spec: str) -> tuple[str, str, dict[str, str]]:
    """Name, argument and options of `name:argument?option=value&option=value`.

    Raises:
        DataError: the text is not of this form.
    """
    head, mark, tail = spec.rpartition("?")
    if not mark:
        head, tail = spec, ""
    name, _, argument = head.partition(":")
    options: dict[str, str] = {}
    for pair in tail.split("&") if tail else ():
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise DataError(f"data source {spec!r}: {pair!r} is not of the form option=value")
        if key in options:
            raise DataError(f"data source {spec!r}: the option {key!r} is given twice")
        options[key] = value
    if not name:
        raise DataError(
            f"data source {spec!r} names no source; give one of {', '.join(registry.names('data'))}, "
            f"for example 'digits' or 'folder:photos?size=64'"
        )
    return name, argument, options


def load_data(spec: str, *, seed: int, validation_fraction: float = 0.1, test_fraction: float = 0.2) -> Data:
    """Load, check and split a data set.

    Args:
        spec: `digits`, `idx:FOLDER`, `npz:FILE`, `folder:DIR?size=64`, `python:module:function`, or a
            source somebody registered. The option `augment=NAME` overrides the source's augmentation.
        seed: decides which images are set aside.
        validation_fraction: share of the training images set aside when the source has no validation set.
        test_fraction: share of all images set aside, before that, when the source has no test set.

    Raises:
        DataError: something about the data is wrong; says what, where and what is allowed.
        UnknownNameError: no such source or augmentation.
        MissingPackageError: a package the source needs is not installed.
    """
    name, argument, options = parse_spec(spec)
    augment = policy(options.pop("augment")) if "augment" in options else None
    source: DataSource = registry.load("data", name)
    found = source(argument, options=options)
    if isinstance(found, RawData):
        data = split(found, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction)
    elif isinstance(found, Data):
        data = found
    else:
        raise DataError(f"data source {spec!r} gave a {type(found).__name__}, not RawData or Data")
    return data if augment is None else replace(data, augment=augment)


def split(raw: RawData, *, seed: int, validation_fraction: float = 0.1, test_fraction: float = 0.2) -> Data:
    """Check what a source found and set aside the parts it does not have.

    Raises:
        DataError: see `load_data`.
    """
    given = {"validation": raw.validation, "test": raw.test}
    train = check_part(raw.train, which="training")
    names = check_classes(train, class_names=raw.class_names)
    parts: dict[str, ArrayDataset] = {}
    for which, part in given.items():
        if part is not None:
            parts[which] = check_part(part, which=which)
            check_against(parts[which], train, n_classes=len(names), which=which)
    rng = np.random.default_rng(seed)
    for which, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if which not in parts:
            stay, aside = stratified_split(train.labels, fraction, rng=rng, class_names=names, purpose=which)
            parts[which], train = train.subset(aside), train.subset(stay)
    mean, std = channel_statistics(train.images)
    return Data(
        name=raw.name,
        train=train,
        validation=parts["validation"],
        test=parts["test"],
        class_names=names,
        mean=mean,
        std=std,
        augment=raw.augment,
        fingerprint=fingerprint((train, parts["validation"], parts["test"]), names),
    )

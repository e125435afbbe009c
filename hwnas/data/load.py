"""From a line of text that names a data source to a checked, split data set.

Knows the registry of sources, not the sources (a third party adds one by an entry point), but for the file that
`python` is about to run, which is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hwnas import registry
from hwnas.data.arrays import (
    ArrayDataset,
    Data,
    Inputs,
    Int64Array,
    RawData,
    array_statistics,
    channel_statistics,
    fingerprint,
    row_statistics,
)
from hwnas.data.augment import policy
from hwnas.data.checks import check_part, check_ready, check_shape, check_words, unlabelled
from hwnas.data.findings import doubts
from hwnas.data.python_source import GIVES_DATA
from hwnas.data.rows import in_one_order
from hwnas.data.splits import partition, stratified_split
from hwnas.data.targets import CLASS_INDICES, TargetKind
from hwnas.errors import DataError
from hwnas.foreign import shown
from hwnas.user_functions import find_function


class DataSource(Protocol):
    """What is registered under the kind `data`.

    A source whose targets differ with the task has a parameter `targets` beside these, the `TargetKind` that is wanted.
    """

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
    # the last "?": a folder's name may have one
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


def load_data(
    spec: str,
    *,
    seed: int,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    labelled: bool = True,
    targets: TargetKind = CLASS_INDICES,
    tell: Callable[[str], None] | None = None,
) -> Data:
    """Load, check and split a data set.

    Args:
        spec: `digits`, `idx:FOLDER`, `npz:FILE`, `folder:DIR?size=64`, `python:module:function`, or a
            source somebody registered. The option `augment=NAME` overrides the source's augmentation, and
            `inputs=arrays` says that the samples are no images.
        seed: decides which images are set aside.
        validation_fraction: share of the training images set aside when the source has no validation set.
        test_fraction: share of all images set aside, before that, when the source has no test set.
        labelled: False: targets that the samples may have are left aside, and they need not have any.
        targets: which kind of targets they are.
        tell: is told what will be run, before it is.

    Raises:
        DataError: something about the data is wrong; says what, where and what is allowed.
        UnknownNameError: no such source or augmentation.
        MissingPackageError: a package the source needs is not installed.
    """
    name, argument, options = parse_spec(spec)
    # before the source is asked: a misspelled name must not cost minutes of reading
    augment = policy(options.pop("augment")) if "augment" in options else None
    inputs = options.pop("inputs", None)
    if inputs not in (None, "images", "arrays"):
        raise DataError(f"the option inputs={shown(inputs)} is not known; give images or arrays")
    source: DataSource = registry.load("data", name)
    if name == "python" and tell is not None:
        # told before it runs: code of a file is about to be executed
        function = find_function(argument, GIVES_DATA)
        tell(f"data source: the function {function.function} of {shown(function.file)} is run")
    try:
        # where targets are left aside, images are wanted however they are sorted
        wanted = registry.taken_by(source, {"targets": targets, "labelled": labelled})
        found = source(argument, options=options, **wanted)
    except SystemExit as e:
        raise DataError(f"the data source {name!r} ended the program (SystemExit: {e.code})") from e
    if isinstance(found, RawData):
        if inputs is not None:
            found = replace(found, inputs="arrays" if inputs == "arrays" else "images")
        if not labelled:
            found = _without_labels(found)
        data = split(
            found, seed=seed, validation_fraction=validation_fraction, test_fraction=test_fraction, targets=targets
        )
        if labelled and not data.class_names:
            raise DataError(
                f"the images of {spec!r} have no labels, so nothing can be learned from them by itself; for a network "
                'of your own take its answers instead: [data] labels = "network"'
            )
    elif isinstance(found, Data):
        if inputs is not None:
            raise DataError(
                f"{spec!r} gives data that are ready, so inputs={inputs} has no say; leave it out, or let the source "
                "give a RawData"
            )
        if not labelled:
            found = _ready_without_labels(found)
        data = check_ready(found, targets=targets) if labelled else found
    else:
        raise DataError(f"data source {spec!r} gave a {type(found).__name__}, not RawData or Data")
    return data if augment is None else replace(data, augment=augment)


def split(
    raw: RawData,
    *,
    seed: int,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    targets: TargetKind = CLASS_INDICES,
) -> Data:
    """Check what a source found and set aside the parts it does not have.

    Raises:
        DataError: see `load_data`.
    """
    raw, inputs = in_one_order(raw)
    given = {"validation": raw.validation, "test": raw.test}
    # each part on its own first, so that an error names the part
    train = check_part(raw.train, which="training", files=raw.files.get("train"), inputs=raw.inputs, targets=targets)
    is_labelled = raw.train[1] is not None
    names = targets.names(train, given=raw.class_names) if is_labelled else ()
    if is_labelled:
        targets.check_against(train, n_outputs=len(names), which="training")
    # samples without targets are set aside as those of one class
    groups, group_names = (
        targets.strata(train, names=names) if is_labelled else (np.zeros(len(train), np.int64), ("images",))
    )
    check_words(raw)
    parts: dict[str, ArrayDataset] = {}
    for which, part in given.items():
        if part is not None:
            files = raw.files.get("val" if which == "validation" else which)
            parts[which] = check_part(part, which=which, files=files, inputs=raw.inputs, targets=targets)
            if (part[1] is not None) != is_labelled:
                raise DataError(f"{which} images have {'no ' * is_labelled}labels, other than the training images")
            check_shape(parts[which], train, which=which)
            if is_labelled:
                targets.check_against(parts[which], n_outputs=len(names), which=which)
    rng = np.random.default_rng(seed)
    # positions, not copies: images are moved once, when all parts are known
    stay = np.arange(len(train))
    rows: dict[str, Int64Array] = {}
    # test first: it must not depend on how much is set aside for validation
    for which, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if which not in parts:
            keep, aside = stratified_split(groups[stay], fraction, rng=rng, class_names=group_names, purpose=which)
            rows[which], stay = stay[aside], stay[keep]
    if rows:
        own = raw.handed_over or _is_copy(train.inputs, raw.train[0])
        train, *others = partition(train, [stay, *rows.values()], in_place=own)
        parts |= zip(rows, others, strict=True)
    # before all else that is asked of the pixels: it is the pass over all of them that tells the rest
    digest = fingerprint((train, parts["validation"], parts["test"]), names)
    # after the split: the test set must not leak into the preprocessing
    if inputs:
        mean, std = row_statistics(np.asarray(train.inputs), inputs)
    else:
        mean, std = channel_statistics(train.inputs) if train.are_images else array_statistics(np.asarray(train.inputs))
    in_order = {"training": train, "validation": parts["validation"], "test": parts["test"]}
    return Data(
        name=raw.name,
        train=train,
        validation=parts["validation"],
        test=parts["test"],
        class_names=names,
        mean=mean,
        std=std,
        augment=raw.augment,
        fingerprint=digest,
        decoding=raw.decoding,
        left_out=raw.left_out,
        notes=raw.notes,
        inputs=inputs,
        warnings=(*raw.warnings, *doubts(in_order, class_names=names)),
    )


def _without_labels(raw: RawData) -> RawData:
    """What a source found, its labels left aside."""
    validation = None if raw.validation is None else (raw.validation[0], None)
    test = None if raw.test is None else (raw.test[0], None)
    return replace(raw, class_names=None, train=(raw.train[0], None), validation=validation, test=test)


def _ready_without_labels(data: Data) -> Data:
    parts = tuple(map(unlabelled, (data.train, data.validation, data.test)))
    train, validation, test = parts
    return replace(
        data, train=train, validation=validation, test=test, class_names=(), fingerprint=fingerprint(parts, ())
    )


def _is_copy(inputs: Inputs, given: npt.ArrayLike) -> bool:
    """Checking made an array of its own, which nobody else can hold."""
    return isinstance(given, list | tuple) or (isinstance(given, np.ndarray) and not np.may_share_memory(inputs, given))

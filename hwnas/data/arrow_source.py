"""The data source `datasets`: what Hugging Face's library of that name has put on disk, read without it.

Nothing is fetched: a folder that `save_to_disk` wrote, a repository of Parquet files, or one such file. Knows columns
and splits; how a file is read is `arrow_tables.py`'s, how an image becomes pixels `images.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwnas.data.arrays import LeftOut, RawData
from hwnas.data.arrow_files import find_splits
from hwnas.data.arrow_tables import ImageCell, Table, class_names_of, image_columns, label_columns
from hwnas.data.augment import POLICIES
from hwnas.data.images import read_images
from hwnas.data.naming import class_names
from hwnas.data.options import READING, check_known, reading_options, word
from hwnas.data.part_names import PARTS, part_of
from hwnas.data.paths import existing
from hwnas.data.stored import Listed
from hwnas.errors import DataError
from hwnas.foreign import as_written, shown

# for messages; options have the short names
_WORDS = {"train": "training", "val": "validation", "test": "test"}


def datasets(argument: str, *, options: Mapping[str, str]) -> RawData:
    """A data set of Hugging Face's `datasets` on disk: Arrow files that it saved, or Parquet files.

    Options:
        image, label: names of the columns, where several could be meant.
        train, val, test: which split is which part, where their names do not say it.
        classes: `none` leaves labels aside.
        size, channels, ground, range, unreadable: as for `folder`.

    Raises:
        DataError: a file is missing or damaged, columns or splits cannot be told, an image cannot be read, ...
        MissingPackageError: pyarrow is not installed.
    """
    check_known(options, source="datasets", known=(*READING, *PARTS, "image", "label", "classes"))
    path = existing(argument, source="datasets", folder=None)
    reader = _Reader(path, options=options)
    listed = reader.listed()
    images = read_images(listed, class_names=reader.class_names, source=reader.source, reading=reading_options(options))
    parts = {p: (x, y if reader.is_labelled else None) for p, (x, y) in images.parts.items()}
    return RawData(
        name=shown(path.resolve().stem if path.is_file() else path.resolve().name),
        train=parts["train"],
        validation=parts.get("val"),
        test=parts.get("test"),
        class_names=reader.class_names if reader.is_labelled else None,
        augment=POLICIES["natural"],
        decoding=images.rule,
        left_out=(*reader.left_out, *images.left_out),
        notes=(*reader.notes, *images.notes),
        warnings=(*reader.warnings, *images.warnings),
        handed_over=True,
    )


class _Reader:
    """What stands in the tables, before any image is opened.

    Attributes:
        source: for messages.
        class_names: in the order of the labels; `("",)` where labels are left aside or there are none.
        left_out, notes, warnings: see `RawData`.
    """

    def __init__(self, path: Path, *, options: Mapping[str, str]) -> None:
        self.source = f"datasets:{shown(path)}"
        self._options = options
        self.class_names: tuple[str, ...] = ("",)
        self.left_out: list[LeftOut] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        splits = {name: [Table(file) for file in files] for name, files in find_splits(path).items()}
        self._parts = self._as_parts(splits)
        schema = self._parts["train"][0].schema
        self._image = self._column("image", found=image_columns(schema), names=schema.names)
        wanted = word(options, "classes", allowed=("none",)) is None
        labels = label_columns(schema)
        is_labelled = wanted and bool(labels or "label" in options)
        self._label = self._column("label", found=labels, names=schema.names) if is_labelled else None
        self._names = class_names_of(schema, self._label) if self._label is not None else None
        for tables in self._parts.values():
            for table in tables:
                self._check_columns(table)

    @property
    def is_labelled(self) -> bool:
        """Labels are used."""
        return self._label is not None

    def listed(self) -> dict[str, list[Listed]]:
        """The images of each part, in the order of rows; where others have a label, those without are left out."""
        if self._label is None:
            return {part: self._without_labels(part, tables) for part, tables in self._parts.items()}
        values = {part: [table.values(self._label) for table in tables] for part, tables in self._parts.items()}
        numbers = self._classes(values["train"])
        found: dict[str, list[Listed]] = {}
        for part, tables in self._parts.items():
            held: list[Listed] = []
            missing = 0
            for table, column in zip(tables, values[part], strict=True):
                for row, value in enumerate(column):
                    if self._is_unknown(value):
                        missing += 1
                        continue
                    label = self._number(value, numbers, table)
                    held.append(Listed(ImageCell(table, self._image, row), part, self.class_names[label], label))
            if missing:
                self._tell_unlabelled(part, missing, all_of_them=not held)
            if held:
                found[part] = held
        if "train" not in found:
            raise DataError(f"no row of {self.source} has a label; to leave labels aside: {self.source}?classes=none")
        return found

    # ------------------------------------------------------------ splits and columns

    def _as_parts(self, splits: Mapping[str, Sequence[Table]]) -> dict[str, Sequence[Table]]:
        """`train`, perhaps `val` and `test` -> the tables of the split that is this part."""
        named = {part: self._options[part] for part in PARTS if part in self._options}
        if named:
            if "train" not in named:
                raise DataError(f"name the split of the training images too: {self.source}?train=SPLIT")
            unknown = [split for split in named.values() if split not in splits]
            if unknown:
                raise DataError(f"{self.source} has no split {shown(unknown[0])!r}; it has {_listed(splits)}")
            if len(set(named.values())) < len(named):
                raise DataError(f"one split of {self.source} cannot be two parts; name another, or leave one part out")
        elif len(splits) == 1:
            # a single split is all there is, whatever it is called
            named = {"train": next(iter(splits))}
        else:
            named = self._by_name(splits)
        others = [name for name in splits if name not in named.values()]
        if others:
            self.notes.append(f"splits that are not used: {_listed(others)}")
        if len(named) > 1 or self._options.keys() & set(PARTS):
            self.notes.append("parts of the data set: " + ", ".join(f"{p} is {shown(s)}" for p, s in named.items()))
        return {part: splits[split] for part, split in named.items()}

    def _by_name(self, splits: Mapping[str, Sequence[Table]]) -> dict[str, str]:
        meant: dict[str, list[str]] = {}
        for name in splits:
            found = part_of(name)
            meant.setdefault(found.role if found else "", []).append(name)
        if "eval" in meant and ("val" in meant) != ("test" in meant):
            meant["test" if "val" in meant else "val"] = meant.pop("eval")
        parts = {part: meant[part] for part in PARTS if part in meant}
        several = [names for names in parts.values() if len(names) > 1]
        if "train" not in parts or several or "eval" in meant:
            raise DataError(
                f"it cannot be told which of the splits of {self.source} are the parts ({_listed(splits)}); say it: "
                f"{self.source}?train=SPLIT&test=SPLIT (what is not named is left out)"
            )
        return {part: names[0] for part, names in parts.items()}

    def _column(self, what: str, *, found: Sequence[str], names: Sequence[str]) -> str:
        given = self._options.get(what)
        if given is not None:
            if given not in names:
                raise DataError(f"{self.source} has no column {shown(given)!r}; it has {_listed(names)}")
            return given
        if len(found) == 1:
            return found[0]
        which = f"several could hold the {what}s: {_listed(found)}" if found else f"none holds {what}s"
        raise DataError(
            f"of the columns of {self.source} ({_listed(names)}) {which}; name one: {self.source}?{what}=COLUMN"
        )

    def _check_columns(self, table: Table) -> None:
        for column in filter(None, (self._image, self._label)):
            if column not in table.schema.names:
                raise DataError(
                    f"{shown(table.path)} has no column {shown(column)!r}, as the training images have; it has "
                    f"{_listed(table.schema.names)}"
                )

    # ------------------------------------------------------------ labels

    def _is_unknown(self, value: object) -> bool:
        """A row without a label: `datasets` writes -1 where classes have names."""
        return value is None or (value == -1 and self._names is not None)

    def _classes(self, columns: Sequence[Sequence[Any]]) -> dict[Any, int]:
        """Set the names of the classes; stored value -> label."""
        known = [value for column in columns for value in column if not self._is_unknown(value)]
        kinds = sorted({type(value).__name__ for value in known})
        if kinds not in (["int"], ["str"], []):
            raise DataError(
                f"the column {shown(self._label or '')!r} of {self.source} holds {' and '.join(kinds)}, but classes "
                "are whole numbers or texts; name another: label=COLUMN"
            )
        if self._names is not None and kinds != ["str"]:
            self.class_names = class_names(self._names)
            return {i: i for i in range(len(self.class_names))}
        # in the order of their values, as scikit-learn's LabelEncoder has them
        in_order = sorted(set(known))
        self.class_names = class_names([str(value) for value in in_order])
        return {value: i for i, value in enumerate(in_order)}

    def _number(self, value: object, numbers: Mapping[Any, int], table: Table) -> int:
        try:
            return numbers[value]
        except (KeyError, TypeError) as e:
            why = "has no name" if self._names is not None else "no training image has"
            raise DataError(
                f"{shown(table.path)} has the label {as_written(value)}, which {why}; mend the table, or leave labels "
                f"aside: {self.source}?classes=none"
            ) from e

    def _without_labels(self, part: str, tables: Sequence[Table]) -> list[Listed]:
        return [
            Listed(ImageCell(table, self._image, row), part, "", 0)
            for table in tables
            for row in range(len(table.rows))
        ]

    def _tell_unlabelled(self, part: str, n: int, *, all_of_them: bool) -> None:
        example = shown(self._parts[part][0].path)
        self.left_out.append(
            LeftOut(part=part, class_name="", reason="an image without a label", count=n, example=example, image=True)
        )
        if all_of_them:
            self.warnings.append(f"the {n:,} {_WORDS[part]} images have no labels: they are left out")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))

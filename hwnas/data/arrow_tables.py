"""Tables in Arrow and Parquet files: what their columns hold, and one image out of them.

An image is `{bytes, path}`, bytes alone or a path alone, as Hugging Face's `datasets` stores it; what it says of
columns beyond Arrow's types stands in the schema's metadata. Arrow files are mapped, so that they take no memory; of
Parquet files one group of rows is held at a time. Knows pyarrow; not which file is which part, or pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hwnas.data.stored import NamedBytes
from hwnas.errors import DataError, HwnasError, MissingPackageError
from hwnas.foreign import ForeignFileError, inner_path, printable, shown
from hwnas.integrity import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

_METADATA = b"huggingface"
_LARGEST_BYTES = 64 << 20  # of the metadata; class names of a large data set are thousands
_LFS = b"version https://git-lfs"


class Table:
    """The rows of one file, opened when they are asked for, by each process anew.

    Args:
        path: of an Arrow file (a stream, as `datasets` writes, or a file with an index) or a Parquet file.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: _ArrowRows | _ParquetRows | None = None

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.__init__(path)  # type: ignore[misc]

    @property
    def rows(self) -> _ArrowRows | _ParquetRows:
        """Its rows.

        Raises:
            DataError: it is no such file, or damaged.
        """
        if self._rows is None:
            _import_pyarrow()
            with _naming(self.path):
                rows = (_ParquetRows if self.path.suffix.lower() == ".parquet" else _ArrowRows)(self.path)
                # names that are no UTF-8 show when they are looked at: here, where the error names the file
                _ = (
                    [[kind.field(i).name for i in range(kind.num_fields)] for kind in rows.schema.types],
                    rows.schema.names,
                )
                self._rows = rows
        return self._rows

    @property
    def schema(self) -> pa.Schema:
        """Names and types of its columns, with metadata."""
        return self.rows.schema

    def values(self, column: str) -> list[Any]:
        """All values of a column, as Python has them.

        Raises:
            DataError: it is damaged.
        """
        with _naming(self.path):
            return self.rows.values(column)

    def value(self, column: str, row: int) -> Any:
        """One value.

        Raises:
            DataError: it is damaged.
        """
        with _naming(self.path):
            return self.rows.value(column, row)


@dataclass(frozen=True, slots=True)
class ImageCell:
    """An image in a row of a table."""

    table: Table
    column: str
    row: int

    @property
    def path(self) -> Path | None:
        """None: its file holds others too."""
        return None

    def open(self) -> Path | IO[bytes]:
        """Its content; the file beside the table where the row holds a path alone.

        Raises:
            DataError: there is no image in this row, or its path leads elsewhere.
        """
        value = self.table.value(self.column, self.row)
        content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if isinstance(content, str):
            content, name = None, content
        if isinstance(content, bytes):
            return NamedBytes(content, name=str(self))
        if not isinstance(name, str):
            raise DataError(f"there is no image in {self}; leave such rows out: unreadable=skip")
        try:
            # a table may come from elsewhere: it leads to no file outside of its folder
            path = inner_path(self.table.path.parent, name)
        except ForeignFileError as e:
            raise DataError(
                f"the image in {self} is not in the table, but in a file that is not taken ({e}); save the data set "
                "with its images in it, as datasets.Dataset.to_parquet and push_to_hub do"
            ) from e
        if not path.is_file():
            raise DataError(f"the image in {self} lies in {shown(path)}, which does not exist; copy it there")
        return path

    def __str__(self) -> str:
        return f"row {self.row} of {shown(self.table.path)}"


# ---------------------------------------------------------------- columns


def features_of(schema: pa.Schema) -> Mapping[str, Any]:
    """What `datasets` says of the columns, by their names; empty where it says nothing."""
    told = (schema.metadata or {}).get(_METADATA, b"{}")
    if len(told) > _LARGEST_BYTES:
        return {}
    try:
        value = parse_json(told)
    except ValueError:
        return {}  # the table's own types say the same, but for class names
    info = value.get("info") if isinstance(value, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def image_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold images: by what `datasets` says, else by their types."""
    features = features_of(schema)
    said = [name for name in schema.names if _type_of(features.get(name)) == "Image"]
    return said or [field.name for field in schema if _is_image(field.type)]


def label_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold classes: by what `datasets` says, else by their names."""
    features = features_of(schema)
    said = [name for name in schema.names if _type_of(features.get(name)) == "ClassLabel"]
    return said or [name for name in schema.names if name.casefold() in ("label", "labels", "target", "class", "y")]


def class_names_of(schema: pa.Schema, column: str) -> list[Any] | None:
    """Names of classes in the order of the labels; None where nobody says them."""
    feature = features_of(schema).get(column)
    names = feature["names"] if _type_of(feature) == "ClassLabel" and feature and "names" in feature else None
    return names if isinstance(names, list) else None


def _type_of(feature: Any) -> str:
    told = feature.get("_type") if isinstance(feature, dict) else ""
    return told if isinstance(told, str) else ""


def _is_image(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        held = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return set(held) == {"bytes", "path"} and _is_binary(held["bytes"])
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


# ---------------------------------------------------------------- rows


class _ArrowRows:
    """Of a mapped file: pages are read when they are touched, and the system may drop them again."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        mapped = pa.memory_map(str(path))
        try:
            table = pa.ipc.open_stream(mapped).read_all()
        except pa.ArrowInvalid:
            mapped.seek(0)
            table = pa.ipc.open_file(mapped).read_all()
        self._table = table
        self._checked: dict[str, Any] = {}
        self.schema: pa.Schema = table.schema

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def values(self, column: str) -> list[Any]:
        found: list[Any] = self._column(column).to_pylist()
        return found

    def value(self, column: str, row: int) -> Any:
        return self._column(column)[row].as_py()

    def _column(self, name: str) -> Any:
        if name not in self._checked:
            column = self._table.column(name)
            # a damaged file's offsets would lead out of it, and the process to its end
            column.validate(full=True)
            self._checked[name] = column
        return self._checked[name]


class _ParquetRows:
    """Of a Parquet file, which is decompressed group by group: the last group of a column is kept.

    One thread reads at a time: of two that ask one file at once pyarrow 26 fails, or ends the process.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(str(path), memory_map=True)
        self.schema: pa.Schema = self._file.schema_arrow
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._ends = np.cumsum(sizes, dtype=np.int64)  # (row groups,)
        self._kept: tuple[str, int, Any] | None = None
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def values(self, column: str) -> list[Any]:
        with self._reading:
            found: list[Any] = self._file.read(columns=[column]).column(column).to_pylist()
        return found

    def value(self, column: str, row: int) -> Any:
        group = int(np.searchsorted(self._ends, row, side="right"))
        kept = self._kept  # once: another thread may put its own there
        if kept is None or kept[:2] != (column, group):
            with self._reading:
                kept = (column, group, self._file.read_row_group(group, columns=[column]).column(column))
            self._kept = kept
        first = int(self._ends[group - 1]) if group else 0
        return kept[2][row - first].as_py()


def _import_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as e:
        raise MissingPackageError("pyarrow", "arrow", needed_for="Arrow and Parquet files") from e


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever pyarrow raises over a file becomes a DataError that names it."""
    try:
        yield
    except HwnasError:
        raise
    # damaged files bring it to raise many things: ArrowInvalid, OSError, KeyError, OverflowError, ...
    except Exception as e:
        if _is_pointer(path):
            raise DataError(
                f"{shown(path)} is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`"
            ) from e
        why = " ".join(str(e).split()) or type(e).__name__
        why = printable(why, limit=300)
        raise DataError(f"{shown(path)} cannot be read as an Arrow or Parquet file: {why}; save it again") from e


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_LFS)) == _LFS
    except OSError:
        return False

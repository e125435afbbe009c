"""Data sets that Hugging Face's `datasets` has put on disk, written here as it writes them."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hwnas.data import Data, load_data
from hwnas.data.arrow_tables import ImageCell, Table
from hwnas.errors import DataError, MissingPackageError

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
FEATURES: dict[str, Any] = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}


def png(seed: int, *, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).convert(mode).save(file, "PNG")
        return file.getvalue()


def table(
    n: int = 12,
    *,
    seed: int = 0,
    labels: Sequence[Any] | None = None,
    features: Mapping[str, Any] | None = FEATURES,
    **columns: Any,
) -> pa.Table:
    """Rows of images with labels that take turns, and what `datasets` says of its columns."""
    images = [{"bytes": png(100 * seed + i), "path": f"{i}.png"} for i in range(n)]
    values = {
        "image": pa.array(images, IMAGE),
        "label": pa.array([i % 2 for i in range(n)] if labels is None else labels),
        **columns,
    }
    found = pa.table(values)
    if features is None:
        return found
    return found.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save(folder: Path, held: pa.Table, *, shards: int = 1) -> None:
    """What `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    bounds = np.linspace(0, held.num_rows, shards + 1).astype(int)
    for name, first, end in zip(names, bounds, bounds[1:], strict=False):
        part = held.slice(first, end - first)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, part.schema) as writer:
            writer.write_table(part, max_chunksize=4)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names], "_split": None}))
    (folder / "dataset_info.json").write_text("{}")


def save_splits(folder: Path, splits: Mapping[str, pa.Table], *, shards: int = 1) -> Path:
    """What `DatasetDict.save_to_disk` writes."""
    for name, held in splits.items():
        save(folder / name, held, shards=shards)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def write(path: Path, held: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(held, path, **options)
    return path


def load(path: Path, query: str = "") -> Data:
    return load_data(f"datasets:{path}" + (f"?{query}" if query else ""), seed=0)


def refused(path: Path, query: str = "") -> str:
    with pytest.raises(DataError) as caught:
        load(path, query)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pixels(seed: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(seed))))


def rows_of(data: Data) -> set[bytes]:
    return {x.tobytes() for part in (data.train, data.validation, data.test) for x, _ in part}


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("shards", [1, 3])
def test_what_save_to_disk_wrote_is_read(tmp_path: Path, shards: int) -> None:
    splits = {"train": table(12), "validation": table(4, seed=1), "test": table(6, seed=2)}
    data = load(save_splits(tmp_path, splits, shards=shards))
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 4, 6)
    for part, seed in ((data.train, 0), (data.validation, 1), (data.test, 2)):
        for i, (image, label) in enumerate(part):
            np.testing.assert_array_equal(image, pixels(100 * seed + i))
            assert label == i % 2
    assert data.decoding is not None
    assert data.decoding.channels == 3


def test_one_saved_split_is_divided(tmp_path: Path) -> None:
    save(tmp_path, table(20))
    data = load(tmp_path)
    assert len(data.train) + len(data.validation) + len(data.test) == len(rows_of(data)) == 20


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
        (
            "data/train-00000-of-00002-0123456789abcdef.parquet",
            "data/train-00001-of-00002-fedcba9876543210.parquet",
            "data/test.parquet",
        ),
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
        ("cifar10-train-00000-of-00002.arrow", "cifar10-train-00001-of-00002.arrow", "cifar10-test.arrow"),
    ],
)
def test_files_are_sorted_into_splits_by_their_names(tmp_path: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        held = table(8, seed=seed)
        if name.endswith(".arrow"):
            with pa.OSFile(str(tmp_path / name), "wb") as file, pa.ipc.new_file(file, held.schema) as writer:
                writer.write_table(held)
        else:
            write(tmp_path / name, held)
    (tmp_path / "cache-0123.arrow").write_bytes(b"what datasets keeps for itself")
    (tmp_path / "README.md").write_text("about")
    data = load(tmp_path)
    assert len(data.test) == 8
    assert len(data.train) + len(data.validation) == 16
    np.testing.assert_array_equal(data.test.subset(np.array([3]))[0][0], pixels(203))


def test_a_single_parquet_file_is_a_data_set(tmp_path: Path) -> None:
    data = load(write(tmp_path / "pets.parquet", table(20), row_group_size=3))
    assert data.name == "pets"
    assert len(rows_of(data)) == 20


def test_several_data_sets_in_one_folder_are_asked_about(tmp_path: Path) -> None:
    write(tmp_path / "plain" / "train.parquet", table())
    write(tmp_path / "noisy" / "train.parquet", table(seed=1))
    assert "holds several data sets, in noisy, plain; name the folder of one" in refused(tmp_path)
    assert len(rows_of(load(tmp_path / "plain"))) == 12


def test_splits_that_are_no_parts_are_told_and_may_be_named(tmp_path: Path) -> None:
    save_splits(tmp_path, {"train": table(), "test": table(4, seed=1), "corrupted": table(4, seed=2)})
    data = load(tmp_path)
    assert "splits that are not used: corrupted" in data.notes
    assert len(load(tmp_path, "train=train&test=corrupted").test) == 4
    assert "has no split 'none'; it has train, test, corrupted" in refused(tmp_path, "train=none")


def test_splits_that_could_be_one_part_are_asked_about(tmp_path: Path) -> None:
    save_splits(tmp_path, {"train": table(), "train_extra": table(seed=1), "test": table(seed=2)})
    assert "which of the splits" in (message := refused(tmp_path))
    assert "?train=SPLIT&test=SPLIT" in message


# ---------------------------------------------------------------- columns


def test_a_table_of_no_library_is_read_by_its_types_and_names(tmp_path: Path) -> None:
    held = table(features=None, labels=["dog", "ant"] * 6)
    data = load(write(tmp_path / "x.parquet", held))
    assert data.class_names == ("ant", "dog")
    as_bytes = pa.table({"picture": [png(i) for i in range(12)], "y": [i % 2 for i in range(12)]})
    assert load(write(tmp_path / "y.parquet", as_bytes)).class_names == ("0", "1")


def test_columns_that_could_both_be_meant_are_asked_about(tmp_path: Path) -> None:
    features = {
        "image": {"_type": "Image"},
        "fine_label": {"names": ["a", "b", "c"], "_type": "ClassLabel"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    path = write(tmp_path / "x.parquet", table(features=features, fine_label=pa.array([i % 3 for i in range(12)])))
    message = refused(path)
    assert "several could hold the labels: label, fine_label; name one" in message
    assert message.endswith("?label=COLUMN")
    assert load(path, "label=fine_label").class_names == ("a", "b", "c")
    assert "has no column 'colour'; it has image, label, fine_label" in refused(path, "label=colour")


def test_a_table_without_images_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"text": ["a", "b"], "label": [0, 1]}))
    assert "(text, label) none holds images; name one" in refused(path)


def test_shards_with_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", table())
    write(tmp_path / "test-0.parquet", table().rename_columns(["picture", "label"]))
    assert "test-0.parquet has no column 'image'" in refused(tmp_path)


# ---------------------------------------------------------------- labels


def test_a_test_split_without_labels_is_left_out_and_told(tmp_path: Path) -> None:
    save_splits(tmp_path, {"train": table(12), "test": table(6, seed=1, labels=[-1] * 6)})
    data = load(tmp_path)
    assert len(rows_of(data)) == 12
    assert "the 6 test images have no labels: they are left out" in data.warnings
    assert [(o.part, o.count, o.reason) for o in data.left_out] == [("test", 6, "an image without a label")]


def test_single_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    data = load(write(tmp_path / "x.parquet", table(12, labels=[0, 1] * 5 + [None, -1])))
    assert len(rows_of(data)) == 10
    assert [o.count for o in data.left_out] == [2]


def test_minus_one_is_a_class_where_classes_have_no_names(tmp_path: Path) -> None:
    data = load(write(tmp_path / "x.parquet", table(12, labels=[-1, 1] * 6, features=None)))
    assert data.class_names == ("-1", "1")


def test_labels_may_be_left_aside(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", table(12))
    assert load_data(f"datasets:{path}?classes=none", seed=0, labelled=False).class_names == ()
    assert "have no labels" in refused(path, "classes=none")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0.5, 1.5] * 6, "holds float, but classes are whole numbers or texts"),
        ([True, False] * 6, "holds bool"),
        ([0, 2] * 6, "has the label 2, which has no name"),
        ([0] * 12, "class 1 (dog) has no image"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, labels: list[Any], says: str) -> None:
    assert says in refused(write(tmp_path / "x.parquet", table(labels=labels)))


def test_a_class_of_the_test_split_alone_is_refused(tmp_path: Path) -> None:
    train, test = (table(labels=[a, b] * 6, features=None) for a, b in (("x", "y"), ("x", "z")))
    save_splits(tmp_path, {"train": train, "test": test})
    assert "has the label 'z', which no training image has" in refused(tmp_path)


# ---------------------------------------------------------------- images


def test_images_become_what_a_viewer_shows_as_from_files(tmp_path: Path) -> None:
    held = pa.table(
        {"image": pa.array([{"bytes": png(i, mode="L"), "path": None} for i in range(12)], IMAGE), "label": [0, 1] * 6}
    )
    data = load(write(tmp_path / "x.parquet", held), "size=4")
    assert data.train.inputs.shape[1:] == (4, 4, 1)


def test_a_row_without_an_image_is_refused_or_left_out_by_request(tmp_path: Path) -> None:
    images = [{"bytes": png(i), "path": None} for i in range(12)]
    images[3] = None  # type: ignore[call-overload]
    images[5] = {"bytes": b"<html>", "path": "5.png"}
    held = pa.table({"image": pa.array(images, IMAGE), "label": [0, 1] * 6})
    path = write(tmp_path / "x.parquet", held)
    assert f"there is no image in row 3 of {path}" in refused(path)
    data = load(path, "unreadable=skip")
    assert len(rows_of(data)) == 10
    assert [(o.class_name, o.count) for o in data.left_out] == [("1", 1), ("1", 1)]


def test_images_beside_the_table_are_read_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for i in range(12):
        (tmp_path / "set" / f"{i}.png").write_bytes(png(i))
    (tmp_path / "secret.png").write_bytes(png(99))
    images = [{"bytes": None, "path": f"{i}.png"} for i in range(12)]
    held = pa.table({"image": pa.array(images, IMAGE), "label": [0, 1] * 6})
    path = write(tmp_path / "set" / "x.parquet", held)
    assert len(rows_of(load(path))) == 12
    for elsewhere in ("../secret.png", str(tmp_path / "secret.png")):
        images[0]["path"] = elsewhere
        write(path, held.set_column(0, "image", pa.array(images, IMAGE)))
        assert "a file that is not taken (it leads out of the folder" in refused(path)


def test_a_cell_can_be_opened_in_another_process(tmp_path: Path) -> None:
    cell = ImageCell(Table(write(tmp_path / "x.parquet", table())), "image", 4)
    cell.open()
    copied = pickle.loads(pickle.dumps(cell))
    opened = copied.open()
    assert not isinstance(opened, Path)
    assert opened.read() == png(4)
    assert str(copied) == f"row 4 of {tmp_path / 'x.parquet'}"


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read as an Arrow or Parquet file"),
        (b"PAR1 and no more", "cannot be read as an Arrow or Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a pointer of Git LFS"),
    ],
)
def test_a_damaged_file_is_a_data_error(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refused(tmp_path / name)


def test_damage_anywhere_is_a_data_error_or_harmless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    save(tmp_path / "saved", table())
    for whole in (write(tmp_path / "x.parquet", table()), tmp_path / "saved" / "data-00000-of-00001.arrow"):
        sound = whole.read_bytes()
        for _ in range(30):
            content = bytearray(sound)
            for at in rng.integers(0, len(content), 4):
                content[at] = rng.integers(256)
            # another file: an old one may still be mapped
            damaged = tmp_path / f"damaged{whole.suffix}"
            damaged.unlink(missing_ok=True)
            damaged.write_bytes(content)
            try:
                load(damaged)
            except DataError as e:
                assert "\n" not in str(e)  # noqa: PT017 - some damage leaves the rows that are read


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("dataset_dict.json", "{}", "names no splits"),
        ("dataset_dict.json", '{"splits": ["../train"]}', "names no splits"),
        ("dataset_dict.json", "[", "cannot be read"),
        ("train/state.json", '{"_data_files": []}', "names no files"),
        ("train/state.json", '{"_data_files": [{"filename": "../../x.arrow"}]}', "a file that is not taken"),
        ("train/state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', r"gone.arrow is missing"),
    ],
)
def test_damaged_documents_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    save_splits(tmp_path, {"train": table(), "test": table(seed=1)})
    (tmp_path / name).write_text(text)
    assert says in refused(tmp_path)


def test_a_folder_of_something_else_is_refused_with_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(png(0))
    assert "For a folder of images: folder:DIR" in refused(tmp_path)
    assert "is no Arrow or Parquet file by its ending" in refused(tmp_path / "cat.png")
    assert "does not exist" in refused(tmp_path / "gone")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", table())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hwnas\[arrow\]'"):
        load(path)


def test_the_other_sources_do_not_load_pyarrow() -> None:
    code = "import sys, hwnas.data.sources; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_many_threads_read_one_parquet_file(tmp_path: Path) -> None:
    """pyarrow's own reader mixes them up, or ends the process."""
    pq.write_table(pa.table({"a": [f"{i}" * 50 for i in range(1000)]}), tmp_path / "x.parquet", row_group_size=5)
    table = Table(tmp_path / "x.parquet")
    rows = [i * 37 % 1000 for i in range(2000)]  # another group each
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda row: table.value("a", row), rows))
    assert found == [f"{row}" * 50 for row in rows]

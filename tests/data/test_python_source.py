"""Functions of the user's own as a data source: which are called, and what they may give."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.data import load_data
from hwnas.errors import ConfigError, DataError, HwnasError, MissingPackageError

MODULE = """
import functools, os, subprocess, sys
from os import system
import numpy as np
from hwnas.data import Augment, RawData, split

images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
labels = np.arange(40) % 4
value = 3

def arrays(n="40"): return {"x_train": images[:int(n)], "y_train": labels[:int(n)], "augment": "natural"}
def raw(): return RawData(name="mine", train=(images, labels))
def ready(): return split(raw(), seed=3)
def number(): return 7
def nothing(): return None
def pair(): return images, labels
def broken(): return images["x"]
def leaves(): sys.exit("bye")
def raises(): raise SystemExit(0)
def several_lines(): raise ValueError("first\\n  second")
def ragged(): return {"x_train": [np.zeros((16, 16)), np.zeros((8, 8))], "y_train": [0, 1]}
def lists(): return {"x_train": images.tolist(), "y_train": labels.tolist()}
def masked(): return {"x_train": np.ma.masked_equal(images, 3), "y_train": labels}
def named(names): return {"x_train": images, "y_train": labels, "class_names": names}
def names_int(): return named(3)
def names_ints(): return named([0, 1, 2, 3])
def names_text(): return named("abcd")
def names_bytes(): return named([b"a", b"b", b"c", b"d"])
def augment_dict(): return arrays() | {"augment": {"flip": True}}
def augment_own(): return arrays() | {"augment": Augment(scale=0.5)}
def numbered(): return {1: images, 2: labels}
def bad_name(): return RawData(name="a\\x1b[2J", train=(images, labels))
def bad_augment(): return RawData(name="a", train=(images, labels), augment="natural")
def bad_mean(): import dataclasses; return dataclasses.replace(ready(), mean=(1.0, 2.0))
def tensors():
    import torch
    return {"x_train": torch.rand(40, 8, 8, 1, requires_grad=True), "y_train": torch.arange(40) % 4}
def first_channels():
    import torch
    return {"x_train": torch.rand(40, 1, 8, 8), "y_train": torch.arange(40) % 4}
def pictures():
    from PIL import Image
    return {"x_train": [Image.new("L", (8, 8), 6 * k) for k in range(40)], "y_train": labels}
def where(): return RawData(name=os.path.basename(__file__), train=(images, labels))
partial = functools.partial(arrays, "20")
run = functools.partial(os.system, "true")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"my_data_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def refused(spec: str) -> str:
    with pytest.raises(HwnasError) as caught:
        load_data(spec, seed=0)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_function_in_the_working_directory_may_give_arrays(mine: str) -> None:
    data = load_data(f"python:{mine}:arrays?n=20", seed=0)
    assert (data.name, data.augment.flip) == ("arrays", True)
    assert len(data.train) + len(data.validation) + len(data.test) == 20


@pytest.mark.parametrize("function", ["raw", "ready"])
def test_a_function_may_give_raw_or_ready_data(mine: str, function: str) -> None:
    assert load_data(f"python:{mine}:{function}", seed=0).name == "mine"


@pytest.mark.parametrize("function", ["lists", "tensors", "pictures", "names_bytes", "augment_own", "partial"])
def test_what_people_give_is_understood(mine: str, function: str) -> None:
    assert load_data(f"python:{mine}:{function}", seed=0).n_classes == 4


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("number", "gave a int"),
        ("nothing", "gave a NoneType"),
        ("pair", "gave a tuple"),
        ("broken", "broken failed: IndexError"),
        ("several_lines", "failed: ValueError: first second"),
        ("leaves", "failed: it ended the program (SystemExit: bye)"),
        ("raises", "failed: it ended the program (SystemExit: 0)"),
        ("arrays?m=3", "failed: TypeError"),
        ("ragged", "they are not one array"),
        ("masked", "some values are masked"),
        ("first_channels", "transpose(0, 2, 3, 1)"),
        ("names_int", "class_names is 3"),
        ("names_ints", "the class name 0 is of type int"),
        ("names_text", "must be a list of text"),
        ("augment_dict", "augment is a dict"),
        ("numbered", "has 1; known are x_train"),
        ("bad_name", "the data set's name is"),
        ("bad_augment", "augment is a str"),
        ("bad_mean", "must be 1 numbers, one a channel"),
        ("value", "is a int, not a function that gives data"),
        ("absent", "has no 'absent'"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(mine: str, function: str, says: str) -> None:
    assert says in refused(f"python:{mine}:{function}")


@pytest.mark.parametrize(
    "target",
    ["", "json", "mine.py:f", "../mine:f", "a/b:f", "no_such_module_at_all:f", ":f", "mine:", "a..b:f", "mine:f()"],
)
def test_a_function_that_does_not_exist_is_refused(mine: str, target: str) -> None:
    with pytest.raises(ConfigError, match="python"):
        load_data(f"python:{target}", seed=0)


# ---------------------------------------------------------------- what is never called


@pytest.mark.parametrize(
    "target",
    [
        "os:system",
        "sys:exit",
        "subprocess:run",
        "builtins:exec",
        "posix:_exit",
        "shutil:rmtree",
        "test:support",
        "os.path:exists",
    ],
)
def test_a_part_of_python_is_never_called(mine: str, target: str) -> None:
    assert "a part of Python, which gives no data" in refused(f"python:{target}?command=false")


@pytest.mark.parametrize("name", ["system", "run"])
def test_a_part_of_python_is_not_called_by_way_of_a_module_either(mine: str, name: str) -> None:
    assert "which does not give data; it was not called" in refused(f"python:{mine}:{name}?command=false")


@pytest.mark.parametrize(
    "target", ["numpy:load?file=x", "torch.hub:load_state_dict_from_url?url=x", "hwnas.files:write_whole"]
)
def test_an_installed_function_that_does_not_say_it_gives_data_is_not_called(mine: str, target: str) -> None:
    assert "not declared to give data, and was not called" in refused(f"python:{target}")


def test_an_installed_function_that_says_it_gives_data_is_called(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "elsewhere" / f"{mine}_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    declared = MODULE.replace("def raw():", "def raw() -> RawData:").replace(
        "def ready():", "def ready() -> Data | RawData:"
    )
    (package / "sets.py").write_text(declared.replace("import Augment,", "import Augment, Data,"))
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert load_data(f"python:{package.name}.sets:raw", seed=0).name == "mine"
    assert load_data(f"python:{package.name}.sets:ready", seed=0).name == "mine"
    assert "not declared to give data" in refused(f"python:{package.name}.sets:arrays")


# ---------------------------------------------------------------- which file


def test_the_file_is_told_before_it_is_run(mine: str, tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(DataError):
        load_data(f"python:{mine}:broken", seed=0, tell=told.append)
    assert told == [f"data source: the function broken of {tmp_path / mine}.py is run"]


@pytest.mark.parametrize("name", ["test", "json", "numpy"])
def test_the_file_in_the_working_directory_comes_before_a_module_of_the_same_name(
    mine: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").write_text(MODULE)
    before = sys.modules.get(name)
    assert load_data(f"python:{name}:where", seed=0).name == f"{name}.py"
    assert sys.modules.get(name) is before


def test_a_module_in_a_package_of_the_working_directory_is_found(mine: str, tmp_path: Path) -> None:
    (tmp_path / f"{mine}_p").mkdir()
    (tmp_path / f"{mine}_p" / "sets.py").write_text(f"from {mine} import raw\nfrom . import __path__\n" + MODULE)
    assert load_data(f"python:{mine}_p.sets:where", seed=0).name == "sets.py"


def test_a_module_that_needs_a_missing_package_or_ends_the_program_says_so(mine: str, tmp_path: Path) -> None:
    (tmp_path / "needs_it.py").write_text("import no_such_package_at_all")
    with pytest.raises(MissingPackageError, match="no_such_package_at_all"):
        load_data("python:needs_it:f", seed=0)
    (tmp_path / "ends_it.py").write_text("import sys; sys.exit(0)")
    assert "cannot be loaded: it ended the program" in refused("python:ends_it:f")


def test_arrays_of_a_user_are_not_put_in_another_order(mine: str) -> None:
    load_data(f"python:{mine}:arrays", seed=0)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    assert np.array_equal(sys.modules[mine].images, images)


def test_data_that_are_ready_are_not_told_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ready.py").write_text(
        "from hwnas.data import load_data\ndef make(): return load_data('digits', seed=0)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="are ready, so inputs=arrays has no say"):
        load_data("python:ready:make?inputs=arrays", seed=0)

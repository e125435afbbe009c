"""Spaces as a configuration names them: functions and definitions of the user's, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwnas import registry
from hwnas.errors import ConfigError, HwnasError, SpaceError
from hwnas.named_spaces import check_trainable, make_space
from hwnas.spaces import CategoricalSpace, Space
from hwnas.tasks.classification import Classification
from hwnas.testing.run import tiny_config
from hwnas.testing.spaces import tiny_space
from hwnas.workspace import Workspace

MODULE = """
from os import system
from hwnas.testing.spaces import tiny_space
from hwnas.spaces import CategoricalSpace

def mine(in_channels, n_classes): return tiny_space(in_channels, n_classes)
def styled(in_channels, n_classes, *, activation): return mine(in_channels, n_classes)
def fixed(in_channels, n_classes): return tiny_space(3, 7)
def number(in_channels, n_classes): return 7
def broken(in_channels, n_classes): raise KeyError("x")
def named(in_channels, n_classes): return CategoricalSpace({"a": (1, 2)}, name="named")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"my_spaces_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def made(named: str, **style: object) -> Space:
    return make_space(named, in_channels=1, n_classes=10, style=style)


def definition(folder: Path, **changes: object) -> str:
    path = folder / "space.json"
    path.write_text(json.dumps({**tiny_space().to_json(), **changes}))
    return str(path)


def test_a_function_in_the_working_directory_gives_the_space_of_a_run(module: str, tmp_path: Path) -> None:
    work = Workspace(tiny_config(tmp_path / "run", {"space.preset": f"python:{module}:mine"}))
    assert work.training_space == tiny_space()


def test_a_definition_gives_the_space_of_a_run(tmp_path: Path) -> None:
    work = Workspace(tiny_config(tmp_path / "run", {"space.preset": definition(tmp_path)}))
    assert work.training_space == tiny_space()


def test_a_function_gets_the_style(module: str) -> None:
    assert made(f"python:{module}:styled", activation="relu") == tiny_space()


def test_the_file_is_told_before_it_is_run(module: str, tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(SpaceError):
        make_space(f"python:{module}:broken", in_channels=1, n_classes=10, style={}, tell=told.append)
    assert told == [f"space: the function broken of {tmp_path / module}.py is run"]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("number", "gave a int; it must give a hwnas.spaces.Space"),
        ("broken", "broken failed: KeyError"),
        ("system", "does not give a space; it was not called"),
        ("absent", "has no 'absent'"),
    ],
)
def test_what_gives_no_space_is_refused(module: str, function: str, says: str) -> None:
    with pytest.raises(HwnasError, match=says):
        made(f"python:{module}:{function}")


def test_an_installed_function_that_does_not_say_it_gives_a_space_is_not_called(module: str) -> None:
    with pytest.raises(SpaceError, match="not declared to give a space, and was not called"):
        made("python:numpy:load")


def test_an_installed_function_that_says_it_gives_a_space_is_called() -> None:
    assert made("python:hwnas.testing.spaces:tiny_space") == tiny_space()


def test_a_registered_space_that_takes_no_channels_and_classes_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {"spaces": {"bare": lambda: None}})
    with pytest.raises(ConfigError, match="space 'bare' cannot be made of channels and classes: "):
        made("bare")


def test_a_definition_takes_no_style(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not take activation: write them into the definition"):
        made(definition(tmp_path), activation="relu")


@pytest.mark.parametrize(
    ("text", "says"), [("[]", "JSON object"), ("{", "is not JSON of a space"), ('{"schema": 1}', "missing key 'type'")]
)
def test_a_file_that_defines_no_space_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(SpaceError, match=says) as caught:
        made(str(path))
    assert "bad.json" in str(caught.value)


def test_a_definition_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no-such\.json cannot be read: No such file"):
        made("no-such.json")


def test_a_space_for_other_images_is_refused(module: str, tmp_path: Path) -> None:
    work = Workspace(tiny_config(tmp_path / "run", {"space.preset": f"python:{module}:fixed"}))
    with pytest.raises(SpaceError, match="takes 3 channels and gives 7 outputs; the images have 1 channels and 10"):
        _ = work.training_space


def test_a_space_without_blocks_is_refused(module: str) -> None:
    with pytest.raises(SpaceError, match="'named' has no slots, so no network can be made of it"):
        check_trainable(made(f"python:{module}:named"), of=(1, 8, 8), n_outputs=10, task=Classification())


# ---------------------------------------------------------------- what a space that says nothing of itself can do


class _OnePrecision(CategoricalSpace):
    precisions = ("fp32",)


SIMPLE = _OnePrecision({"a": (1, 2)}, name="simple")


def test_all_that_a_space_has_is_no_restriction() -> None:
    assert SIMPLE.restrict(precisions=["fp32"]) is SIMPLE
    assert SIMPLE.computed_in({"fp32": "fp32", "int8": "int8-w7"}) is SIMPLE


@pytest.mark.parametrize("restriction", [{"precisions": ["int8"]}, {"kernel_sizes": [3]}, {"width_mults": [1.0]}])
def test_a_restriction_that_a_space_cannot_make_is_refused(restriction: dict[str, list[object]]) -> None:
    with pytest.raises(SpaceError, match=f"'simple' cannot be restricted to {next(iter(restriction))}"):
        SIMPLE.restrict(**restriction)


def test_another_precision_than_a_space_can_say_is_refused() -> None:
    with pytest.raises(SpaceError, match="the device computes fp16 for fp32, which space 'simple' cannot say"):
        SIMPLE.computed_in({"fp32": "fp16"})

"""The wheel of hwnas-light, made of a wheel of hwnas: the same modules, fewer dependencies."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hwnas.doctor import NEEDED_FOR

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LIGHT: dict[str, Any] = PROJECT["tool"]["hwnas"]["light"]


def name_of(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]


DEPENDENCIES = {name_of(each): each for each in PROJECT["project"]["dependencies"]}
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


@pytest.fixture(scope="module")
def backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("light_backend", ROOT / "light" / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def full_metadata() -> str:
    """As setuptools writes them."""
    lines = ["Metadata-Version: 2.4", "Name: hwnas", "Version: 1.2.3"]
    lines += [f"Requires-Dist: {each}" for each in DEPENDENCIES.values()]
    for extra, members in EXTRAS.items():
        lines += [f"Provides-Extra: {extra}", *(f'Requires-Dist: {each}; extra == "{extra}"' for each in members)]
    return "\n".join(lines) + "\n\n# hwnas\n\nName: of no header\n"


@pytest.fixture
def metadata(backend: ModuleType) -> dict[str, list[str]]:
    """Header -> its values."""
    message = Parser().parsestr(backend.metadata_of(full_metadata(), light=LIGHT))
    return {key: message.get_all(key, []) for key in ("Name", "Version", "Requires-Dist", "Provides-Extra")}


def required(metadata: dict[str, list[str]], extra: str = "") -> list[str]:
    found = [each.partition(";") for each in metadata["Requires-Dist"]]
    return [each for each, _, marker in found if (f'extra == "{extra}"' in marker if extra else not marker)]


def test_it_asks_for_what_the_list_names_and_in_the_versions_of_hwnas(metadata: dict[str, list[str]]) -> None:
    assert required(metadata) == [DEPENDENCIES[name] for name in LIGHT["dependencies"]]


def test_torch_is_not_asked_for() -> None:
    assert "torch" in set(DEPENDENCIES) - set(LIGHT["dependencies"])


def test_the_extra_full_brings_all_that_is_left_out(metadata: dict[str, list[str]]) -> None:
    assert sorted([*required(metadata), *required(metadata, "full")]) == sorted(DEPENDENCIES.values())


def test_the_extras_that_are_named_bring_what_they_name(metadata: dict[str, list[str]]) -> None:
    for extra, names in LIGHT["extras"].items():
        assert required(metadata, extra) == [DEPENDENCIES[name] for name in names]
        assert not set(names) & set(LIGHT["dependencies"])


def test_users_extras_stay_and_developers_go(metadata: dict[str, list[str]]) -> None:
    assert set(metadata["Provides-Extra"]) == {*EXTRAS, *LIGHT["extras"], "full"} - set(LIGHT["left_out"])
    assert required(metadata, "serve") == EXTRAS["serve"]
    assert required(metadata, "runtimes") == [each.replace("hwnas[", "hwnas-light[") for each in EXTRAS["runtimes"]]
    assert not required(metadata, "dev")


def test_no_extra_of_hwnas_is_hidden_by_another_of_the_same_name() -> None:
    assert not set(EXTRAS) & {*LIGHT["extras"], "full"}
    assert set(LIGHT["left_out"]) <= set(EXTRAS)


def test_the_name_is_its_own_and_the_description_is_kept(backend: ModuleType, metadata: dict[str, list[str]]) -> None:
    assert metadata["Name"] == ["hwnas-light"]
    assert metadata["Version"] == ["1.2.3"]
    assert backend.metadata_of(full_metadata(), light=LIGHT).endswith("\n\n# hwnas\n\nName: of no header\n")


def test_a_name_that_is_no_dependency_is_refused(backend: ModuleType) -> None:
    with pytest.raises(ValueError, match="'pandas' is no dependency that can be named here; there are numpy, torch"):
        backend.metadata_of(full_metadata(), light={**LIGHT, "dependencies": ["pandas"]})


def test_the_doctor_says_what_everything_that_is_left_out_is_needed_for() -> None:
    assert set(NEEDED_FOR) == set(DEPENDENCIES) - set(LIGHT["dependencies"])


def test_the_modules_are_the_same_and_the_record_is_right(backend: ModuleType, tmp_path: Path) -> None:
    given = tmp_path / "hwnas-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(given, "w") as wheel:
        wheel.writestr("hwnas/__init__.py", "x = 1\n")
        wheel.writestr("hwnas-1.2.3.dist-info/METADATA", full_metadata())
        wheel.writestr("hwnas-1.2.3.dist-info/entry_points.txt", "[console_scripts]\nhwnas = hwnas.cli:main\n")
        wheel.writestr("hwnas-1.2.3.dist-info/RECORD", "of the other\n")
    (tmp_path / "out").mkdir()
    made = backend.lightened(given, tmp_path / "out", light=LIGHT)
    assert made.name == "hwnas_light-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(made) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    info = "hwnas_light-1.2.3.dist-info"
    assert set(files) == {"hwnas/__init__.py", *(f"{info}/{n}" for n in ("METADATA", "entry_points.txt", "RECORD"))}
    assert files["hwnas/__init__.py"] == b"x = 1\n"
    lines = [line.split(",") for line in files[f"{info}/RECORD"].decode().splitlines()]
    assert {line[0] for line in lines} == set(files)
    for name, digest, size in lines:
        if name != f"{info}/RECORD":
            found = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", len(files[name]))


def test_there_is_no_source_distribution(backend: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(backend.UnsupportedOperation, match="build a wheel"):
        backend.build_sdist(str(tmp_path))

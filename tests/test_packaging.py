"""What is packaged is what is in the folders."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

import hwnas

ROOT = Path(__file__).parent.parent
_TOP = {"hwnas": "hwnas", "devices": "hwnas.devices", "exporters": "hwnas.exporters"} | {
    "latency_tables": "hwnas.latency_tables"
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_folders() -> dict[str, Path]:
    """Package name -> its folder, for every folder with an `__init__.py`."""
    found = {}
    for top, package in _TOP.items():
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / top).parts
            found[".".join((package, *parts))] = init.parent
    return found


def test_the_list_of_packages_equals_the_folders(project: dict[str, Any]) -> None:
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(package_folders())


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for top in _TOP for path in (ROOT / top).rglob("*.py")}
    assert folders == set(package_folders().values())


def test_every_file_beside_the_modules_is_packaged(project: dict[str, Any]) -> None:
    """A template, description or table that is not listed would be missing from the wheel."""
    listed = project["tool"]["setuptools"]["package-data"]
    folders = package_folders()
    left_out = []
    for top in _TOP:
        for path in (ROOT / top).rglob("*"):
            if not path.is_file() or path.suffix in (".py", ".pyc") or path.name.startswith("."):
                continue
            package, folder = max(
                ((p, f) for p, f in folders.items() if path.is_relative_to(f)), key=lambda pf: len(pf[1].parts)
            )
            inside = str(path.relative_to(folder))
            if not any(fnmatch(inside, pattern.replace("**/", "*")) for pattern in listed.get(package, ())):
                left_out.append(str(path.relative_to(ROOT)))
    assert not left_out


def test_every_dependency_is_pinned(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["dev"], *extras["docs"]]
    names = {_normal(re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]) for requirement in wanted}
    pinned = {
        _normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert not names - pinned


def test_the_documentation_is_not_packaged(project: dict[str, Any]) -> None:
    setuptools = project["tool"]["setuptools"]
    assert not [package for package in setuptools["packages"] if "docs" in package or "tests" in package]
    assert not [pattern for patterns in setuptools["package-data"].values() for pattern in patterns if ".." in pattern]
    assert "py.typed" in setuptools["package-data"]["hwnas"]


def test_the_version_stands_in_one_place(project: dict[str, Any]) -> None:
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "hwnas.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", hwnas.__version__)


def test_the_command_points_to_a_function(project: dict[str, Any]) -> None:
    from hwnas import cli

    assert project["project"]["scripts"] == {"hwnas": "hwnas.cli:main"}
    assert callable(cli.main)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()

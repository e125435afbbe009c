"""Builds `hwnas-light`: the wheel of `hwnas` under another name, with fewer dependencies (PEP 517).

The modules are the same, byte for byte. What is asked for stands in one place, `[tool.hwnas.light]` of the project's
pyproject.toml, and versions where they always do; what is left out becomes extras. Knows wheels' metadata; must never
know a module of hwnas.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import shutil
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NAME = "hwnas-light"
ROOT = Path(__file__).resolve().parent.parent
_FULL = "full"  # the extra that brings everything which is left out
_REQUIRES, _EXTRA = "Requires-Dist: ", "Provides-Extra: "


class UnsupportedOperation(Exception):  # noqa: N818 - PEP 517 names it
    """There is no source distribution: the sources are those of `hwnas`."""


def build_sdist(sdist_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """None can be made.

    Raises:
        UnsupportedOperation: always.
    """
    raise UnsupportedOperation(f"{NAME} is built from the sources of hwnas: build a wheel")


def build_wheel(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel of `hwnas`, and write the other beside it; gives its name."""
    from setuptools import build_meta

    light = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hwnas"]["light"]
    # setuptools copies modules there and forgets none: those that were removed since would be in the wheel
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(ROOT):
        built = build_meta.build_wheel(folder)
        return lightened(Path(folder) / built, Path(wheel_directory), light=light).name


def lightened(wheel: Path, folder: Path, *, light: Mapping[str, Any]) -> Path:
    """Write the same wheel with the name and the dependencies of `hwnas-light`.

    Args:
        wheel: of `hwnas`.
        folder: to write to.
        light: see `metadata_of`.
    """
    _, version, tags = wheel.name.split("-", 2)
    old, new = (f"{name}-{version}.dist-info/" for name in ("hwnas", NAME.replace("-", "_")))
    path = folder / f"{NAME.replace('-', '_')}-{version}-{tags}"
    record = []
    with zipfile.ZipFile(wheel) as given, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for info in given.infolist():
            name = info.filename.replace(old, new, 1) if info.filename.startswith(old) else info.filename
            if name == f"{new}RECORD":
                continue
            data = given.read(info)
            if name == f"{new}METADATA":
                data = metadata_of(data.decode(), light=light).encode()
            info.filename = name
            out.writestr(info, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")
        out.writestr(f"{new}RECORD", "\n".join([*record, f"{new}RECORD,,", ""]))
    return path


def metadata_of(full: str, *, light: Mapping[str, Any]) -> str:
    """The metadata of `hwnas-light`.

    Args:
        full: those of `hwnas` (core metadata: headers, an empty line, the description).
        light: `dependencies`, the names of those that stay; `extras`, group -> names of those that it brings. The
            extra `full` brings all that are left out; `left_out` are extras of `hwnas` that it has not.

    Raises:
        ValueError: a name is not one of a dependency.
    """
    headers, _, description = full.partition("\n\n")
    lines = headers.splitlines()
    wanted = [line.removeprefix(_REQUIRES) for line in lines if line.startswith(_REQUIRES)]
    extras = [line.removeprefix(_EXTRA) for line in lines if line.startswith(_EXTRA)]
    always = {_name(each): each for each in wanted if ";" not in each}
    kept = {name: always[name] for name in _known(light["dependencies"], always)}
    absent = {name: each for name, each in always.items() if name not in kept}
    groups = {
        **{extra: [absent[name] for name in _known(names, absent)] for extra, names in light["extras"].items()},
        _FULL: list(absent.values()),
    }
    others = [each for each in extras if each not in light["left_out"]]
    told = ["Name: " + NAME if line.startswith("Name: ") else line for line in lines]
    told = [line for line in told if not line.startswith((_REQUIRES, _EXTRA))]
    told += [_REQUIRES + each for each in kept.values()]
    for extra in others:
        of_it = [each for each in wanted if re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", each)]
        told += [_EXTRA + extra, *(_REQUIRES + re.sub(r"^hwnas\[", f"{NAME}[", each) for each in of_it)]
    for extra, members in groups.items():
        told += [_EXTRA + extra, *(f'{_REQUIRES}{each}; extra == "{extra}"' for each in members)]
    return "\n".join(told) + "\n\n" + description


def _known(names: Sequence[str], known: Mapping[str, str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is no dependency that can be named here; there are {', '.join(known)}")
        yield name


def _name(requirement: str) -> str:
    return re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]

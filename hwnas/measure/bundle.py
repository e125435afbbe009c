"""The agent as one file: a zipped program of exactly the modules a board needs, the same bytes every time.

Knows our sources and their imports; never what the modules do.
"""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hwnas import registry

OLDEST_PYTHON = "3.10"
_ROOTS = ("hwnas.measure.agent", "hwnas.measure.worker")
_KINDS = ("runtimes", "meters")  # what the measuring process loads by name
# the earliest a zip file knows
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the archive
_MAIN = '''\
"""The agent of hwnas on a board, or with the argument `worker` its measuring process."""

import enum
import hashlib
import sys

try:
    import numpy  # noqa: F401
except ImportError as e:
    sys.stderr.write("{}; install it there: {} -m pip install numpy\\n".format(e, sys.executable))
    sys.exit(78)

if not hasattr(enum, "StrEnum"):  # Python 3.10

    class StrEnum(str, enum.Enum):
        __str__ = str.__str__

    enum.StrEnum = StrEnum

if not hasattr(hashlib, "file_digest"):  # Python 3.10

    def file_digest(file, name):
        digest = hashlib.new(name)
        for piece in iter(lambda: file.read(1 << 18), b""):
            digest.update(piece)
        return digest

    hashlib.file_digest = file_digest

if sys.argv[1:] == ["worker"]:
    from hwnas.measure.worker import main

    sys.exit(main())
from hwnas.measure.agent import main

sys.exit(main(sys.argv[1] if sys.argv[1:] else "~/.cache/hwnas-agent"))
'''


@cache
def agent_bytes() -> bytes:
    """The program, to be started as `python agent.pyz FOLDER`.

    Stored, not compressed: the bytes depend on no library's version, and importing from it is fast.
    """
    files = {"__main__.py": _MAIN, **_sources()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        # any fixed order: the agent's hash must depend on its sources alone
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3  # the same on every system
            # Unix permissions are in the upper half
            info.external_attr = 0o644 << 16
            out.writestr(info, files[name])
    return archive.getvalue()


def _sources() -> dict[str, str]:
    """Path in the archive -> source."""
    sources: dict[str, str] = {}
    for module, source in _modules().items():
        # by what is in the archive, not on the disk: a package whose modules stay out is a module here
        is_package = any(other.startswith(f"{module}.") for other in _modules())
        sources[module.replace(".", "/") + ("/__init__.py" if is_package else ".py")] = source
    return sources


@cache
def _modules() -> dict[str, str]:
    """Module -> source: the roots, what they import of ours, and the packages these are in.

    A package's own code is left out (it imports what hosts need) unless somebody imports a name from it.
    """
    wanted = {*_ROOTS, *(module for kind in _KINDS for module in registry.modules(kind))}
    found: dict[str, str] = {}
    while wanted:
        module = wanted.pop()
        path = _source_path(module)
        if module in found or path is None:  # an adapter that this installation lacks
            continue
        found[module] = path.read_text(encoding="utf-8")
        wanted |= set(_imports(module, found[module], is_package=path.name == "__init__.py"))
    for module in tuple(found):
        while "." in module:
            module = module.rpartition(".")[0]  # noqa: PLW2901
            # an empty package: ours import what boards lack
            found.setdefault(module, "")
    version = registry.load_object("hwnas:__version__", needed_for="the agent")
    return {**found, "hwnas": f'__version__ = "{version}"\n'}


def _imports(module: str, source: str, *, is_package: bool) -> Iterator[str]:
    """Our modules that a module imports, anywhere in it but for a type checker alone."""
    package = module if is_package else module.rpartition(".")[0]
    for node in _executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "hwnas")
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module or "") if part)
            if base.split(".")[0] == "hwnas":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield inner if _source_path(inner) is not None else base


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        # never run, so never needed on a board
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _executed(child)


def _source_path(module: str) -> Path | None:
    """Where a module of ours stands: `hwnas.devices` is a folder of its own."""
    for package in ("hwnas.devices", "hwnas"):
        if module == package or module.startswith(package + "."):
            folder = Path(registry.load_object(f"{package}:__path__", needed_for="the agent")[0])
            place = folder.joinpath(*module.removeprefix(package).strip(".").split("."))
            return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
    return None

"""Holds ARCHITECTURE.md's table of what each room must never know, by reading imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
_FOLDERS = {
    "hwnas.devices": ROOT / "devices",
    "hwnas.exporters": ROOT / "exporters",
    "hwnas.latency_tables": ROOT / "latency_tables",
    "hwnas": ROOT / "hwnas",
}
_RUNTIMES = ("onnxruntime", "ai_edge_litert", "tflite_runtime", "openvino", "tensorrt", "tensorrt_rtx", "executorch")
_PLUGINS = ("hwnas.devices", "hwnas.exporters", "hwnas.latency_tables")
_FILES = ("hwnas.files", "tempfile", "shutil", "os", "io", "safetensors")
_RUNS = (
    "hwnas.workspace",
    "hwnas.pipeline",
    "hwnas.audit",
    "hwnas.fleet",
    "hwnas.describe",
    "hwnas.catalogue",
    "hwnas.serve",
)
_ROOMS = (
    *(f"hwnas.{folder.name}" for folder in sorted((ROOT / "hwnas").iterdir()) if (folder / "__init__.py").exists()),
    *_PLUGINS,
    "hwnas.workspace",
    "hwnas.query",
)
# a word of the table's last column -> the imports it forbids
WORDS: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "a runtime": _RUNTIMES,
    "files": _FILES,
    "arrays": ("numpy",),
    "any room": _ROOMS,
    "any other room": _ROOMS,
    "spaces": ("hwnas.spaces",),
    "weights": ("hwnas.supernet",),
    "devices": ("hwnas.devices", "hwnas.measure"),
    "tables": ("hwnas.cost", "hwnas.latency_tables"),
    "accuracies": ("hwnas.accuracy",),
    "search": ("hwnas.search", "optuna"),
    "pages": ("hwnas.report",),
    "runs": _RUNS,
    "stages": ("hwnas.pipeline", "hwnas.fleet", "hwnas.describe"),
    "fleets": ("hwnas.fleet",),
    "descriptions": ("hwnas.describe",),
    "a runtime by itself": (),  # everything is reached from the commands: see CLI_KNOWS
}


class Row(NamedTuple):
    """A row of the table: modules or packages, and the words for what they must never know."""

    parts: tuple[str, ...]
    never: tuple[str, ...]

    @property
    def forbidden(self) -> tuple[str, ...]:
        """The imports that the words stand for; what a room is called does not forbid the room to itself."""
        found = dict.fromkeys(name for word in self.never for name in WORDS[word])
        return tuple(name for name in found if name not in self.parts)


def _rows() -> Iterator[Row]:
    """The table of rooms; `hwnas/files.py` and `devices/` in it are hwnas.files and hwnas.devices."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for line in text[text.index("| room |") :].splitlines()[2:]:
        if not line.startswith("|"):
            return
        names, _, never = (cell.strip() for cell in line.strip("|").split("|"))
        parts = (name.removeprefix("hwnas/").rstrip("/").removesuffix(".py") for name in re.findall(r"`(.+?)`", names))
        yield Row(tuple(f"hwnas.{part}" for part in parts), tuple(word.strip() for word in never.split(",")))


ROWS = list(_rows())
# what the command line is split into: how commands end, those about devices and budgets, what is typed, paths
CLI_COMMANDS = ("cli", "_adapt_command", "_device_commands", "_question_commands", "_zoo_commands")
CLI_PARTS = {*CLI_COMMANDS[1:], "_commands", "_arguments", "_places"}
# the command line joins everything through these, and knows nothing else of ours
_CLI_ROOMS = {"pipeline", "audit", "fleet", "describe", "catalogue", "comparison", "serve", "zoo"}
CLI_KNOWS = {*_CLI_ROOMS, "config", "errors", "doctor", "_console", "_completion", "__version__", *CLI_PARTS}


def name_of(path: Path) -> str:
    """devices/cpu.py -> hwnas.devices.cpu."""
    for package, folder in _FOLDERS.items():
        if path.is_relative_to(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            return ".".join((package, *(p for p in parts if p != "__init__")))
    raise ValueError(f"{path} is not ours")


@cache
def modules() -> dict[str, Path]:
    return {name_of(path): path for folder in _FOLDERS.values() for path in folder.rglob("*.py")}


class _Imports(ast.NodeVisitor):
    """Names imported anywhere in a module, but for those a type checker alone sees."""

    def __init__(self, module: str, *, is_package: bool) -> None:
        self.found: set[str] = set()
        self._package = module if is_package else module.rpartition(".")[0]

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
        for child in node.orelse if name == "TYPE_CHECKING" else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self._package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
        self.found.add(base)
        self.found.update(f"{base}.{alias.name}" for alias in node.names)


@cache
def imports(module: str) -> frozenset[str]:
    path = modules()[module]
    visitor = _Imports(module, is_package=path.name == "__init__.py")
    visitor.visit(ast.parse(path.read_text()))
    return frozenset(visitor.found)


def reached(module: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Everything a module imports, directly or through ours, with the way there."""
    seen = {module}
    waiting: list[tuple[str, tuple[str, ...]]] = [(module, (module,))]
    while waiting:
        current, way = waiting.pop()
        for target in sorted(imports(current)):
            yield target, (*way, target)
            packages = [target.rsplit(".", n)[0] for n in range(1, target.count(".") + 1)]
            for ours in (target, *packages):  # importing a.b.c runs a and a.b too
                if ours in modules() and ours not in seen:
                    seen.add(ours)
                    waiting.append((ours, (*way, ours)))


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def breaches(row: Row) -> set[str]:
    """Ways from the parts of a row to what they must never know."""
    return {
        " -> ".join(way)
        for module in modules()
        if any(within(module, part) for part in row.parts)
        for target, way in reached(module)
        if any(within(target, never) for never in row.forbidden)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.parts[0])
def test_a_room_never_reaches_what_it_must_not_know(row: Row) -> None:
    assert not breaches(row)


def test_a_breach_is_seen_with_the_way_there() -> None:
    ways = [way.split(" -> ") for way in breaches(Row(("hwnas.query",), ("search",)))]
    assert any(way[0] == "hwnas.query" and way[-1] == "optuna" for way in ways)
    assert breaches(Row(("hwnas.fleet",), ("stages",)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.parts[0])
def test_every_row_has_a_rule_in_words_that_stand_for_imports(row: Row) -> None:
    assert set(row.never) <= set(WORDS)


def test_every_word_is_used() -> None:
    assert {word for row in ROWS for word in row.never} == set(WORDS)


def test_every_module_stands_in_one_row() -> None:
    places = {m: [row.parts for row in ROWS if any(within(m, part) for part in row.parts)] for m in modules()}
    assert {m: found for m, found in places.items() if len(found) != 1} == {"hwnas": []}


def test_every_name_in_the_table_and_in_its_words_is_one_of_ours() -> None:
    named = {part for row in ROWS for part in row.parts} | {name for names in WORDS.values() for name in names}
    assert not [name for name in named if within(name, "hwnas") and name not in modules()]


def test_imports_inside_functions_and_through_others_are_seen() -> None:
    assert "torch" in imports("hwnas.data.tensors")  # inside a function
    assert "torch" not in imports("hwnas.types")  # for a type checker alone
    assert "torch" not in imports("hwnas.data.splits")
    assert "torch" in {target for target, _ in reached("hwnas.data.splits")}  # through its package


def test_the_command_line_knows_only_what_joins_the_parts() -> None:
    known = set().union(*(imports(f"hwnas.{name}") for name in CLI_COMMANDS))
    ours = {name for name in known if within(name, "hwnas")} - {"hwnas"}
    assert {name.split(".")[1] for name in ours} <= CLI_KNOWS


def test_a_run_asks_the_audits_for_their_advice_only_and_a_fleet_for_nothing() -> None:
    asked = {i for m in modules() if within(m, "hwnas.pipeline") for i in imports(m) if within(i, "hwnas.audit")}
    assert asked == {"hwnas.audit", "hwnas.audit.advise"}
    assert not [m for m in modules() if within(m, "hwnas.fleet") and any(within(i, "hwnas.audit") for i in imports(m))]


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {name for name, path in modules().items() if path.name == "__init__.py"} <= set(listed)


@pytest.mark.parametrize("plugins", _PLUGINS)
def test_the_core_asks_for_plug_ins_by_name_only(plugins: str) -> None:
    knowing = [m for m in modules() if not within(m, plugins) and any(within(i, plugins) for i in imports(m))]
    assert not knowing


def test_only_the_registry_imports_by_name() -> None:
    """Metadata of what is installed is another matter: nothing is imported to read it."""

    def by_name(imported: str) -> bool:
        return within(imported, "importlib") and not within(imported, "importlib.metadata")

    assert {module for module in modules() if any(map(by_name, imports(module)))} == {"hwnas.registry"}


def test_every_module_opens_with_what_it_does() -> None:
    silent = [
        m
        for m, path in modules().items()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


# ---------------------------------------------------------------- what is really loaded

LIGHT = (
    "hwnas",
    "hwnas.catalogue",
    "hwnas.comparison",
    "hwnas.cli",
    "hwnas.config",
    "hwnas.cost",
    "hwnas.data",
    "hwnas.deployment",
    "hwnas.devices",
    "hwnas.doctor",
    "hwnas.measure",
    "hwnas.pipeline",
    "hwnas.audit",
    "hwnas.describe",
    "hwnas.fleet",
    "hwnas.workspace",
    "hwnas.query",
    "hwnas.registry",
    "hwnas.search",
    "hwnas.serve",
    "hwnas.spaces",
    "hwnas.types",
)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after some code."""
    tail = "\nimport sys\nprint('loaded', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("modules_imported", [("hwnas",), LIGHT], ids=["hwnas", "all light modules"])
def test_importing_loads_neither_torch_nor_a_runtime(modules_imported: tuple[str, ...]) -> None:
    heavy = {"torch", "onnx", "sklearn", "matplotlib", "optuna", *_RUNTIMES}
    assert not heavy & loaded_after("\n".join(f"import {name}" for name in modules_imported))


def test_quick_commands_load_neither_torch_nor_a_runtime() -> None:
    code = """
from typer.testing import CliRunner
from hwnas.cli import app
for command in (["--help"], ["devices"], ["spaces"], ["doctor"], ["query", "/no/such/study"], ["train", "/no/such"]):
    CliRunner().invoke(app, command)
"""
    assert not {"torch", "onnx", "optuna", *_RUNTIMES} & loaded_after(code)

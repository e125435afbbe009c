"""Holds the design's table of what each part must never know, by reading imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
_FILES = ("hwnas.files", "tempfile", "shutil", "os", "io")
_JOINING = ("hwnas.workspace", "hwnas.pipeline", "hwnas.audit", "hwnas.fleet", "hwnas.describe")
_STAGES = ("hwnas.supernet", "hwnas.measure", "hwnas.cost", "hwnas.accuracy", "hwnas.search", *_JOINING)

# part -> what it must not import, itself or through other modules of ours
NEVER: dict[str, tuple[str, ...]] = {
    "hwnas.types": ("torch", "onnx", *_RUNTIMES, *_FILES),
    "hwnas.errors": ("torch", "onnx", *_RUNTIMES, *_FILES),
    "hwnas.graph": ("torch", "onnx", "hwnas.spaces", *_STAGES, *_PLUGINS, *_RUNTIMES, *_FILES),
    "hwnas.spaces": ("torch", "safetensors", "hwnas.supernet", *_PLUGINS, *_RUNTIMES),
    "hwnas.data": (*_STAGES, *_PLUGINS, *_RUNTIMES),
    "hwnas.supernet": ("optuna", "hwnas.cost", "hwnas.search", *_PLUGINS, *_RUNTIMES),
    "hwnas.measure": ("torch", "hwnas.supernet", "hwnas.spaces", "hwnas.cost", "hwnas.search", *_RUNTIMES),
    "hwnas.devices": ("torch", "hwnas.search", "hwnas.cost", "hwnas.accuracy", "hwnas.supernet"),
    "hwnas.exporters": ("hwnas.devices", "hwnas.cost", "hwnas.search", "optuna"),
    "hwnas.cost": ("torch", "hwnas.measure", "hwnas.supernet", *_PLUGINS, *_RUNTIMES),
    "hwnas.search": ("torch", "hwnas.cost", "hwnas.accuracy", "hwnas.supernet", *_PLUGINS, *_RUNTIMES),
    "hwnas.deployment": ("hwnas.supernet", "hwnas.cost", "hwnas.search", *_PLUGINS, *_RUNTIMES),
    "hwnas.workspace": ("hwnas.accuracy", "hwnas.search", "hwnas.report", *_JOINING[1:], *_PLUGINS, *_RUNTIMES),
    "hwnas.pipeline": ("hwnas.fleet", "hwnas.describe", *_PLUGINS, *_RUNTIMES),
    "hwnas.audit": ("hwnas.pipeline", "hwnas.fleet", "hwnas.describe", "hwnas.search", "hwnas.accuracy", *_PLUGINS),
    "hwnas.fleet": ("hwnas.describe", *_PLUGINS, *_RUNTIMES),
    "hwnas.describe": ("torch", "hwnas.spaces", "hwnas.cost", "hwnas.search", *_JOINING[:4], *_PLUGINS, *_RUNTIMES),
    "hwnas.query": ("torch", "hwnas.supernet", *_JOINING, *_PLUGINS, *_RUNTIMES),
    "hwnas.config": ("torch", "numpy", "hwnas.data", "hwnas.spaces", *_STAGES, *_PLUGINS, *_RUNTIMES),
    "hwnas.doctor": ("torch", "hwnas.spaces", *_STAGES, *_PLUGINS, *_RUNTIMES),
}
# what the command line is split into: how a command ends, what is typed behind options, paths as people write them
CLI_PARTS = {"_commands", "_arguments", "_places"}
# the command line joins everything through these, and knows nothing else of ours
_CLI_ROOMS = {"pipeline", "audit", "fleet", "describe"}
CLI_KNOWS = {*_CLI_ROOMS, "config", "errors", "doctor", "_console", "_listings", "__version__", *CLI_PARTS}


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


@pytest.mark.parametrize("part", NEVER)
def test_a_part_never_reaches_what_it_must_not_know(part: str) -> None:
    wrong = {
        " -> ".join(way)
        for module in modules()
        if within(module, part)
        for target, way in reached(module)
        if any(within(target, never) for never in NEVER[part])
    }
    assert not wrong


def test_imports_inside_functions_and_through_others_are_seen() -> None:
    assert "torch" in imports("hwnas.data.tensors")  # inside a function
    assert "torch" not in imports("hwnas.types")  # for a type checker alone
    assert "torch" not in imports("hwnas.data.splits")
    assert "torch" in {target for target, _ in reached("hwnas.data.splits")}  # through its package


def test_every_part_of_the_table_exists() -> None:
    assert not [part for part in NEVER if part not in modules()]


def test_the_command_line_knows_only_what_joins_the_parts() -> None:
    ours = {name for name in imports("hwnas.cli") if within(name, "hwnas")} - {"hwnas"}
    assert {name.split(".")[1] for name in ours} <= CLI_KNOWS


def test_a_run_asks_the_audits_for_their_advice_only_and_a_fleet_for_nothing() -> None:
    asked = {i for m in modules() if within(m, "hwnas.pipeline") for i in imports(m) if within(i, "hwnas.audit")}
    assert asked == {"hwnas.audit", "hwnas.audit.advise"}
    assert not [m for m in modules() if within(m, "hwnas.fleet") and any(within(i, "hwnas.audit") for i in imports(m))]


@pytest.mark.parametrize("plugins", _PLUGINS)
def test_the_core_asks_for_plug_ins_by_name_only(plugins: str) -> None:
    knowing = [m for m in modules() if not within(m, plugins) and any(within(i, plugins) for i in imports(m))]
    assert not knowing


def test_only_the_registry_uses_importlib() -> None:
    users = {module for module in modules() if any(within(i, "importlib") for i in imports(module))}
    assert users == {"hwnas.registry"}


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

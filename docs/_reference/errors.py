"""The page about errors: the tree, the exit status of each class and what to do, from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path

from .docstrings import source_file
from .markdown import fenced, heading, joined

_OPENING = """\
# Errors

Every error that hwnas raises on purpose is an `HwnasError`; `except HwnasError` catches them all and nothing else. On
the command line an error is one line on standard error, and with `--json` one document on standard output; `--debug`
shows where it comes from. Most are imported from `hwnas.errors`; where another module defines one, it is named.
"""
_ROOT = "HwnasError"
WHAT_TO_DO = "What to do:"


@dataclass(frozen=True, kw_only=True)
class ErrorClass:
    """One class of errors.

    Attributes:
        name: of the class.
        base: the class of ours that it inherits; empty for the root.
        others: what else it inherits: exceptions of Python.
        module: that defines it.
        status: a command ends with.
        about: when it is raised.
        cure: what to do; empty for classes that are only inherited.
    """

    name: str
    base: str
    others: tuple[str, ...]
    module: str
    status: int
    about: str
    cure: str


@cache
def error_classes() -> tuple[ErrorClass, ...]:
    """Every class of errors of ours, each after what it inherits, in the order of the sources."""
    waiting = dict(_definitions())
    found: dict[str, ErrorClass] = {}
    while ready := [name for name, (node, _) in waiting.items() if name == _ROOT or _bases(node) & found.keys()]:
        for name in ready:
            node, module = waiting.pop(name)
            found[name] = _described(node, module, found)
    return tuple(found.values())


def _definitions() -> Iterator[tuple[str, tuple[ast.ClassDef, str]]]:
    """Name -> class and module, of all classes that are called errors; those of `hwnas.errors` first."""
    for module, file in sorted(_modules(), key=lambda each: (each[0] != "hwnas.errors", each[0])):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                yield node.name, (node, module)


def _modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module; the folders of adapters and formats may lie beside the others."""
    for package in ("hwnas", "hwnas.devices", "hwnas.exporters"):
        root = source_file(package).parent
        for file in root.rglob("*.py"):
            yield ".".join((package, *file.relative_to(root).with_suffix("").parts)), file


def _bases(node: ast.ClassDef) -> set[str]:
    return {base.id if isinstance(base, ast.Name) else ast.unparse(base).rpartition(".")[2] for base in node.bases}


def _described(node: ast.ClassDef, module: str, known: dict[str, ErrorClass]) -> ErrorClass:
    base = next((name for name in known if name in _bases(node)), "")
    said = cleandoc(ast.get_docstring(node) or "").partition("\n\nAttributes:")[0]
    about, _, cure = said.partition(f"\n\n{WHAT_TO_DO}")
    return ErrorClass(
        name=node.name,
        base=base,
        others=tuple(sorted(_bases(node) - {base, "Exception"})),
        module=module,
        status=_own_status(node) or known[base].status,
        about=about,
        cure=" ".join(cure.split()),
    )


def _own_status(node: ast.ClassDef) -> int:
    """The exit status that a class says itself; 0 if it says none."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "exit_status":
            return int(ast.literal_eval(statement.value))
    return 0


def errors_page() -> str:
    """Markdown of the page."""
    tree = fenced("\n".join(_tree(_ROOT, 0)))
    return joined([_OPENING, tree, *map(_entry, error_classes())])


def _tree(name: str, depth: int) -> Iterator[str]:
    yield f"{'    ' * depth}{name}"
    for each in error_classes():
        if each.base == name:
            yield from _tree(each.name, depth + 1)


def _entry(each: ErrorClass) -> str:
    inherits = [f"[`{each.base}`](#{each.base.lower()})"] if each.base else []
    inherits += [f"`{other}`" for other in each.others]
    facts = [f"**Exit status** {each.status}"]
    facts += [f"**Inherits** {', '.join(inherits)}"] if inherits else []
    facts += [] if each.module == "hwnas.errors" else [f"**Defined in** `{each.module}`"]
    cure = f"**{WHAT_TO_DO}** {each.cure}" if each.cure else ""
    return joined([heading(2, each.name), each.about, cure, "  \n".join(facts)])

"""What docstrings say, read from sources: nothing is imported for it.

Knows Google's style of docstrings and Python's syntax.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from inspect import cleandoc
from pathlib import Path

from hwnas import registry

_ENTRY = re.compile(r"(?P<name>\w+):\s+(?P<text>.*)")


def first_sentence(text: str) -> str:
    """The first paragraph of a docstring up to its first full stop at the end of a word, in one line."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return re.split(r"(?<=[\w`)]\.)\s+(?=[A-Z`])", paragraph, maxsplit=1)[0]


def attributes(docstring: str) -> Mapping[str, str]:
    """Name -> text of every entry of the section `Attributes:`, in one line each."""
    lines = cleandoc(docstring).splitlines()
    if "Attributes:" not in lines:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Attributes:") + 1 :]:
        if line.strip() and not line.startswith(" "):
            break  # the next section or paragraph
        entry = _ENTRY.fullmatch(line[4:])
        if entry:
            name = entry["name"]
            found[name] = entry["text"].strip()
        elif name:
            found[name] += f" {line.strip()}"
    return {name: text.strip() for name, text in found.items()}


def module_docstring(module: str) -> str:
    """What a module opens with; empty if it says nothing."""
    return ast.get_docstring(_tree(module)) or ""


def docstring_of(target: str) -> str:
    """What is said of the object at `module:attribute`; of a constant: of the function that it is built by.

    Raises:
        LookupError: the module does not define it.
    """
    module, _, name = target.partition(":")
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return _of_call(node.value, module)
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return docstring_of(f"{node.module}:{name}")
    raise LookupError(f"{module} does not define {name}")


def _of_call(value: ast.expr, module: str) -> str:
    """Of `KIND = BlockKind(..., build=_function)`: what the function says."""
    built_by = [k.value for k in value.keywords if k.arg == "build"] if isinstance(value, ast.Call) else []
    return docstring_of(f"{module}:{built_by[0].id}") if built_by and isinstance(built_by[0], ast.Name) else ""


def source_file(module: str) -> Path:
    """Where a module is written.

    Raises:
        LookupError: there is no such module.
    """
    file = registry.installed_file(module)
    if file is None:
        raise LookupError(f"there is no module {module}")
    return file


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(source_file(module).read_text(encoding="utf-8"))

"""The pages about the Python API: which names are public. What they are, mkdocstrings writes from the sources."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from .docstrings import first_sentence, module_docstring, source_file
from .markdown import joined

# in the order of a reader who begins with a finished deployment and ends with parts of one's own
PUBLIC = (
    "hwnas.deployment",
    "hwnas.search",
    "hwnas.spaces",
    "hwnas.tasks",
    "hwnas.data",
    "hwnas.zoo",
    "hwnas.graph",
    "hwnas.supernet.tracing",
    "hwnas.cost",
    "hwnas.predict",
    "hwnas.config",
    "hwnas.registry",
    "hwnas.types",
    "hwnas.testing",
)
_FOR_OUR_TESTS = ("lying", "postgresql")  # of `hwnas.testing`, that plug-ins have no use for
_WITH_HEADING = "show_root_heading: true"
FOLDER = "python"
_OPENING = """\
# Python API

These packages are for others' programs; names that are not here may change without notice. Importing them loads neither
torch nor a runtime: that is loaded by what needs it. Errors are [on a page of their own](../errors.md).
"""


def python_pages() -> Mapping[str, str]:
    """Path of each page below the reference -> its Markdown, for mkdocstrings."""
    return {f"{FOLDER}/index.md": _index(), **{f"{FOLDER}/{name}.md": _page(name) for name in PUBLIC}}


def _index() -> str:
    lines = [f"- [`{name}`]({name}.md): {first_sentence(module_docstring(name))}" for name in PUBLIC]
    return joined([_OPENING, "\n".join(lines)])


def _page(name: str) -> str:
    modules = public_names(name)
    directives = [_directive(module, members, is_page=[module] == [*modules]) for module, members in modules.items()]
    opening = "" if name in modules else module_docstring(name).partition("\n\n")[0]
    return joined([f"# {name}", opening, *directives])


def _directive(module: str, members: tuple[str, ...], *, is_page: bool) -> str:
    """What mkdocstrings turns into documentation.

    Args:
        module: that is documented.
        members: its public names.
        is_page: whether the page is about this module alone, whose title is its heading.
    """
    shown = "" if is_page else f"\n      {_WITH_HEADING}"
    file = source_file(module)
    below = {path.stem for path in file.parent.glob("*.py")} if file.name == "__init__.py" else set()
    hidden = [member for member in members if member in below]
    listed = "".join(f"\n        - {member}" for member in members if member not in hidden)
    # a function that is called as the module that defines it would be taken for that
    by_themselves = [f"::: {module}.{name}.{name}\n    options:\n      {_WITH_HEADING}" for name in hidden]
    return joined([f"::: {module}\n    options:{shown}\n      members:{listed}", *by_themselves])


def public_names(package: str) -> Mapping[str, tuple[str, ...]]:
    """Module -> its public names, of a package: those of `__all__`; without one, of the module and of those below it.

    Without `__all__`, what is public are the classes and functions that are defined there and do not begin with `_`.
    """
    file = source_file(package)
    listed = _all(file)
    if listed:
        return {package: tuple(name for name in listed if not _is_section(package, name))}
    own = {package: _defined(file)} if _defined(file) else {}
    if file.name != "__init__.py":
        return own
    modules = [path for path in sorted(file.parent.glob("[!_]*.py")) if path.stem not in _FOR_OUR_TESTS]
    below = {f"{package}.{path.stem}": _defined(path) for path in modules}
    return own | {module: names for module, names in below.items() if names}


def _is_section(package: str, name: str) -> bool:
    """Whether it is a section of a configuration, whose keys the page about the configuration has."""
    return package == "hwnas.config" and name.endswith("Config") and name != "Config"


def _all(file: Path) -> tuple[str, ...]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    return ()


def _defined(file: Path) -> tuple[str, ...]:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    found = [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return tuple(name for name in found if not name.startswith("_"))

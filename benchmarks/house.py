"""How the source is built: rooms and the imports between them, long functions, and who knows what by name.

A room is a package, or a module at the top of `hwnas/`. Everything is read from the source, of another checkout too
(`--tree PATH`), whose figures then stand beside as `..._there`. Must never import what it reads.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from _common import ROOT, Benchmark, Figure, script

_PACKAGES = {"hwnas": "hwnas", "hwnas.devices": "devices", "hwnas.exporters": "exporters"}
_SMOKE = {"hwnas.exporters": "exporters"}
_LONG, _CROWDED = 60, 8  # lines and parameters of a function
_KINDS = frozenset({"conv", "mbconv", "head", "basic", "classifier"})
_KNOWING_KINDS = ("hwnas.spaces", "hwnas.testing", "hwnas.registry")  # where kinds are made, made up, and looked up
_PRECISIONS = frozenset({"fp32", "fp16", "bf16", "tf32", "int8", "int8-pt", "int8-w7", "int4w"})

Arrows = Mapping[str, frozenset[str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, metavar="PATH", help="another checkout, to stand beside this one")
    bench = Benchmark("house", parser, argv)
    packages = _SMOKE if bench.smoke else _PACKAGES
    houses = {"": House(ROOT, packages=packages)}
    if bench.options.tree is not None:
        houses["_there"] = House(bench.options.tree, packages=packages)
    figures = [Figure(name=f"{name}{end}", value=value) for end, h in houses.items() for name, value in h.figures()]
    return bench.publish(figures, details={end.strip("_") or "here": h.details() for end, h in houses.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function of the source.

    Attributes:
        called: module and name.
        lines: from `def` to its end.
        parameters: but for `self` and `cls`.
        is_command: its parameters are the options of a command.
    """

    called: str
    lines: int
    parameters: int
    is_command: bool


class Module:
    """One file of the source.

    Args:
        name: as it is imported.
        path: of the file.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.text = name, path.read_text()
        self.tree = ast.parse(self.text)
        self._package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    @property
    def comments(self) -> int:
        """Lines that end with a comment, or are one."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return sum(token.type == tokenize.COMMENT for token in tokens)

    def imports(self) -> Iterator[str]:
        """Names that are imported anywhere, but for those that a type checker alone sees."""
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                waiting += node.orelse
                continue
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = self._package.rsplit(".", node.level - 1)[0] if node.level else ""
                base = ".".join(filter(None, (above, node.module)))
                yield from (f"{base}.{alias.name}" for alias in node.names)
            waiting += ast.iter_child_nodes(node)

    @cached_property
    def texts(self) -> set[str]:
        """Every literal text, but for docstrings."""
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        first = (node.body[0] for node in ast.walk(self.tree) if isinstance(node, documented) and node.body)
        docstrings = {id(statement.value) for statement in first if isinstance(statement, ast.Expr)}
        found = (n for n in ast.walk(self.tree) if isinstance(n, ast.Constant) and id(n) not in docstrings)
        return {node.value for node in found if isinstance(node.value, str)}

    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            decorators = [ast.unparse(d) for d in node.decorator_list]
            yield Function(
                called=f"{self.name}.{node.name}",
                lines=(node.end_lineno or node.lineno) - node.lineno + 1,
                parameters=len([name for name in given if name not in ("self", "cls")]),
                is_command=any(".command(" in d or ".callback(" in d for d in decorators),
            )


class House:
    """The source of one checkout.

    Args:
        root: folder of the checkout.
        packages: name -> folder there.
    """

    def __init__(self, root: Path, *, packages: Mapping[str, str]) -> None:
        self.modules = dict(_modules(root, packages))
        self.functions = [f for module in self.modules.values() for f in module.functions()]

    @cached_property
    def module_arrows(self) -> Arrows:
        """Module -> the modules of ours that it imports."""
        return {name: frozenset(self._ours(module) - {name}) for name, module in self.modules.items()}

    @cached_property
    def room_arrows(self) -> Arrows:
        """Room -> the rooms that its modules import."""
        found: dict[str, set[str]] = {_room(name): set() for name in self.modules}
        for name, targets in self.module_arrows.items():
            found[_room(name)] |= {_room(t) for t in targets} - {_room(name), "hwnas"}
        return {room: frozenset(targets) for room, targets in found.items() if room != "hwnas"}

    def figures(self) -> list[tuple[str, int | float]]:
        """Name and value of everything that is counted."""
        lines = sum(module.text.count("\n") for module in self.modules.values())
        comments = sum(module.comments for module in self.modules.values())
        return [
            ("rooms", len(self.room_arrows)),
            ("arrows_between_rooms", sum(map(len, self.room_arrows.values()))),
            ("circles_of_rooms", len(circles(self.room_arrows))),
            ("circles_of_modules", len(circles(self.module_arrows))),
            ("most_parameters", max(f.parameters for f in self.functions if not f.is_command)),
            ("most_options_of_a_command", max((f.parameters for f in self.functions if f.is_command), default=0)),
            ("functions_with_8_parameters_or_more", len(self._crowded())),
            ("functions_over_60_lines", len(self._long())),
            ("files", len(self.modules)),
            ("lines", lines),
            ("comments_per_100_lines", round(100 * comments / lines, 2)),
            ("files_naming_a_kind_of_block", len(self._saying(_KINDS, but=_KNOWING_KINDS))),
            ("files_spelling_a_precision", len(self._saying(_PRECISIONS))),
        ]

    def details(self) -> dict[str, object]:
        """What the figures count, by name."""
        return {
            "arrows": {room: sorted(targets) for room, targets in sorted(self.room_arrows.items())},
            "circles_of_rooms": circles(self.room_arrows),
            "circles_of_modules": circles(self.module_arrows),
            "functions_with_8_parameters_or_more": {f.called: f.parameters for f in self._crowded()},
            "functions_over_60_lines": {f.called: f.lines for f in self._long()},
            "files_naming_a_kind_of_block": self._saying(_KINDS, but=_KNOWING_KINDS),
            "files_spelling_a_precision": self._saying(_PRECISIONS),
        }

    def _ours(self, module: Module) -> set[str]:
        # `from hwnas.a import b` means module hwnas.a.b if there is one, else the name b of hwnas.a
        candidates = ((name, name.rpartition(".")[0]) for name in module.imports())
        return {found for names in candidates if (found := next((n for n in names if n in self.modules), ""))}

    def _crowded(self) -> list[Function]:
        return [f for f in self.functions if f.parameters >= _CROWDED and not f.is_command]

    def _long(self) -> list[Function]:
        return [f for f in self.functions if f.lines > _LONG]

    def _saying(self, words: frozenset[str], *, but: tuple[str, ...] = ()) -> list[str]:
        return sorted(name for name, module in self.modules.items() if not _within(name, but) and words & module.texts)


def _modules(root: Path, packages: Mapping[str, str]) -> Iterator[tuple[str, Module]]:
    for package, folder in packages.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            yield name, Module(name, path)


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def circles(arrows: Arrows) -> list[list[str]]:
    """Groups of two or more that reach one another (strongly connected components)."""
    reached = {start: _reached(arrows, start) for start in arrows}
    groups = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in arrows}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reached(arrows: Arrows, start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(arrows[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += arrows.get(name, ())
    return found


if __name__ == "__main__":
    script(main)

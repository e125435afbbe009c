"""The code in the documentation, and how each kind of it is held against the program."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from hwnas._arguments import changes
from hwnas._arguments import limits as read_limits
from hwnas.cli import app
from hwnas.config import Config, parse_config
from hwnas.device_fields import FIELDS, read_fields

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT.glob("*.md")),
        ROOT / "benchmarks" / "README.md",
        ROOT / "examples" / "README.md",
        *(page for page in (ROOT / "docs").rglob("*.md") if not page.name.startswith("_")),
    ]
)
LANGUAGES = {"", "console", "cpp", "json", "kotlin", "python", "sh", "toml"}
# what readers of a page do not see says that the code below ends with an error, which is its point
_RAISES = r"(?:^<!-- raises (?P<raises>\w+) -->\n+)?"
_FENCED = re.compile(_RAISES + r"^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"^ {4,}(?:\$ )?(hwnas .*)$", re.MULTILINE)
_INLINE = re.compile(r"`(hwnas [^`]+)`")
_COMMENT = re.compile(r"\s#(\s.*)?$")
_ENDS = ("|", ">", "&&", ";", "2>", "&")  # of a command in a shell
_PLACEHOLDER = re.compile(r"\[?[A-Z][A-Z_]*\]?(\.\.\.)?")
_OF_ONES_OWN = re.compile(r"/|\.\w{2,11}$|^python:")  # a text that names a file or a module of the reader's


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A piece of code in a page.

    Attributes:
        page: it is in.
        line: of its first line, from 1.
        language: that its fence names; empty: none.
        text: the code.
        raises: name of the error that it ends with when it is run, as a comment before the fence says; empty: none.
    """

    page: Path
    line: int
    language: str
    text: str
    raises: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets() -> Iterator[Snippet]:
    """All fenced blocks of all pages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _FENCED.finditer(text):
            line = text.count("\n", 0, found.start("text")) + 1
            yield Snippet(
                page=page,
                line=line,
                language=found["language"],
                text=found["text"],
                raises=found["raises"] or "",
            )


# ---------------------------------------------------------------- commands


def commands() -> Iterator[Snippet]:
    """Every command of hwnas that stands on a line of its own, in a fence or indented, without comments."""
    for block in snippets():
        yield from _commands_in(block)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _INDENTED.finditer(_FENCED.sub(lambda code: "\n" * code[0].count("\n"), text)):
            line = text.count("\n", 0, found.start()) + 1
            yield Snippet(page=page, line=line, language="sh", text=_COMMENT.sub("", found[1]))


def _commands_in(block: Snippet) -> Iterator[Snippet]:
    lines = iter(enumerate(block.text.splitlines(), start=block.line))
    for number, line in lines:
        command = _COMMENT.sub("", line.strip().removeprefix("$ "))
        while command.endswith("\\"):
            command = command.removesuffix("\\") + _COMMENT.sub("", next(lines)[1].strip())
        if re.match(r"(\S*/)?(hwnas|make|python) ", command):
            yield Snippet(page=block.page, line=number, language="sh", text=command)


def inline_commands() -> Iterator[Snippet]:
    """Every command of hwnas within a sentence, complete or not."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _INLINE.finditer(_FENCED.sub(lambda code: "\n" * code[0].count("\n"), text)):
            line = text.count("\n", 0, found.start()) + 1
            yield Snippet(page=page, line=line, language="sh", text=" ".join(found[1].split()))


def check_command(text: str) -> None:
    """Hold a command against what parses it.

    Raises:
        Exception: it would be refused.
    """
    words = _words(text)
    program = words[0].rpartition("/")[2]
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"make knows {targets}"
    elif program == "python":
        scripts = [word for word in words if word.endswith(".py") and word.startswith(("benchmarks/", "examples/"))]
        assert all((ROOT / script).is_file() for script in scripts), f"there is no {scripts}"
    else:
        _check_hwnas(words[1:])


def _words(text: str) -> list[str]:
    """The words of a command, up to what the shell does with its output."""
    words = shlex.split(text)
    end = next((i for i, word in enumerate(words) if word in _ENDS), len(words))
    return [word for word in words[:end] if word != "..."]


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words call, and the words after its name."""
    command, rest = get_command(app), list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command, rest


def _check_hwnas(words: list[str]) -> None:
    command, rest = find_command(words)
    given = ["1" if _PLACEHOLDER.fullmatch(word) else word for word in rest]  # a number is a text, too
    try:
        parsed = command.make_context(command.name, given).params
    except typer.Exit:  # --help, --version
        return
    assert not (hasattr(command, "commands") and given), f"{given[0]} is no command"
    for key in changes(parsed.get("values")):
        check_key(key)
    if limits := read_limits(parsed.get("limit")):
        Config().with_limits(limits)


def check_key(name: str) -> None:
    """Hold that a configuration has a key."""
    model: Any = Config
    *sections, key = name.split(".")
    for section in sections:
        annotation = model.model_fields[section].annotation
        model = next(a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields"))
    assert key in model.model_fields, f"{name} is no key of a configuration"


def check_mention(text: str) -> None:
    """Hold that the command and the options exist that a sentence names."""
    command, rest = find_command(_words(text)[1:])
    known = {name for p in command.params for name in p.opts} | {"--help", "-h"}
    options = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert options <= known, f"{options - known} is no option of it"
    named = [word for word in rest if not word.startswith("-")]
    is_group = hasattr(command, "commands")
    assert not (is_group and named and not _PLACEHOLDER.fullmatch(named[0])), f"{named} is no command"


# ---------------------------------------------------------------- TOML


def check_toml(text: str) -> str:
    """Read a snippet as what its keys say that it is.

    Returns:
        What it is.

    Raises:
        ConfigError: a key or value is wrong.
    """
    values = tomllib.loads(text)
    if values.keys() == {"project"}:
        return "a package's pyproject.toml"
    if values.keys() <= Config.model_fields.keys():
        parse_config(text)
        return "a configuration"
    assert values.keys() <= {"schema", *(field.key.partition(".")[0] for field in FIELDS)}, "what is it of?"
    read_fields({"schema": 1, "runtime": "fake", **values})
    return "a description of a device"


# ---------------------------------------------------------------- Python


def check_imports(text: str) -> None:
    """Hold that what a snippet imports of hwnas is there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "hwnas":
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "hwnas":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def is_self_contained(text: str) -> bool:
    """Whether a snippet uses only names of its own, and names no file or module of the reader's."""
    nodes = list(ast.walk(ast.parse(text)))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {*dir(builtins), "__name__"}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    own |= {
        (alias.asname or alias.name).partition(".")[0]
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    docstrings = {ast.get_docstring(n, clean=False) for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {node.id for node in names} <= own and not any(
        _OF_ONES_OWN.search(value) for value in texts if value not in docstrings
    )

"""The page about the commands: usage, arguments and options of each, from the objects that parse them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Any

from typer.main import get_command

from hwnas._commands import INTERRUPTED
from hwnas.cli import app

from .errors import error_classes
from .markdown import defined, fenced, heading, joined, sentence, table

_OPENING = """\
# Commands

Results go to standard output, everything else to standard error. With `--json` the result is one JSON document.
`hwnas COMMAND --help` shows what is here.
"""
_STATUSES = """\
Every command ends with one of these statuses; a command for several devices or budgets with that of the first failure.
Which error is behind a status, and what to do, is in [errors](errors.md).
"""
_FAILED = "anything else went wrong"  # what a class of errors without a status of its own ends with


def commands_page() -> str:
    """Markdown of the page."""
    parts = [_of_command(words, command, context) for words, command, context in all_commands()]
    return joined([_OPENING, *parts, heading(2, "Exit statuses", code=False), _STATUSES, _statuses()])


def all_commands() -> Iterator[tuple[str, Any, Any]]:
    """Words that call it, the command, and its context, of every command, groups before what is in them.

    The classes are those of the command-line library, which typer keeps to itself.
    """
    yield from _below(get_command(app), "hwnas", None)


def _below(command: Any, words: str, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    context = command.context_class(command, info_name=words.rpartition(" ")[2], parent=parent)
    yield words, command, context
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(inner, f"{words} {name}", context)


def _of_command(words: str, command: Any, context: Any) -> str:
    usage = command.get_usage(context).removeprefix("Usage: ")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    return joined(
        [
            heading(2 + (words.count(" ") > 1), words),
            cleandoc(command.help or ""),
            fenced(" ".join(usage.split())),
            *_listed("Arguments", arguments, context),
            *_listed("Options", options, context),
            *_sub_commands(words, command),
        ]
    )


def _listed(title: str, parameters: Sequence[Any], context: Any) -> Iterator[str]:
    entries = [record for p in parameters if (record := p.get_help_record(context)) is not None]
    if entries:
        yield f"**{title}**"
        yield "\n".join(defined(f"`{_without_type(name)}`", _about(text)) for name, text in entries)


def _without_type(name: str) -> str:
    """An argument without its type in Python, which says nothing of what it means."""
    return re.sub(r" <.*>$", "", name)


def _about(text: str) -> str:
    """The help of a parameter; what the library adds in brackets (`[default: 1; x>=1]`) is set apart."""
    said, bracket, added = text.partition("  [")
    return sentence(said) + (f" *{added.removesuffix(']').replace('*', '&ast;')}*" if bracket else "")


def _sub_commands(words: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    if inner and words != "hwnas":
        yield "**Commands under it**"
        yield "\n".join(f"- [`{words} {name}`](#{words.replace(' ', '-')}-{name})" for name in inner)


def _statuses() -> str:
    meanings: dict[int, list[str]] = {0: ["all went well"]}
    statuses = {each.name: each.status for each in error_classes()}
    for each in error_classes():
        # of a class that ends like the one it inherits the latter is enough
        if each.base and each.status > 1 and each.status != statuses[each.base]:
            meanings.setdefault(each.status, []).append(f"[`{each.name}`](errors.md#{each.name.lower()})")
    meanings[1] = [_FAILED]
    meanings[INTERRUPTED] = ["interrupted with Ctrl-C; other signals likewise, 128 and their number"]
    return table(["status", "meaning"], [[f"`{status}`", ", ".join(what)] for status, what in sorted(meanings.items())])

"""Call a user's function that gives data or a space: only one of theirs, from a file that is told.

A configuration may come from elsewhere, so a function is called only if it stands in a file of the working
directory, or in an installed module that declares what it gives; never one of Python's own. Knows what a function
is for in words alone: no torch, no data, no spaces.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas.errors import ConfigError, HwnasError
from hwnas.foreign import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a function is called for.

    Attributes:
        title: what its name stands for in a configuration: `data source`.
        gives: as in "a function that gives data"; likewise `kind`, as in "the data function".
        kind: see there.
        classes: names of classes; an installed function is called if it is annotated to return them, or what
            inherits from them; a class is if it is or inherits from one.
        example: the class that an error names, with its module.
        error: what is raised when the function cannot be used.
    """

    title: str
    gives: str
    kind: str
    classes: frozenset[str]
    example: str
    error: type[HwnasError]


@dataclass(frozen=True, slots=True)
class Found:
    """A function that a specification names.

    Attributes:
        file: it stands in.
        module: its name.
        function: its name.
        own: the file was found from the working directory, not among what is installed.
    """

    file: Path
    module: str
    function: str
    own: bool


def find_function(target: str, purpose: Purpose) -> Found:
    """The function that `module:function` means; nothing is run.

    The working directory comes first, then the modules that can be imported.

    Raises:
        ConfigError: it is not of this form, there is no such file, or it is a part of Python.
    """
    module, colon, function = target.partition(":")
    if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        hint = ""
        if module.endswith(".py") or "/" in module:
            hint = "; a module is named without its folder and without .py, and looked for in the working directory"
        raise ConfigError(
            f"the {purpose.title} 'python:{shown(target)}' is not of the form python:module:function{hint}"
        )
    directory = _working_directory(purpose)
    # the working directory first, as for scripts
    own = registry.file_in(directory, module)
    file = own or registry.installed_file(module)
    if file is None:
        raise ConfigError(
            f"there is no module {module!r} for the {purpose.title} 'python:{target}' in {shown(directory)} or "
            f"among the installed ones; or it is a part of Python, which gives no {purpose.kind}"
        )
    return Found(file, module, function, own=own is not None)


def call_function(
    target: str,
    purpose: Purpose,
    *,
    positional: Sequence[Any] = (),
    options: Mapping[str, Any],
    offered: Mapping[str, Any] | None = None,
) -> object:
    """What the function at `module:function` gives.

    Args:
        target: module and function.
        purpose: what it is to give; decides which functions are called.
        positional: what it is called with, before the options.
        options: parameter -> value.
        offered: likewise, for functions that have such parameters.

    Raises:
        HwnasError: of the purpose's class, if it is no function for it, fails, or ends the program.
        ConfigError: there is no such function.
    """
    found = find_function(target, purpose)
    file, module, name = found.file, found.module, found.function
    with registry.importable(_working_directory(purpose)):
        try:
            loaded = registry.load_file(module, file) if found.own else registry.load_module(module)
        except HwnasError:
            raise
        # a user's module may end the program or raise anything; the user must read which of theirs it was
        except (Exception, SystemExit) as e:
            raise purpose.error(f"the module {shown(file)} cannot be loaded: {_describe_error(e)}") from e
        function = getattr(loaded, name, None)
        if function is None:
            raise ConfigError(f"{shown(file)} has no {name!r} ({purpose.title} 'python:{target}')")
        _refuse_foreign(function, purpose, what=f"{name!r} of {shown(file)}", own=found.own)
        try:
            return function(*positional, **options, **registry.taken_by(function, offered or {}))
        except HwnasError:
            raise
        except (Exception, SystemExit) as e:
            raise purpose.error(f"the {purpose.kind} function {target} failed: {_describe_error(e)}") from e


def _refuse_foreign(function: Any, purpose: Purpose, *, what: str, own: bool) -> None:
    """Hold that a function is written for its purpose.

    Raises:
        HwnasError: it is a part of Python, or of an installed package and not declared to give what is asked for.
    """
    if not callable(function):
        raise purpose.error(f"{what} is a {type(function).__name__}, not a function that gives {purpose.gives}")
    # decorators and partials hide where a function comes from
    plain: Any = inspect.unwrap(function)
    while isinstance(plain, functools.partial):
        plain = inspect.unwrap(plain.func)
    home = plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain)
    module = str(getattr(home, "__module__", None) or "builtins")
    # `from os import system` in a user's file must not make it callable from a specification
    if registry.is_part_of_python(module) or (inspect.isbuiltin(plain) and own):
        raise purpose.error(
            f"{what} is {module}.{getattr(home, '__name__', '?')}, which does not give {purpose.gives}; "
            "it was not called"
        )
    # installed packages hold thousands of functions; the annotation is their maker's consent
    if not own and not all(names & purpose.classes for names in _declared(plain)):
        raise purpose.error(
            f"{what} is not declared to give {purpose.gives}, and was not called: annotate it to return "
            f"{purpose.example}, or put a function that calls it into a file of the working directory"
        )


def _declared(function: Any) -> list[set[str]]:
    """What a function is annotated to return: for each alternative the names of its class and of those above it."""
    if isinstance(function, type):
        return [_names_of(function)]
    annotation = getattr(function, "__annotations__", {}).get("return", "")
    if isinstance(annotation, type):
        return [_names_of(annotation)]
    found = []
    for text in str(annotation).split("|"):
        name = text.strip(" '\"").rpartition(".")[2]
        known = getattr(function, "__globals__", {}).get(name)
        found.append({name} | (_names_of(known) if isinstance(known, type) else set()))
    return found


def _names_of(cls: type) -> set[str]:
    return {each.__name__ for each in cls.__mro__}


def _describe_error(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ended the program (SystemExit: {error.code})"
    return f"{type(error).__name__}: {' '.join(shown(str(error)).split())}"


def _working_directory(purpose: Purpose) -> Path:
    try:
        return Path.cwd()
    except OSError as e:
        raise purpose.error(
            f"the working directory no longer exists; the {purpose.title} 'python' is looked for there"
        ) from e

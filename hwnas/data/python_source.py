"""Call a user's function that gives data: only one of theirs, from a file that is told.

A specification may come from elsewhere, so a function is called only if it stands in a file of the working
directory, or in an installed module that declares it to give data; never one of Python's own. What it prints is
kept off the result. Knows no torch and no networks.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas.data.arrays import Data, RawData
from hwnas.data.naming import shown
from hwnas.errors import ConfigError, DataError, HwnasError

_GIVES_DATA = {"RawData", "Data"}  # what an installed function must be annotated to return


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


def find_function(target: str) -> Found:
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
        raise ConfigError(f"the data source 'python:{shown(target)}' is not of the form python:module:function{hint}")
    directory = _working_directory()
    # the working directory first, as for scripts
    own = registry.file_in(directory, module)
    file = own or registry.installed_file(module)
    if file is None:
        raise ConfigError(
            f"there is no module {module!r} for the data source 'python:{target}' in {shown(directory)} or "
            "among the installed ones; or it is a part of Python, which gives no data"
        )
    return Found(file, module, function, own=own is not None)


def call_function(target: str, options: Mapping[str, str]) -> object:
    """What the function at `module:function` gives.

    Raises:
        DataError: it is no function that gives data, fails, or ends the program.
        ConfigError: there is no such function.
    """
    found = find_function(target)
    file, module, name = found.file, found.module, found.function
    with registry.importable(_working_directory()):
        try:
            loaded = registry.load_file(module, file) if found.own else registry.load_module(module)
        except HwnasError:
            raise
        # a user's module may end the program or raise anything; the user must read which of theirs it was
        except (Exception, SystemExit) as e:
            raise DataError(f"the module {shown(file)} cannot be loaded: {_told(e)}") from e
        function = getattr(loaded, name, None)
        if function is None:
            raise ConfigError(f"{shown(file)} has no {name!r} (data source 'python:{target}')")
        _refuse_foreign(function, what=f"{name!r} of {shown(file)}", own=found.own)
        try:
            return function(**options)
        except HwnasError:
            raise
        except (Exception, SystemExit) as e:
            raise DataError(f"the data function {target} failed: {_told(e)}") from e


def _refuse_foreign(function: Any, *, what: str, own: bool) -> None:
    """Hold that a function is written for giving data.

    Raises:
        DataError: it is a part of Python, or of an installed package and not declared to give data.
    """
    if not callable(function):
        raise DataError(f"{what} is a {type(function).__name__}, not a function that gives data")
    # decorators and partials hide where a function comes from
    plain: Any = inspect.unwrap(function)
    while isinstance(plain, functools.partial):
        plain = inspect.unwrap(plain.func)
    home = plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain)
    module = str(getattr(home, "__module__", None) or "builtins")
    # `from os import system` in a user's file must not make it callable from a specification
    if registry.is_part_of_python(module) or (inspect.isbuiltin(plain) and own):
        raise DataError(
            f"{what} is {module}.{getattr(home, '__name__', '?')}, which does not give data; it was not called"
        )
    if not own:
        annotation = getattr(plain, "__annotations__", {}).get("return", "")
        text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
        declared = [name.strip(" '\"").rpartition(".")[2] for name in text.split("|")]
        # installed packages hold thousands of functions; the annotation is their maker's consent
        if not set(declared) <= _GIVES_DATA:
            raise DataError(
                f"{what} is not declared to give data, and was not called: annotate it to return "
                "hwnas.data.RawData, or put a function that calls it into a file of the working directory"
            )


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ended the program (SystemExit: {error.code})"
    return f"{type(error).__name__}: {' '.join(shown(str(error)).split())}"


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as e:
        raise DataError("the working directory no longer exists; the data source 'python' is looked for there") from e


@contextlib.contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Standard output is the result's: what is printed, by child processes too, goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        with contextlib.suppress(
            OSError, ValueError
        ):  # where there is no such descriptor, there is nothing to keep clean
            if sys.__stdout__ is not None:
                # what was buffered before belongs to the result, and must go where it was meant to
                sys.__stdout__.flush()
            saved = os.dup(1)
            stack.callback(os.close, saved)
            # the descriptor too: child processes and C code know nothing of `sys.stdout`
            os.dup2(2, 1)
            stack.callback(os.dup2, saved, 1)
        yield


def arrays_of(found: Mapping[Any, Any]) -> dict[Any, Any]:
    """A user's mapping as a dict; tensors as arrays that need no gradient."""
    return {name: value.detach().cpu() if hasattr(value, "detach") else value for name, value in found.items()}


def as_given(found: object, *, target: str) -> Data | RawData | Mapping[Any, Any]:
    """What a user's function gave, when it is of a kind that is understood.

    Raises:
        DataError: it is not.
    """
    if isinstance(found, Data | RawData | Mapping):
        return found
    raise DataError(
        f"the data function {target} gave a {type(found).__name__}; it must give a dict with x_train and y_train, or a "
        "hwnas.data.RawData"
    )

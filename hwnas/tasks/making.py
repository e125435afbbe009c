"""A task by its name in a configuration: registered, or a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hwnas import registry
from hwnas.errors import ConfigError
from hwnas.files import sha256_file
from hwnas.foreign import shown
from hwnas.tasks.base import Task
from hwnas.user_functions import Purpose, call_function, find_function

_PREFIX = "python:"
GIVES_TASK = Purpose(
    title="task",
    gives="a task",
    kind="task",
    classes=frozenset({"Task", "Classification", "MultiLabel", "Regression", "Segmentation"}),
    example="hwnas.tasks.Task",
    error=ConfigError,
)


def task_identity(name: str) -> str:
    """What tells a task from another: its name, and of a user's own what stands in its file.

    Raises:
        ConfigError: there is no such file.
    """
    if not name.startswith(_PREFIX):
        return name
    return f"{name} {sha256_file(find_function(name.removeprefix(_PREFIX), GIVES_TASK).file)}"


def make_task(
    name: str, *, settings: Mapping[str, Any] | None = None, tell: Callable[[str], None] | None = None
) -> Task:
    """The task of that name.

    Args:
        name: `classification`, `multi_label`, `regression`, `segmentation`, `outputs`, one that somebody registered, or
            `python:module:function` for a function without arguments that gives a `Task`.
        settings: what the configuration says beside the name; a task takes those it has.
        tell: is told what will be run, before it is.

    Raises:
        UnknownNameError: there is none of that name.
        ConfigError: a function fails, gives something else, or the task has not what the configuration sets.
    """
    given = {k: v for k, v in (settings or {}).items() if v is not None}
    if name.startswith(_PREFIX):
        target = name.removeprefix(_PREFIX)
        if tell is not None:
            function = find_function(target, GIVES_TASK)
            tell(f"task: the function {function.function} of {shown(function.file)} is run")
        task = call_function(target, GIVES_TASK, options=given)
    else:
        make = registry.load("tasks", name)
        if unknown := given.keys() - registry.taken_by(make, given).keys():
            raise ConfigError(f"the task {name!r} has no {', '.join(sorted(unknown))}; leave it out of [task]")
        task = make(**given)
    if not isinstance(task, Task):
        raise ConfigError(f"task {name!r} is a {type(task).__name__}, but must be a hwnas.tasks.Task")
    return task

"""What is wrong with a configuration, in our words: what was given, what is allowed.

Knows pydantic's errors and the sections of the model they are about.
"""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hwnas.foreign import as_written

_OWN_WORDS = {
    "tuple_type": "should be a list",
    "too_short": "should not be empty",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
}


def in_our_words(error: ValidationError, model: type[BaseModel]) -> str:
    """All that is wrong, in one line.

    Args:
        error: of validating the model.
        model: whose fields are sections, or lists of them.
    """
    found = error.errors()
    places = [each["loc"] for each in found]
    # a list is also "too short" when its items are wrong: only the innermost error says something
    inner = [x for x in found if not any(p[: len(x["loc"])] == x["loc"] != p for p in places)]
    return "; ".join(_one(x, model) for x in inner)


def _one(error: Any, model: type[BaseModel]) -> str:
    location = [str(part) for part in error["loc"]]
    name, kind = ".".join(location), error["type"]
    if kind == "extra_forbidden":
        known = list(_section(location[:-1], model).model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1)
        return (
            f"unknown {'key' if len(location) > 1 else 'section'} {as_written(name)}"
            + (f", did you mean {near[0]!r}?" if near else ";")
            + f" known: {', '.join(known)}"
        )
    if kind == "value_error":
        said = str(error["ctx"]["error"])
        return f"{name} {said}" if said.startswith("is ") else f"{name}: {said}" if name else said
    if location[:1] == ["budgets"] and len(location) < 3:
        return (
            f"budgets is {as_written(error['input'])}, but should be tables: for each, write [[budgets]] and its keys"
        )
    if kind == "model_type":
        return f"{name} is {as_written(error['input'])}, but is a section: write [{name}] and its keys below"
    if kind == "missing":
        examples = _section(location[:-1], model).model_fields[location[-1]].examples or [""]
        return f"{name} is missing; give for example {location[-1]} = {examples[0]}"
    message = _OWN_WORDS.get(kind) or error["msg"].removeprefix("Input ").replace("valid ", "")
    return f"{name} is {as_written(error['input'])}, but {message}"


def _section(location: list[str], model: type[BaseModel]) -> type[BaseModel]:
    """The model of a section, of one within it, or of one of several with its name."""
    for part in location:
        field = model.model_fields.get(part)
        if field is not None:  # not the place in a list, or what a device is called
            annotation = field.annotation
            inner = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
            found = inner[0] if inner else annotation
            assert isinstance(found, type)
            assert issubclass(found, BaseModel)
            model = found
    return model

"""The page about a run's configuration: every section and key, from the model that reads the file."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hwnas._toml import format_value
from hwnas.config import BudgetConfig, Config, LimitsConfig

from .markdown import fenced, heading, joined, sentence
from .schemas import Schema, in_words

_OPENING = """\
# Configuration

A run is configured by one TOML file: `hwnas run my.toml`. Every section and every key may be left out. `hwnas run`
writes the whole file beside its results, with what is said here as comments, and `--set SECTION.KEY=VALUE` changes one
value on the command line. An unknown key is an error that names the known ones.
"""
_VALUES = {"sgd"}  # that comments begin with
_BUDGETS = "Written as `[[budgets]]`. It has the keys of [`[limits]`](#limits), and one more."


def configuration_page() -> str:
    """Markdown of the page."""
    schema = Config.model_json_schema()
    sections = (_section(name, model, schema) for name, model in sections_of(Config))
    whole = joined(["## A whole file", "What `hwnas run --data digits` runs.", _default_file()])
    return joined([_OPENING, *sections, whole])


def sections_of(model: type[BaseModel], *, within: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Name in a file, and model, of every section of a configuration, those within others after them.

    Args:
        model: of the configuration, or of a section of it.
        within: name of that section, with a dot; empty for the configuration.
    """
    for key, field in model.model_fields.items():
        section = section_of(field)
        if section is not None:
            yield f"{within}{key}", section
            yield from sections_of(section, within=f"{within}{key}.")


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a key that is a section of its own, or several; None of any other key."""
    if get_origin(field.annotation) is dict:  # of sections by names of the user's own: `limits.others`
        return None
    found = (each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type))
    return next((each for each in found if issubclass(each, BaseModel)), None)


def keys_of(section: str, model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Name in a file, and field, of every key of a section that is no section itself; of budgets those of their own."""
    inherited = LimitsConfig.model_fields if model is BudgetConfig else {}
    for key, field in model.model_fields.items():
        if section_of(field) is None and key not in inherited:
            yield f"{section}.{key}", field


def _section(name: str, model: type[BaseModel], schema: Schema) -> str:
    of_keys = schema["$defs"][model.__name__]["properties"]
    keys = [_key(key, field, of_keys[key.rpartition(".")[2]], schema["$defs"]) for key, field in keys_of(name, model)]
    shown, more = (f"[[{name}]]", _BUDGETS) if name == "budgets" else (f"[{name}]", "")
    return joined([heading(2, shown), cleandoc(model.__doc__ or ""), more, *keys])


def _key(name: str, field: FieldInfo, schema: Schema, models: Schema) -> str:
    key = name.rpartition(".")[2]
    facts = [
        f"**Value** {in_words(_inlined(schema, models))}",
        f"**Default** {_default(field)}",
        *([f"**Example** `{key} = {field.examples[0]}`"] if field.examples else []),
    ]
    return joined([heading(3, name), _about(field.description or ""), "  \n".join(facts)])


def _inlined(schema: Schema, models: Schema) -> Schema:
    """A schema without names of models, which a reader of the page does not know."""
    if "$ref" in schema:
        return dict(models[str(schema["$ref"]).rpartition("/")[2]])
    return {key: _inlined(value, models) if isinstance(value, dict) else value for key, value in schema.items()}


def _about(comment: str) -> str:
    """A comment as a sentence, but for one that begins with a value."""
    word = comment.partition(" ")[0]
    begins_with_value = word.endswith((",", ":")) or word in _VALUES
    return sentence(comment if begins_with_value else comment[:1].upper() + comment[1:])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none: must be given"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value == {}:
        return "not set"
    return f"`{format_value(value)}`"


def _default_file() -> str:
    return fenced(Config.default_digits().to_toml(), "toml")

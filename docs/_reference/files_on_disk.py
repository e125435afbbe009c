"""The page about files with a schema: a deployment's manifest, a device's description, a trained supernet's card."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from hwnas.data.augment import Augment
from hwnas.data.decoding import DecodingRule
from hwnas.deployment import MANIFEST, Manifest
from hwnas.deployment.folder import SCHEMA as MANIFEST_SCHEMA
from hwnas.device_fields import FIELDS, TABLE_NOTES, DeviceField
from hwnas.device_fields import SCHEMA as DEVICE_SCHEMA
from hwnas.errors import ConfigError
from hwnas.types import Device
from hwnas.zoo import Card, Measured
from hwnas.zoo.card import FILE as CARD
from hwnas.zoo.card import SCHEMA as CARD_SCHEMA

from .docstrings import attributes
from .markdown import defined, heading, joined, sentence
from .schemas import AnythingElse, Schema, in_words

_OF_CARD = "card-"  # before anchors of its parts, for a manifest has parts of the same names
_OPENING = """\
# Files

What hwnas writes to disk carries the number of its schema and a checksum; what it reads is refused with a reason where
either does not fit. These are the files that other programs may want to read or write.
"""


def files_page() -> str:
    """Markdown of the page."""
    return joined([_OPENING, *_manifest(), *_device(), *_card()])


def _manifest() -> Iterator[str]:
    schema = Manifest.model_json_schema(by_alias=True, mode="serialization", schema_generator=AnythingElse)
    yield heading(2, MANIFEST)
    yield f"In the folder of a deployment. JSON; `schema_number` is {MANIFEST_SCHEMA}. {_about(Manifest)}"
    yield _fields(Manifest, schema)
    for model in manifest_models()[1:]:
        yield heading(3, model.__name__)
        yield _about(model)
        yield _fields(model, schema["$defs"][model.__name__])


def manifest_models() -> tuple[type[BaseModel], ...]:
    """The model of a manifest and those of its parts, in the order in which it names them, each once."""
    found: list[type[BaseModel]] = [Manifest]
    for model in found:  # grows meanwhile
        parts = (part for field in model.model_fields.values() for part in _within(field.annotation))
        found += [part for part in dict.fromkeys(parts) if part not in found]
    return tuple(found)


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in typing.get_args(annotation):
        yield from _within(each)


def _about(model: type) -> str:
    """What a part is, without its fields."""
    return cleandoc(model.__doc__ or "").partition("\n\nAttributes:")[0]


def _fields(model: type[BaseModel], schema: Schema) -> str:
    """The fields of a part of a manifest, as they are called in the file."""
    texts = attributes(model.__doc__ or "")
    entries = []
    for key, field in model.model_fields.items():
        name = field.serialization_alias or key
        of_key = schema["properties"][name]
        optional = "" if field.is_required() else ", may be absent"
        entries.append(_entry(name, in_words(of_key, link="#"), texts.get(key, ""), more=optional))
    return "\n".join(entries)


def _entry(name: str, values: str, text: str, *, more: str = "") -> str:
    return defined(f"`{name}`", f"*{values}{more}*" + (f": {sentence(text)}" if text else ""))


# ---------------------------------------------------------------- descriptions of devices


def _device() -> Iterator[str]:
    yield heading(2, "A device's description", code=False)
    yield (
        f"`NAME.toml`; `schema = {DEVICE_SCHEMA}` stands first. The file's name is the device's. What fields mean "
        "together is in [devices](../devices.md)."
    )
    tables = dict.fromkeys(field.table for field in FIELDS)
    for table in tables:
        if table:
            yield f"In the table `[{table}]`" + (f": {TABLE_NOTES[table]}." if table in TABLE_NOTES else ".")
        yield "\n".join(_device_field(field) for field in FIELDS if field.table == table)


def _device_field(field: DeviceField) -> str:
    text = attributes(Device.__doc__ or "")[field.attribute]
    return _entry(field.key.rpartition(".")[2], _allowed(field), text)


def _allowed(field: DeviceField) -> str:
    """What is allowed of a field, in the words with which another value is refused."""
    try:
        field.check(field.key, None)
    except ConfigError as e:
        return str(e).partition("; ")[2].removeprefix("allowed: ").replace("known: ", "one of ")
    raise AssertionError(f"{field.key} takes None")


# ---------------------------------------------------------------- cards of trained supernets


def _card() -> Iterator[str]:
    yield heading(2, CARD)
    yield f"In the folder of a trained supernet. JSON; `schema` is {CARD_SCHEMA}. {_about(Card)}"
    yield _of_dataclass(Card)
    for part in documented_dataclasses()[1:]:
        yield f"### `{part.__name__}` {{#{_OF_CARD}{part.__name__.lower()}}}"
        yield _about(part)
        yield _of_dataclass(part)


def documented_dataclasses() -> tuple[type, ...]:
    """The data class of a card and those of its parts."""
    return (Card, Measured, Augment, DecodingRule)


def _of_dataclass(of: type) -> str:
    texts = attributes(of.__doc__ or "")
    hints = typing.get_type_hints(of)
    names: Sequence[str] = [field.name for field in dataclasses.fields(of)]
    return "\n".join(_entry(name, _values(hints[name]), texts.get(name, "")) for name in names)


def _values(hint: Any) -> str:
    """Which values a field of a data class holds."""
    parts = [each for each in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(each)]
    if parts == [hint]:
        return f"[{hint.__name__}](#{_OF_CARD}{hint.__name__.lower()})"
    config = None if parts else ConfigDict(arbitrary_types_allowed=True)
    schema = TypeAdapter(hint, config=config).json_schema(schema_generator=AnythingElse, mode="serialization")
    return in_words(schema, link=f"#{_OF_CARD}")

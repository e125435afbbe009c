"""What a JSON schema says, in words: which values are allowed. Knows JSON Schema as pydantic writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

Schema = Mapping[str, Any]
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "table",
    "array": "list",
}
_NOUNS = ("text", "whole number", "number", "table", "list")


class AnythingElse(GenerateJsonSchema):
    """JSON Schema in which a value of a class of our own is just any value, and not an error."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        """Nothing is said of it."""
        return {}


def in_words(schema: Schema, *, link: str = "") -> str:
    """Which values a schema allows, an absent one aside.

    Args:
        schema: of one value.
        link: what a model's anchor comes behind, where its name leads to it: `#`; empty: it does not.
    """
    if "anyOf" in schema:
        words = [in_words(each, link=link) for each in schema["anyOf"] if each.get("type") != "null"]
        return ", or ".join(dict.fromkeys(words))
    if "enum" in schema or "const" in schema:
        return " or ".join(_code(value) for value in schema.get("enum") or [schema["const"]])
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f"[{name}]({link}{name.lower()})" if link else name
    kind = schema.get("type", "")
    if kind == "array":
        return _list(schema, link)
    if kind == "object":
        return _table(schema, link)
    return _TYPES.get(kind, "any value") + _bounds(schema)


def _list(schema: Schema, link: str) -> str:
    least = schema.get("minItems", 0)
    if "prefixItems" in schema:
        return f"list of {', '.join(in_words(each, link=link) for each in schema['prefixItems'])}"
    items = schema.get("items") or {}
    inner = f" of {_several(items, link)}" if items else ""
    return f"list{inner}{', not empty' if least else ''}"


def _table(schema: Schema, link: str) -> str:
    if keys := schema.get("properties"):
        kinds = list(dict.fromkeys(in_words(each, link=link) for each in keys.values()))
        each = f", each a {kinds[0]}" if len(kinds) == 1 else ""
        return f"table with one or more of {', '.join(f'`{key}`' for key in keys)}{each}"
    values = schema.get("additionalProperties")
    return f"table of {_several(values, link)}" if isinstance(values, Mapping) else "table"


def _several(schema: Schema, link: str) -> str:
    """Which values a schema allows of more than one: `whole numbers from 0`."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_several(each, link) for each in schema["anyOf"]))
    words = in_words(schema, link=link)
    noun = next((noun for noun in sorted(_NOUNS, key=len, reverse=True) if re.match(rf"{noun}\b", words)), "")
    return f"{noun}s{words.removeprefix(noun)}" if noun else words


def _bounds(schema: Schema) -> str:
    words = [
        f"{word} {_number(schema[key])}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "and below"),
        )
        if key in schema
    ]
    return f" {' '.join(words)}".replace(" and below", " below", not words[1:]) if words else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or value.is_integer() else f"{value:g}"


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`"

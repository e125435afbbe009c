"""What the values of a configuration may be: names, counts, shares, limits, lists, and what all sections share.

Knows rules of values, not the keys that have them, nor how a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from hwnas._urls import has_password, is_url
from hwnas.allowed import Allowed, Between, allowed_to_json
from hwnas.precision_data import KNOWN

_MOST = 10**9  # of what is counted; beyond it a number is a mistake


def _text(value: str) -> str:
    """A name or path: something to be seen, that a file can hold.

    Raises:
        ValueError: it is blank, has a NUL, or bytes that are no UTF-8 (as they come from the command line).
    """
    if not value.strip():
        raise ValueError(f"is {value!r}, but should not be blank (from a variable that is not set?)")
    if "\0" in value:
        raise ValueError(f"is {value!r}, but should have no NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"is {value!r}, but should be UTF-8: rename what it names") from None
    return value


def _precision(value: str) -> str:
    """The name of a precision.

    Raises:
        ValueError: there is none of that name.
    """
    if value not in KNOWN:
        raise ValueError(f"is {value!r}, but should be one of {', '.join(KNOWN)}")
    return value


def _database(value: str) -> str:
    """The URL of a database, without a secret: the configuration is copied into runs and shown to people.

    Raises:
        ValueError: it is none, or has a password.
    """
    if has_password(value):
        raise ValueError("has a password; leave it out, and give it in ~/.pgpass or in the variable PGPASSWORD")
    if not is_url(value):
        raise ValueError(f"is {value!r}, but should be a URL, as {DATABASE}; a run has a journal of its own")
    return value


DATABASE = "postgresql://user@host/database"
Text = Annotated[str, AfterValidator(_text)]
DatabaseUrl = Annotated[Text, AfterValidator(_database)]
PrecisionName = Annotated[str, AfterValidator(_precision), WithJsonSchema({"type": "string", "enum": [*KNOWN]})]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
Threads = Annotated[int, Field(ge=1, le=4096)]
Natural = Annotated[int, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what TOML's integers hold, and every generator takes
Share = Annotated[float, Field(gt=0, lt=1)]  # both ends excluded
ShareFrom0 = Annotated[float, Field(ge=0, lt=1)]


class _Sides:
    """How a limit is read: a positive number, or a table with `at_least`, `at_most` or both."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        # the number's own rules and errors stay those of every other number
        return core_schema.no_info_wrap_validator_function(
            cls._read,
            handler.generate_schema(Positive),
            serialization=core_schema.plain_serializer_function_ser_schema(allowed_to_json),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number = handler(schema)
        sides = dict.fromkeys(("at_least", "at_most"), number)
        table = {"type": "object", "properties": sides, "additionalProperties": False, "minProperties": 1}
        return {"anyOf": [number, table]}

    @staticmethod
    def _read(value: object, number: core_schema.ValidatorFunctionWrapHandler) -> Allowed:
        if isinstance(value, Between):
            return value
        if not isinstance(value, Mapping):
            return float(number(value))
        if unknown := [key for key in value if key not in ("at_least", "at_most")]:
            raise ValueError(f"is {dict(value)!r}, but has at_least, at_most or both; not {unknown[0]!r}")
        return Between(**{str(side): float(number(given)) for side, given in value.items()})


Sides = Annotated[Allowed, _Sides()]


def listed(comment: str, *, example: str) -> Any:
    """A field that is a list in TOML, absent by default; `strict` would refuse it for a tuple."""
    return Field(default=None, strict=False, min_length=1, description=comment, examples=[example])


def optional(comment: str, *, example: str) -> Any:
    """A field that is absent by default."""
    return Field(default=None, description=comment, examples=[example])


class ConfigSection(BaseModel):
    """What all sections share: unknown keys, NaN and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

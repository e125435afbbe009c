"""What is typed: the flags of every command, and values behind options. Knows texts, not what they are for."""

from __future__ import annotations

import json
import math
import tomllib
from typing import Annotated, Any

import typer

from hwnas._completion import limit_keys, setting_keys
from hwnas._places import user_path
from hwnas.allowed import Allowed, Between
from hwnas.errors import ConfigError
from hwnas.foreign import ForeignFileError, read_foreign
from hwnas.types import Option

_MOST_BYTES = 1_000_000  # of a file that describes a network
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]


def given(value: Any) -> Any:
    """What an option or argument was given, unless it is blank: a variable that is not set must not mean a default.

    Raises:
        typer.BadParameter: it is blank, or has a NUL; the library adds which one.
    """
    for text in value if isinstance(value, list | tuple) else (value,):
        if isinstance(text, str) and not text.strip():
            raise typer.BadParameter(f"{text!r} is blank (from a variable that is not set?); name one, or leave it out")
        if isinstance(text, str) and "\0" in text:
            raise typer.BadParameter(f"{text!r} has a NUL character")
    return value


def names_a_subcommand(context: typer.Context, *, json_output: bool, debug: bool) -> bool:
    """Whether a group of commands was called with one of them, which then does all.

    Raises:
        typer.BadParameter: with flags of the group, which are the sub-command's own and would be lost here.
    """
    if context.invoked_subcommand is not None and (json_output or debug):
        raise typer.BadParameter(f"give --json and --debug after {context.invoked_subcommand!r}")
    return context.invoked_subcommand is not None


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value: --set train.steps=2000. May be repeated.",
        callback=given,
        autocompletion=setting_keys,
    ),
]
OutputOption = Annotated[
    str | None, typer.Option("--output", metavar="FOLDER", help="Where results are kept.", callback=given)
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="METRIC=VALUE",
        help="At most so much (of accuracy: at least): --limit latency_ms=2. 'METRIC>=VALUE' and 'METRIC<=VALUE' name "
        "the side. May be repeated.",
        callback=given,
        autocompletion=limit_keys,
    ),
]


def finite(value: float | None) -> float | None:
    """A number, unless it is none that can be compared.

    Raises:
        typer.BadParameter: it is NaN or infinite.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number that can be used")
    return value


def assignment(text: str, *, what: str, example: str) -> tuple[str, str]:
    """`NAME=VALUE` as name and value.

    Raises:
        ConfigError: it is not of this form.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise ConfigError(f"{what} {text!r} is not of the form NAME=VALUE, for example {what} {example}")
    return name, value


def toml_value(text: str) -> object:
    """A value as TOML would have it; text that is no TOML value is a string without its quotes."""
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return found["value"] if found.keys() == {"value"} else text  # more lines, more values


def changes(given: list[str] | None) -> dict[str, object]:
    """Key -> value of every `--set`.

    Raises:
        ConfigError: one is not of the form SECTION.KEY=VALUE, or names a key again.
    """
    found: dict[str, object] = {}
    for text in given or ():
        key, value = assignment(text, what="--set", example="train.steps=2000")
        if key in found:
            raise ConfigError(f"--set {key} is given twice")
        found[key] = toml_value(value)
    return found


def numbers(given: list[str] | None, *, what: str) -> dict[str, float]:
    """Metric -> number of every option that takes `METRIC=VALUE`.

    Raises:
        ConfigError: one is not of this form, no number, or names a metric again.
    """
    found: dict[str, float] = {}
    for text in given or ():
        name, value = assignment(text, what=what, example="latency_ms=2")
        if name in found:
            raise ConfigError(f"{what} {name} is given twice")
        found[name] = _number(value, text, what=what)
    return found


def limits(given: list[str] | None) -> dict[str, Allowed]:
    """Metric -> what every `--limit` allows of it; one with `>=` and one with `<=` may be about the same.

    Raises:
        ConfigError: one is not of the form METRIC=VALUE, METRIC<=VALUE or METRIC>=VALUE, no number, or limits a metric
            again.
    """
    found: dict[str, Allowed] = {}
    for text in given or ():
        left, value = assignment(text, what="--limit", example="latency_ms=2")
        # `=` is what comes last of each of the three
        name, sign = left.rstrip("<>").rstrip(), left[len(left.rstrip("<>")) :]
        if not name or sign not in ("", "<", ">"):
            raise ConfigError(f"--limit {text!r} is not of the form NAME=VALUE, NAME<=VALUE or NAME>=VALUE")
        found[name] = _also(found.get(name), sign, _number(value, text, what="--limit"), name=name)
    return found


def _number(value: str, text: str, *, what: str) -> float:
    """A finite number, of an option that was given as a text.

    Raises:
        ConfigError: it is none.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{what} {text!r}: {value!r} is not a number; write for example size_bytes=300e3")
    return number


def _also(before: Allowed | None, sign: str, number: float, *, name: str) -> Allowed:
    """What is allowed of a metric after one more limit.

    Raises:
        ConfigError: this side was limited before, or nobody can tell whether it was.
    """
    side = {"<": "at_most", ">": "at_least"}.get(sign)
    if before is None:
        return Between(**{side: number}) if side else number
    if side is None or not isinstance(before, Between):
        raise ConfigError(f"--limit {name} is given twice; for both sides write '{name}>=...' and '{name}<=...'")
    if getattr(before, side) is not None:
        raise ConfigError(f"--limit {name}{sign}= is given twice")
    return Between(**{"at_least": before.at_least, "at_most": before.at_most, side: number})


def settings(given: list[str] | None, *, what: str, example: str) -> dict[str, Option]:
    """Key -> value of every option that takes `KEY=VALUE`.

    Raises:
        ConfigError: one is not of this form, or names a key again.
    """
    found: dict[str, Option] = {}
    for text in given or ():
        key, said = assignment(text, what=what, example=example)
        if key in found:
            raise ConfigError(f"{what} {key} is given twice")
        value = toml_value(said)
        found[key] = value if isinstance(value, str | int | float | bool) else said
    return found


def read_architecture(path: str) -> dict[str, Option]:
    """Choice -> option, from a file of JSON.

    Raises:
        ConfigError: it cannot be read, is too large, or is no object of choices.
    """
    try:
        found = json.loads(read_foreign(user_path(path), limit_bytes=_MOST_BYTES))
    except ForeignFileError as e:
        raise ConfigError(f"{path} cannot be taken: {e}") from e
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"{path} is not JSON ({e}); `hwnas query --json` tells architectures") from e
    if not isinstance(found, dict) or not all(isinstance(v, str | int | float) for v in found.values()):
        raise ConfigError(
            f"{path} is no architecture: that is a JSON object with an option for each choice, as `hwnas query --json` "
            "has it under `architecture`"
        )
    return found

"""What every part of a manifest is: frozen, complete, without fields that nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

_MOST_NAMED = 5


class Section(BaseModel):
    """A part of a manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def missed_note(classes: Sequence[tuple[str, int]], *, what: str) -> str:
    """That nothing is found of some classes; empty if there are none.

    Args:
        classes: name of each, and how many of it there are.
        what: of them, one: "test image".
    """
    if not classes:
        return ""
    names = ", ".join(f"{name!r} (0 of {n})" for name, n in classes[:_MOST_NAMED])
    more = f" and {len(classes) - _MOST_NAMED} more" if len(classes) > _MOST_NAMED else ""
    return f"not one {what} is found of {names}{more}"

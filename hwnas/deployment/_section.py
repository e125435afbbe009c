"""What every part of a manifest is: frozen, complete, without fields that nobody knows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

"""Fill a page's template. Knows templates; never what they show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render(name: str, context: Mapping[str, Any]) -> str:
    """The template of that name beside this module, filled; everything is escaped that is not marked as safe."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hwnas.report", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(context)

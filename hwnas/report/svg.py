"""A matplotlib figure as an SVG element to stand inside an HTML page.

Colours become CSS variables, so the figure follows the page into the dark; text stays text, in the page's font;
identifiers get the figure's name in front, because a page has one space for them. Knows nothing of what is drawn.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from hwnas.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBER = re.compile(r"(-?\d+\.\d\d)\d+")
_FONT = re.compile(r"^font: (?:(?P<weight>bold|\d{3}) )?(?:\w+ )*?(?P<size>[\d.]+px) .*$")
_ROLES = {colour: role for role, colour in LIGHT.items()}
_COLOUR = re.compile("|".join(map(re.escape, _ROLES)))


def inline_svg(figure: Figure, *, name: str, label: str) -> str:
    """The figure as markup: no script, no link, no date; the same for the same figure.

    Args:
        figure: drawn in the palette's light colours.
        name: unique on the page, a valid identifier.
        label: what the figure shows, for those who cannot see it.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hwnas"}):
        # `savefig` would draw twice, the first time for the layout alone, which drawing finds as well
        canvas, metadata = FigureCanvasSVG(figure), dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.print_svg(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    root = ET.fromstring(buffer.getvalue())
    view_box = root.attrib["viewBox"]
    _tidy(root, name)
    root.attrib.clear()
    root.attrib.update({"class": "figure", "viewBox": view_box, "role": "img", "aria-label": label})
    return ET.tostring(root, encoding="unicode")


def _tidy(element: ET.Element, name: str) -> None:
    """Drop what the page does not need, in place, in the whole tree."""
    element.tag = _local(element.tag)
    element.attrib = {_local(k): _attribute(_local(k), v, name) for k, v in element.attrib.items()}
    if element.tag != "text" and element.text is not None and not element.text.strip():
        element.text = None
    for child in list(element):
        if _local(child.tag) in ("metadata", "style"):
            element.remove(child)
            continue
        child.tail = None
        _tidy(child, name)
    styles = {child.attrib.get("style", "") for child in element if child.tag == "use"}
    if len(element) > 1 and len(styles) == 1 and all(child.tag == "use" for child in element):
        for child in element:  # many markers, one style
            del child.attrib["style"]
        element.attrib["style"] = styles.pop()


def _local(qualified: str) -> str:
    return qualified.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "style":
        parts = [_FONT.sub(_without_family, p.strip()) for p in value.split(";")]
        value = "; ".join(p for p in parts if not p.startswith("font-family"))
        value = _COLOUR.sub(lambda found: f"var(--{_ROLES[found[0]]})", value)
    value = value.replace("url(#", f"url(#{name}-")
    return " ".join(_NUMBER.sub(r"\1", value).split())


def _without_family(font: re.Match[str]) -> str:
    """The shorthand that older matplotlib writes, without the family, which comes from the page."""
    return f"font-size: {font['size']}" + (f"; font-weight: {font['weight']}" if font["weight"] else "")

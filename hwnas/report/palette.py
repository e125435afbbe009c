"""The colours of page and figures, for light and dark. Figures are drawn in the light ones.

Every colour has one role and one name; `hwnas.report.svg` exchanges the light values for CSS variables of these
names, so one figure serves both. Knows colours only.
"""

from __future__ import annotations

from types import MappingProxyType

from hwnas.precisions import EXACT, INTEGERS, KNOWN, is_conversion

LIGHT = MappingProxyType(
    {
        "background": "#ffffff",
        "surface": "#f4f6f8",
        "band": "#e3e9ef",
        "rule": "#d3dae1",
        "ink": "#1c2128",
        "muted": "#57606a",
        "trial": "#9ba6b2",
        INTEGERS: "#2369bd",
        EXACT: "#b45309",
        "conversion": "#66707c",
        "chosen": "#be185d",
        "good": "#1a7431",
        "bad": "#c11f2a",
        "device1": "#0072b2",
        "device2": "#d55e00",
        "device3": "#00875f",
        "device4": "#b34d8e",
        "device5": "#8a6d00",
        "device6": "#4aa3d8",
        "device7": "#6b4fbb",
        "device8": "#7a3b2e",
    }
)
DARK = MappingProxyType(
    {
        "background": "#0f1318",
        "surface": "#181d24",
        "band": "#262e38",
        "rule": "#353e49",
        "ink": "#e6ebf1",
        "muted": "#a1acb8",
        "trial": "#6f7b88",
        INTEGERS: "#6cb0f5",
        EXACT: "#f0a04b",
        "conversion": "#9aa5b2",
        "chosen": "#f67fbd",
        "good": "#5acb7a",
        "bad": "#ff8a80",
        "device1": "#5ab4f0",
        "device2": "#ff8f45",
        "device3": "#3ccf9f",
        "device4": "#ea93c9",
        "device5": "#e3c23a",
        "device6": "#a9dcfa",
        "device7": "#b7a2f5",
        "device8": "#d99a8b",
    }
)
DEVICE_ROLES = tuple(role for role in LIGHT if role.startswith("device"))  # after Okabe & Ito (2008)


def block_role(kind: str, precision: str) -> str:
    """The colour role of a block: `fp32` for floats, `int8` for integers, `conversion` where one becomes the other."""
    if is_conversion(kind):
        return "conversion"
    return KNOWN[precision].offered_as if precision in KNOWN else "muted"

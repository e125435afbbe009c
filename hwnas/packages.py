"""What hwnas is installed as, and the packages it asks for: which are there, and how the others are installed.

`hwnas` and `hwnas-light` are distributions of the same modules; the second asks for fewer packages. All is read from
the metadata of what is installed, and nothing is imported. Must never know what a package does.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

DISTRIBUTIONS = ("hwnas", "hwnas-light")
DEVELOPERS = ("dev", "docs")  # extras that users do not need
# a module -> the distribution that brings it, where hyphens and capitals are not all that differs
_BROUGHT_BY = {"PIL": "pillow", "sklearn": "scikit-learn", "pynvml": "nvidia-ml-py"}
_REQUIREMENT = re.compile(r"""^\s*([\w.-]+)\s*(?:>=\s*([\d.]+))?[^;]*(?:;.*extra\s*==\s*["']([\w-]+)["'])?""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package that hwnas asks for.

    Attributes:
        name: of its distribution.
        minimum: the oldest version that is enough; empty: any.
        extra: the optional dependency group that it belongs to; empty: what is always asked for.
    """

    name: str
    minimum: str = ""
    extra: str = ""

    def __str__(self) -> str:
        """As pip is told: `torch>=2.6`."""
        return f"{self.name}>={self.minimum}" if self.minimum else self.name


def installed_as() -> tuple[str, ...]:
    """The distributions of hwnas that are installed here: one, unless somebody installed the other over it."""
    return tuple(name for name in DISTRIBUTIONS if installed_version(name) is not None)


def requirements() -> tuple[Requirement, ...]:
    """What the installed distribution of hwnas asks for, extras included; nothing where there is no metadata."""
    found = (_REQUIREMENT.match(text) for name in installed_as()[:1] for text in requires(name) or ())
    return tuple(Requirement(name=m[1], minimum=m[2] or "", extra=m[3] or "") for m in found if m is not None)


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, which is not imported; None if there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def requirement_of(package: str, *, with_most: bool = False) -> Requirement | None:
    """What hwnas asks for of a package; None if it does not, or if developers alone need it.

    Args:
        package: a distribution, or the module that it brings: `scikit-learn` and `sklearn` are the same.
        with_most: of several extras that bring it, the one that brings most beside it, instead of least.
    """
    name = _normal(_BROUGHT_BY.get(package, package))
    known = requirements()
    sizes = Counter(each.extra for each in known)
    found = [each for each in known if _normal(each.name) == name and each.extra not in DEVELOPERS]
    found.sort(key=lambda each: (bool(each.extra), -sizes[each.extra] if with_most else sizes[each.extra]))
    return next(iter(found), None)


def to_install(package: str, *, extra: str = "") -> str:
    """What follows `pip install`, quoted for a shell: `'torch>=2.6'`, `'hwnas[serve]'`, `'hwnas-light[full]'`.

    Args:
        package: a distribution, or the module that it brings.
        extra: the optional dependency group that brings it; empty: looked up.
    """
    known = requirement_of(package)
    extra = extra or (known.extra if known else "")
    if extra:
        return f"'{(*installed_as(), *DISTRIBUTIONS)[0]}[{extra}]'"
    return f"'{known}'" if known else package


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

"""The page about plug-ins: what is registered under which name, with a line of each docstring."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas import registry

from .docstrings import docstring_of, first_sentence, module_docstring
from .markdown import defined, heading, joined

_OPENING = """\
# Plug-ins

What a configuration or a description of a device names is looked up in a registry. These names come with hwnas. A
package of your own adds to them by an entry point of the group `hwnas.KIND`, or a module by
`hwnas.registry.register`; see [where new things go](../architecture.md#where-new-things-go). Nothing is imported before
it is asked for by its name.
"""
# one module each, whose first line says more than that of its class
_BY_MODULE = ("runtimes", "exporters", "meters", "transports")


def plug_ins_page() -> str:
    """Markdown of the page."""
    return joined([_OPENING, *(_kind(kind) for kind in registry.built_in())])


def _kind(kind: str) -> str:
    what = registry.what_is(kind)
    article = "an" if what[0] in "aeiou" else "a"
    opening = f"Group of entry points `hwnas.{kind}`; one is called {article} {what}."
    return joined([heading(2, kind), opening, "\n".join(_entries(kind))])


def _entries(kind: str) -> Iterator[str]:
    for name, target in registry.built_in()[kind].items():
        module = target.partition(":")[0]
        text = module_docstring(module) if kind in _BY_MODULE else docstring_of(target) or module_docstring(module)
        extra = registry.extra(kind, name)
        needs = f" Needs the extra `{extra}`." if extra else ""
        yield defined(f"`{name}`", f"{first_sentence(text)}{needs}")

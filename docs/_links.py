"""Links between Markdown files: as they are in the repository, and as they are in the site.

Pages of the site are the files in docs/, and some from outside it; the programs of examples/ come with them. Knows
paths and Markdown, not MkDocs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

# path in the repository -> path of the page
OUTSIDE: Mapping[str, str] = {
    "README.md": "readme.md",
    "ARCHITECTURE.md": "architecture.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
}
EXAMPLES = "examples/"  # whose programs stand in the site where they stand in the repository, for pages to link to
_DOCS = "docs/"
_FENCED = re.compile(r"^ *(```|~~~).*?^ *\1", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?P<open>!?\[[^\]]*\]\()(?P<path>[^)#\s:]+)(?P<rest>(?:#[^)\s]*)?\))")


def source_of(page: str) -> str:
    """The path in the repository of a page of the site."""
    return {page: path for path, page in OUTSIDE.items()}.get(page, f"{_DOCS}{page}")


def page_of(path: str) -> str | None:
    """The path in the site of a file of the repository; None if it is not in the site."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith(EXAMPLES):
        return path
    return path.removeprefix(_DOCS) if path.startswith(_DOCS) else None


def rewrite_links(markdown: str, *, source: str) -> str:
    """A page's text with links that work in the site; code is left as it is.

    A link to a file that is not in the site stays, and MkDocs refuses it.

    Args:
        markdown: as it is in the repository.
        source: path of the file in the repository.
    """
    folder = posixpath.dirname(source)
    site_folder = posixpath.dirname(page_of(source) or "") or "."

    def _rewritten(link: re.Match[str]) -> str:
        page = page_of(posixpath.normpath(posixpath.join(folder, link["path"])))
        return link[0] if page is None else f"{link['open']}{posixpath.relpath(page, site_folder)}{link['rest']}"

    parts, end = [], 0
    for code in _FENCED.finditer(markdown):
        parts += [_LINK.sub(_rewritten, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(_rewritten, markdown[end:])])

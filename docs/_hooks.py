"""What MkDocs is told beyond mkdocs.yml: generated pages, what is outside docs/, and that nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path

from _links import EXAMPLES, OUTSIDE, rewrite_links, source_of
from _reference import pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parent.parent
_PROGRAMS = (".py", ".cpp", ".hpp", ".kt")
_FETCHED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference, and the pages and programs from outside docs/."""
    outside = {page: (_ROOT / path).read_text(encoding="utf-8") for path, page in OUTSIDE.items()}
    programs = [path for path in (_ROOT / EXAMPLES).rglob("*") if path.suffix in _PROGRAMS]
    examples = {path.relative_to(_ROOT).as_posix(): path.read_text(encoding="utf-8") for path in programs}
    for path, text in {**pages(), **outside, **examples}.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    return rewrite_links(markdown, source=source_of(page.file.src_uri))


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that fetches anything when it is read.

    Raises:
        PluginError: a page does.
    """
    for path in Path(config.site_dir).rglob("*.html"):
        if found := _FETCHED.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path} fetches {found[1]} when it is read; keep it in docs/")

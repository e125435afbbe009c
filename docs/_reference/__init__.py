"""The reference of the documentation, written from the code: one function a page, and `pages` for all of them.

Reads declarations (the configuration's model, the commands, the registry) and docstrings; it imports neither torch nor
a runtime, and needs nothing of MkDocs, so that tests can read what is written. `docs/_hooks.py` gives the pages to
MkDocs.
"""

from collections.abc import Mapping

from .commands import commands_page
from .configuration import configuration_page
from .errors import errors_page
from .files_on_disk import files_page
from .plug_ins import plug_ins_page
from .python_api import python_pages

FOLDER = "reference"


def pages() -> Mapping[str, str]:
    """Path of each page below `docs/` -> its Markdown."""
    found = {
        "configuration.md": configuration_page(),
        "commands.md": commands_page(),
        "files.md": files_page(),
        "errors.md": errors_page(),
        "plug-ins.md": plug_ins_page(),
        **python_pages(),
    }
    return {f"{FOLDER}/{name}": text for name, text in found.items()}


__all__ = ["FOLDER", "pages"]

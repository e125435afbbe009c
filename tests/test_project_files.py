"""Files about the project beside its code: they say the same as the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hwnas
from tests.docs.snippets import check_mention

ROOT = Path(__file__).parent.parent
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_version_to_cite_is_that_of_the_code() -> None:
    assert f"\nversion: {hwnas.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_changes_tell_of_this_version() -> None:
    assert f"\n## {hwnas.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("template", [t for t in TEMPLATES if t.stem != "config"], ids=lambda path: path.stem)
def test_a_template_asks_for_commands_that_exist(template: Path) -> None:
    commands = re.findall(r"`(hwnas [^`]+)`", template.read_text())
    assert commands
    for command in commands:
        check_mention(command)

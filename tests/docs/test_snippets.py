"""The code in README and docs/ is code of this version: it is parsed, loaded, and run where it can be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from hwnas import errors
from hwnas.errors import ConfigError
from tests.docs.snippets import (
    LANGUAGES,
    ROOT,
    Snippet,
    check_command,
    check_imports,
    check_key,
    check_mention,
    check_toml,
    commands,
    inline_commands,
    is_self_contained,
    snippets,
)

SNIPPETS = list(snippets())
PYTHON = [each for each in SNIPPETS if each.language == "python"]
SELF_CONTAINED = [each for each in PYTHON if is_self_contained(each.text)]


def by_language(language: str) -> list[Snippet]:
    return [each for each in SNIPPETS if each.language == language]


def all_wrong(snippets: list[Snippet], check: Callable[[str], object]) -> dict[str, str]:
    """Where a snippet is wrong -> why; one test tells of all."""
    found = {}
    for each in snippets:
        try:
            check(each.text)
        except Exception as e:  # noqa: BLE001, whatever it is, it is told with its place
            found[f"{each}: {each.text.strip().splitlines()[0]}"] = f"{type(e).__name__}: {e}"
    return found


def test_every_block_is_of_a_language_that_is_known_here() -> None:
    assert {str(each): each.language for each in SNIPPETS if each.language not in LANGUAGES} == {}


def test_the_pages_have_snippets_of_every_kind() -> None:
    kinds = Counter(each.language for each in SNIPPETS)
    assert kinds["python"] > 10
    assert kinds["toml"] > 10
    assert len(list(commands())) > 40
    assert len(list(inline_commands())) > 30
    assert len(SELF_CONTAINED) >= 3


def test_every_command_is_taken_by_what_parses_it() -> None:
    assert all_wrong(list(commands()), check_command) == {}


def test_every_command_in_a_sentence_exists_with_its_options() -> None:
    assert all_wrong(list(inline_commands()), check_mention) == {}


def test_every_toml_snippet_is_a_configuration_or_a_description() -> None:
    assert all_wrong(by_language("toml"), check_toml) == {}


def test_every_json_snippet_is_json() -> None:
    assert all_wrong(by_language("json"), json.loads) == {}


def test_every_python_snippet_compiles() -> None:
    assert all_wrong(PYTHON, lambda text: compile(text, "snippet", "exec")) == {}


def test_what_python_snippets_import_of_hwnas_is_there() -> None:
    assert all_wrong(PYTHON, check_imports) == {}


@pytest.mark.parametrize("snippet", SELF_CONTAINED, ids=str)
def test_a_python_snippet_that_needs_nothing_of_the_readers_runs(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = compile(snippet.text, str(snippet), "exec")
    with pytest.raises(getattr(errors, snippet.raises)) if snippet.raises else nullcontext():
        exec(code, {"__name__": "snippet"})


def test_an_error_that_a_snippet_ends_with_is_of_a_snippet_that_is_run() -> None:
    assert [str(each) for each in SNIPPETS if each.raises and each not in SELF_CONTAINED] == []


# ---------------------------------------------------------------- the checks themselves


@pytest.mark.parametrize(
    "text",
    [
        "hwnas run my.toml --limit latency_ms=2 --set train.steps=10",
        "hwnas search RUN --workers N",
        "hwnas query runs/mine --json | jq .answers > network.json",
        ".venv/bin/hwnas devices new my-pi --like raspberry-pi-5 --yes",
        "hwnas train --help",
        "make docs",
        "python benchmarks/search.py --smoke",
    ],
)
def test_a_right_command_is_taken(text: str) -> None:
    check_command(text)


@pytest.mark.parametrize(
    "text",
    [
        "hwnas trian",
        "hwnas run --limits latency_ms=2",
        "hwnas devices describe",
        "hwnas search run --workers many",
        "hwnas run --set train.stesp=10",
        "hwnas run --limit latency=2",
        "hwnas verify",
        "make tset",
        "python benchmarks/serach.py",
    ],
)
def test_a_wrong_command_is_seen(text: str) -> None:
    assert all_wrong([Snippet(page=ROOT / "README.md", line=1, language="sh", text=text)], check_command)


@pytest.mark.parametrize("text", ["hwnas audit --space x", "hwnas devices lsit", "hwnas runn"])
def test_a_wrong_mention_is_seen(text: str) -> None:
    with pytest.raises(AssertionError):
        check_mention(text)


@pytest.mark.parametrize("name", ["train.steps", "model.elastic.width", "limits.latency_ms"])
def test_a_key_is_found_in_its_section(name: str) -> None:
    check_key(name)


@pytest.mark.parametrize(
    "text", ["[train]\nstesp = 1", "[energy]\nmetre = 'rapl'", "schema = 1\nruntime = 'none of ours'"]
)
def test_a_wrong_key_or_value_in_toml_is_seen(text: str) -> None:
    with pytest.raises(ConfigError):
        check_toml(text)


def test_toml_is_read_as_what_its_keys_say() -> None:
    assert check_toml("[limits]\nlatency_ms = 2") == "a configuration"
    assert check_toml("[connection]\ntransport = 'ssh'") == "a description of a device"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\nprint(x)", True),
        ("def f(a):\n    return a", True),
        ("print(mine)", False),
        ("open('runs/mine')", False),
        ("load('python:my_nets:make')", False),
    ],
)
def test_a_snippet_is_run_if_it_needs_nothing_of_the_readers(text: str, expected: bool) -> None:
    assert is_self_contained(text) is expected


def test_an_import_that_is_not_there_is_seen() -> None:
    with pytest.raises(AssertionError, match="has no nothing"):
        check_imports("from hwnas.search import nothing")

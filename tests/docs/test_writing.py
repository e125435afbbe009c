"""How the reference puts docstrings and schemas into words, and links between pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from _links import OUTSIDE, page_of, rewrite_links, source_of
from _reference.docstrings import attributes, docstring_of, first_sentence, module_docstring
from _reference.markdown import anchor, defined, sentence, table
from _reference.schemas import AnythingElse, in_words
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from hwnas._config_values import Sides

ROOT = Path(__file__).parents[2]

# ---------------------------------------------------------------- schemas


class Part(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (str, "text"),
        (bool, "`true` or `false`"),
        (Literal["a", "b"] | None, '`"a"` or `"b"`'),
        (Annotated[int, Field(ge=1, le=4096)], "whole number from 1 to 4,096"),
        (Annotated[float, Field(gt=0, lt=1)], "number above 0 and below 1"),
        (Annotated[float, Field(lt=0.5)], "number below 0.5"),
        (tuple[Annotated[int, Field(ge=0)], ...], "list of whole numbers from 0"),
        (Annotated[tuple[str, ...], Field(min_length=1)], "list of texts, not empty"),
        (tuple[float, float] | None, "list of number, number"),
        (dict[str, str | float], "table of texts or numbers"),
        (dict[str, Any], "table"),
        (Sides, "number above 0, or table with one or more of `at_least`, `at_most`, each a number above 0"),
        (object(), "any value"),
    ],
)
def test_a_schema_says_which_values_are_allowed(hint: Any, words: str) -> None:
    kind = type(hint) if type(hint) is object else hint
    adapter = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    assert in_words(adapter.json_schema(schema_generator=AnythingElse)) == words


def test_the_name_of_a_part_leads_to_it() -> None:
    schema = TypeAdapter(tuple[Part, ...]).json_schema()
    assert in_words(schema, link="#") == "list of [Part](#part)"


# ---------------------------------------------------------------- docstrings

DOCSTRING = """What it is.

    Attributes:
        first: one line.
        second: the beginning: with a colon,
            and more of it.

    Raises:
        ValueError: never.
    """


def test_attributes_are_read_with_their_further_lines() -> None:
    assert attributes(DOCSTRING) == {"first": "one line.", "second": "the beginning: with a colon, and more of it."}
    assert attributes("What it is.") == {}


def test_the_first_sentence_ends_where_another_begins() -> None:
    assert (
        first_sentence("One of `a.b` (see 2.1\nand e.g. this). Two.\n\nThree.")
        == "One of `a.b` (see 2.1 and e.g. this)."
    )


@pytest.mark.parametrize(
    "target",
    [
        "hwnas.search.samplers.genetic:nsga2",
        "hwnas.supernet.strategies:SandwichRule",  # imported there
        "hwnas.spaces.mobilenet_kinds:MBCONV",  # a constant: the function it is built by
    ],
)
def test_a_docstring_is_found_without_an_import(target: str) -> None:
    assert docstring_of(target)


def test_what_is_not_defined_is_refused() -> None:
    with pytest.raises(LookupError, match="does not define nothing"):
        docstring_of("hwnas.errors:nothing")
    with pytest.raises(LookupError, match=r"no module hwnas\.nothing"):
        module_docstring("hwnas.nothing")


# ---------------------------------------------------------------- Markdown


@pytest.mark.parametrize(
    ("name", "expected"),
    [("train.steps", "train.steps"), ("hwnas devices new", "hwnas-devices-new"), ("[[budgets]]", "budgets")],
)
def test_an_anchor_follows_from_the_name(name: str, expected: str) -> None:
    assert anchor(name) == expected


def test_a_cell_does_not_end_its_row() -> None:
    assert table(["a"], [["x | y\nz"]]) == "| a |\n| --- |\n| x \\| y z |"


def test_what_is_defined_without_a_text_is_still_a_definition() -> None:
    assert defined("`a`", "One.\nTwo.", "Three.") == "`a`\n:   One.\n    Two.\n\n    Three.\n"
    assert defined("`a`", "") == "`a`\n:   &nbsp;\n"


@pytest.mark.parametrize(("text", "expected"), [("a", "a."), ("a:", "a:"), ("a. ", "a."), ("", "")])
def test_a_comment_becomes_a_sentence(text: str, expected: str) -> None:
    assert sentence(text) == expected


# ---------------------------------------------------------------- links


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("docs/zoo.md", "training.md#growing", "training.md#growing"),
        ("docs/budgets.md", "../SECURITY.md", "security.md"),
        ("docs/concepts/latency.md", "../../ARCHITECTURE.md#the-rooms", "../architecture.md#the-rooms"),
        ("README.md", "docs/images/front.png", "images/front.png"),
        ("README.md", "benchmarks/README.md", "benchmarks.md"),
        ("benchmarks/README.md", "../docs/energy.md", "energy.md"),
        ("docs/zoo.md", "https://example.org/README.md", "https://example.org/README.md"),
        ("docs/deployments.md", "../examples/cpp/predict.cpp", "examples/cpp/predict.cpp"),
        ("docs/howto/coming-from.md", "../../examples/README.md", "../examples.md"),
        ("examples/README.md", "own_block.py", "examples/own_block.py"),
        ("docs/zoo.md", "#here", "#here"),
        ("docs/zoo.md", "../Makefile", "../Makefile"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(source: str, link: str, expected: str) -> None:
    assert rewrite_links(f"see [this]({link}).", source=source) == f"see [this]({expected})."


def test_code_is_left_as_it_is() -> None:
    text = "```\n[a](../SECURITY.md)\n```\n[a](../SECURITY.md)\n"
    assert rewrite_links(text, source="docs/a.md") == "```\n[a](../SECURITY.md)\n```\n[a](security.md)\n"


def test_every_page_from_outside_is_a_file_and_found_again() -> None:
    for path, page in OUTSIDE.items():
        assert (ROOT / path).is_file()
        assert (page_of(path), source_of(page)) == (page, path)
    assert source_of("zoo.md") == "docs/zoo.md"
    assert page_of("Makefile") is None

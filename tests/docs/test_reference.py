"""The generated reference is complete: what the program knows is in it, with what it means."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from _links import OUTSIDE
from _reference import pages
from _reference.commands import all_commands
from _reference.errors import error_classes
from _reference.files_on_disk import documented_dataclasses, manifest_models
from _reference.markdown import anchor
from _reference.python_api import PUBLIC, public_names
from pydantic import BaseModel

from hwnas import errors, registry
from hwnas.config import Config
from hwnas.device_fields import FIELDS
from hwnas.errors import HwnasError
from hwnas.measure._wire import BoardSetupError
from tests.test_imports import loaded_after

ROOT = Path(__file__).parents[2]
PAGES = pages()


def page(name: str) -> str:
    return PAGES[f"reference/{name}.md"]


def section(name: str, title: str) -> str:
    """The text below a heading, the first of that title, up to the next one."""
    parts = re.split(r"^#+ (.+?)(?: \{#.*\})?$", page(name), flags=re.MULTILINE)
    return parts[parts.index(title) + 1]


def defined(text: str) -> Mapping[str, str]:
    """Name -> what is said of it, of a list of definitions."""
    return dict(re.findall(r"^`(.+)`\n:   (.+)$", text, re.MULTILINE))


def keys_in(model: type[BaseModel], within: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a configuration that holds a value, as `--set` names it, with its field."""
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if inner is None or name == "others":
            yield f"{within}{name}", field
        elif name != "budgets":
            yield from keys_in(inner, f"{within}{name}.")


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("name", "field"), list(keys_in(Config)), ids=lambda value: value if type(value) is str else ""
)
def test_every_key_is_there_with_its_meaning_and_its_values(name: str, field: Any) -> None:
    said = section("configuration", f"`{name}`")
    assert f"{{#{name}}}" in page("configuration")
    assert (field.description or "").rstrip(".")[1:] in said
    assert re.search(r"\*\*Value\*\* \w|\*\*Value\*\* `", said)
    assert "any value" not in said
    assert "**Default** " in said


def test_a_budget_has_the_key_that_is_its_own() -> None:
    assert "the only one it is for" in section("configuration", "`budgets.device`").lower()
    assert "`budgets.latency_ms`" not in page("configuration")


def test_a_required_key_says_so() -> None:
    assert "must be given" in section("configuration", "`model.source`")


# ---------------------------------------------------------------- commands

COMMANDS = [(words, command) for words, command, _ in all_commands()]


def test_all_commands_are_there() -> None:
    found = {words for words, _ in COMMANDS}
    assert {"hwnas", "hwnas run", "hwnas devices new", "hwnas zoo pack", "hwnas serve"} <= found
    assert len(found) > 20


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_every_command_is_there_with_every_option(words: str, command: Any) -> None:
    said = section("commands", f"`{words}`")
    assert f"{{#{words.replace(' ', '-')}}}" in page("commands")
    assert inspect.cleandoc(command.help) in said
    names = [name for p in command.params for name in p.opts if p.param_type_name == "option"]
    assert names or hasattr(command, "commands")  # a group of commands may have none
    listed = " ".join(re.findall(r"^`(.+)`$", said, re.MULTILINE))
    assert {name for name in names if not re.search(rf"{name}\b", listed)} == set()
    assert all(text != "&nbsp;" for text in defined(said).values())


def test_every_status_that_an_error_can_end_with_is_explained() -> None:
    said = section("commands", "Exit statuses")
    assert {each.status for each in error_classes()} <= {int(n) for n in re.findall(r"^\| `(\d+)`", said, re.MULTILINE)}


# ---------------------------------------------------------------- errors


def classes_of(module: Any) -> list[type[HwnasError]]:
    return [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, HwnasError)]


@pytest.mark.parametrize("error", [*classes_of(errors), BoardSetupError], ids=lambda error: error.__name__)
def test_every_error_is_there_with_its_status_and_what_to_do(error: type[HwnasError]) -> None:
    said = section("errors", f"`{error.__name__}`")
    assert f"**Exit status** {error.exit_status}" in said
    assert error is HwnasError or "**What to do:** " in said


def test_every_error_class_of_the_program_says_what_to_do() -> None:
    assert [each.name for each in error_classes() if each.base and not each.cure] == []


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    assert [c.__name__ for c in classes_of(errors) if c.__name__ not in (errors.__doc__ or "")] == []


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("model", manifest_models(), ids=lambda model: model.__name__)
def test_every_field_of_a_manifest_is_there_with_its_meaning(model: type[BaseModel]) -> None:
    title = "`manifest.json`" if model.__name__ == "Manifest" else f"`{model.__name__}`"
    said = defined(section("files", title))
    assert [*said] == [field.serialization_alias or name for name, field in model.model_fields.items()]
    assert {name for name, text in said.items() if "*: " not in text} == set()


@pytest.mark.parametrize("of", documented_dataclasses(), ids=lambda of: of.__name__)
def test_every_field_of_a_card_is_there_with_its_meaning(of: type) -> None:
    text = page("files").partition("## `card.json`")[2]
    said = defined(text)
    assert {f.name for f in dataclasses.fields(of)} <= said.keys()
    assert {name for name, meaning in said.items() if "*: " not in meaning} == set()


def test_every_field_of_a_description_is_there_with_its_meaning() -> None:
    said = defined(section("files", "A device's description"))
    assert {field.key.rpartition(".")[2] for field in FIELDS} == said.keys()
    assert "from 1 to 4096" in said["threads"]


# ---------------------------------------------------------------- plug-ins


@pytest.mark.parametrize("kind", registry.built_in())
def test_every_name_that_is_registered_is_there_with_what_it_is(kind: str) -> None:
    said = defined(section("plug-ins", f"`{kind}`"))
    assert [*said] == [*registry.built_in()[kind]]
    assert {name for name, text in said.items() if text == "&nbsp;"} == set()


# ---------------------------------------------------------------- Python


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_there_and_is_documented(package: str) -> None:
    found = public_names(package)
    for module, names in found.items():
        loaded = importlib.import_module(module)
        assert [name for name in names if not hasattr(loaded, name)] == []
        functions_and_classes = [getattr(loaded, n) for n in names if inspect.isroutine(getattr(loaded, n))]
        functions_and_classes += [getattr(loaded, n) for n in names if inspect.isclass(getattr(loaded, n))]
        assert [each for each in functions_and_classes if not each.__doc__] == []
    text = PAGES[f"reference/python/{package}.md"]
    listed = [
        *re.findall(r"^        - (\w+)$", text, re.MULTILINE),
        *re.findall(r"^::: \S+\.(\w+)\.\1$", text, re.MULTILINE),
    ]
    assert sorted(listed) == sorted(name for names in found.values() for name in names)


def test_a_function_that_is_called_as_its_module_is_documented_by_itself() -> None:
    assert "::: hwnas.cost.entropy.entropy\n" in PAGES["reference/python/hwnas.cost.md"]
    assert "        - entropy\n" not in PAGES["reference/python/hwnas.cost.md"]


def test_sections_of_a_configuration_are_on_its_page_alone() -> None:
    (names,) = public_names("hwnas.config").values()
    assert "Config" in names
    assert "TrainConfig" not in names


# ---------------------------------------------------------------- all pages


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_one_title_and_each_anchor_once(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", PAGES[name], flags=re.DOTALL | re.MULTILINE)
    anchors = re.findall(r"\{#(.+?)\}", text)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert sorted(anchors) == sorted(set(anchors))


@pytest.mark.parametrize("name", PAGES)
def test_a_link_within_a_page_leads_to_an_anchor_of_it(name: str) -> None:
    text = PAGES[name]
    anchors = {*re.findall(r"\{#(.+?)\}", text), *map(anchor, re.findall(r"^#+ ([\w ]+)$", text, re.MULTILINE))}
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", text) if link not in anchors] == []


def test_writing_it_loads_neither_torch_nor_a_runtime() -> None:
    loaded = loaded_after("import sys\nsys.path.insert(0, 'docs')\nimport _reference\n_reference.pages()")
    assert not loaded & {"torch", "onnx", "onnxruntime", "optuna", "matplotlib", "mkdocs"}


def test_every_page_stands_in_the_navigation() -> None:
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    listed = re.findall(r"^ +- .*?([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted({*written, *PAGES, *OUTSIDE.values()})

from __future__ import annotations

import pytest

from hwnas import registry
from hwnas.errors import ConfigError, MissingPackageError, UnknownNameError

KINDS = (
    *("runtimes", "exporters", "meters", "transports"),
    *("spaces", "space_types", "block_kinds", "samplers", "strategies", "data"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_name_loads(kind: str) -> None:
    for name in registry.names(kind):
        assert registry.load(kind, name) is not None


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown runtime 'warp'; known: .*fake, litert, onnxruntime, openvino"):
        registry.load("runtimes", "warp")


def test_a_missing_package_names_what_to_install(tmp_path, monkeypatch) -> None:
    (tmp_path / "needs_something.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackageError, match=r"pip install 'hwnas\[litert\]'"):
        registry.load_object("needs_something:X", extra="litert", needed_for="runtime 'litert'")
    with pytest.raises(MissingPackageError, match=r"pip install a_package_nobody_has$"):
        registry.load_object("needs_something:X", needed_for="runtime 'litert'")


@pytest.mark.parametrize("target", ["no_such_module:x", "hwnas.types:nothing", "hwnas.types"])
def test_a_wrong_target_is_a_configuration_error(target: str) -> None:
    with pytest.raises(ConfigError, match="needed by the test"):
        registry.load_object(target, needed_for="needed by the test")


@pytest.mark.parametrize(
    ("kind", "name", "option", "taken"),
    [
        ("samplers", "nsga2", "population_size", True),
        ("samplers", "random", "population_size", False),
        ("strategies", "sandwich", "n_random", True),
        ("strategies", "largest", "n_random", False),
    ],
)
def test_a_factory_gets_the_options_it_has_a_parameter_for(kind: str, name: str, option: str, taken: bool) -> None:
    assert registry.taken_by(registry.load(kind, name), {option: 4}) == ({option: 4} if taken else {})


# ---------------------------------------------------------------- registered in this process


def test_what_a_module_registers_is_known_by_its_name(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    thing = object()
    for _ in range(2):
        registry.register("samplers", "mine", thing)
    assert registry.load("samplers", "mine") is thing
    assert "mine" in registry.names("samplers")


@pytest.mark.parametrize("name", ["random", "mine"])
def test_a_name_that_is_taken_is_refused(monkeypatch, name):
    monkeypatch.setattr(registry, "_REGISTERED", {"samplers": {"mine": object()}})
    with pytest.raises(ConfigError, match="another sampler"):
        registry.register("samplers", name, object())


def test_registering_under_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="'sampler'; known: block_kinds"):
        registry.register("sampler", "mine", object())


def test_what_comes_with_hwnas_is_listed_with_where_it_is():
    assert registry.built_in()["samplers"]["nsga2"] == "hwnas.search.samplers.genetic:nsga2"
    assert {kind: registry.what_is(kind) for kind in registry.built_in()}["meters"] == "energy meter"

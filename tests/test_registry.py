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

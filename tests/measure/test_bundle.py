"""The agent's file: the same bytes every time, exactly what a board needs, and nothing more imported."""

import ast
import hashlib
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from hwnas.measure import bundle
from hwnas.measure.bundle import agent_bytes


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "agent.pyz"
    path.write_bytes(agent_bytes())
    return path


def sources() -> dict[str, str]:
    with zipfile.ZipFile(BytesIO(agent_bytes())) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def agent_modules() -> list[str]:
    names = [name.removesuffix(".py").removesuffix("/__init__") for name in sources() if name != "__main__.py"]
    return [name.replace("/", ".") for name in names]


def test_the_bytes_are_the_same_every_time() -> None:
    code = "import hashlib; from hwnas.measure.bundle import agent_bytes as a; print(hashlib.sha256(a()).hexdigest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(agent_bytes()).hexdigest()


def test_what_a_board_needs_is_in_and_what_it_does_not_is_out() -> None:
    modules = set(agent_modules())
    assert {"hwnas.measure.agent", "hwnas.measure.worker", "hwnas.devices.onnxruntime", "hwnas.testing.fake"} <= modules
    never = (
        "pipeline",
        "cost",
        "search",
        "supernet",
        "spaces",
        "config",
        "cli",
        "measure.client",
        "measure.transports",
    )
    assert not [m for m in modules if m.removeprefix("hwnas.").startswith(never)]


def test_packages_are_empty_so_that_nothing_of_the_host_is_imported() -> None:
    assert sources()["hwnas/measure/__init__.py"] == ""
    assert sources()["hwnas/__init__.py"].startswith("__version__")


def test_a_name_imported_from_a_package_brings_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set(bundle._imports("hwnas.x", "from hwnas.devices import load_device, host", is_package=False))
    assert found == {"hwnas.devices", "hwnas.devices.host"}


def test_imports_for_a_type_checker_alone_bring_nothing() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hwnas.spaces\n"
    assert not list(bundle._imports("hwnas.x", source, is_package=False))


_IMPORT_ALL = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        allowed = sys.stdlib_module_names | {"hwnas", "numpy"}
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {name!r}, which a board need not have", name=name)
sys.meta_path.insert(0, Refusing())
sys.path.insert(0, sys.argv[1])
for module in sys.argv[2:]:
    __import__(module)
    assert sys.modules[module].__spec__.origin.startswith(sys.argv[1]), module
print("imported")
"""


def test_every_module_imports_with_the_standard_library_and_numpy_alone(agent_file: Path) -> None:
    command = [sys.executable, "-c", _IMPORT_ALL, str(agent_file), *agent_modules()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "imported", done.stderr


def test_the_agent_parses_on_the_oldest_python_it_is_for() -> None:
    oldest = tuple(int(n) for n in bundle.OLDEST_PYTHON.split("."))
    for name, source in sources().items():
        ast.parse(source, name, feature_version=(oldest[0], oldest[1]))


def test_the_starter_parses_on_pythons_that_are_too_old() -> None:
    from hwnas.measure import _boot

    ast.parse(Path(_boot.__file__).read_text(), feature_version=(3, 6))


def test_names_that_newer_pythons_have_are_supplied(agent_file: Path) -> None:
    """As on Python 3.10: without enum.StrEnum and hashlib.file_digest the measuring process still starts."""
    code = (
        "import enum, hashlib, runpy, sys\n"
        "del enum.StrEnum, hashlib.file_digest\n"
        "sys.argv = [sys.argv[1], 'worker']\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code, str(agent_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('{"id": 1, "op": "close", "keys": []}\n')
        process.stdin.flush()
        assert '"id": 1, "ok": true' in process.stdout.readline()

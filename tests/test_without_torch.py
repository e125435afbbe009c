"""Who queries, serves, verifies or uses what others made needs what `hwnas-light` asks for, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.light.test_backend import DEPENDENCIES, LIGHT
from tests.runs import FinishedRun

_MODULES = {"scikit-learn": "sklearn"}  # the others are called as what brings them
LEFT_OUT = {_MODULES.get(name, name) for name in DEPENDENCIES if name not in LIGHT["dependencies"]}

FAKE = frozenset({"onnx"})  # with which the fake runtime reads files


def without(code: str, *, here: frozenset[str] = frozenset()) -> subprocess.CompletedProcess[str]:
    """Some code where nothing that hwnas-light leaves out can be imported.

    Args:
        code: of Python.
        here: what can be imported all the same.
    """
    absent = sorted(LEFT_OUT - here)
    whole = f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\n{code}"
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)


def command(*arguments: object, here: frozenset[str] = frozenset()) -> subprocess.CompletedProcess[str]:
    words = [str(each) for each in arguments]
    return without(f"sys.argv[1:] = {words!r}\nfrom hwnas.cli import main\nmain()", here=here)


def test_what_is_left_out_cannot_be_imported_here() -> None:
    assert {"torch", "scipy", "optuna"} <= LEFT_OUT
    assert "ModuleNotFoundError: import of torch halted" in without("import torch").stderr


def test_a_budget_is_answered(finished: FinishedRun) -> None:
    done = command("query", finished.folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answers"]


def test_a_budget_is_answered_from_the_tables(finished: FinishedRun) -> None:
    """As for a device that the run was not searched for: costs are fitted anew."""
    code = (
        "from hwnas._console import Console\nfrom hwnas.catalogue import open_catalogue\n"
        "from hwnas.config import load_config\n"
        f"found = open_catalogue(load_config({str(finished.folder)!r}), console=Console())\n"
        "print(len(found['fake'].ask({}, n_predicted=1).evaluated), found['fake'].predicted)\n"
    )
    done = without(code, here=FAKE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 None\n"
    assert "networks that were evaluated are offered, and no others: predicting the others needs" in done.stderr


@pytest.mark.parametrize("arguments", [("devices",), ("devices", "show", "cpu"), ("spaces",), ("zoo",), ("doctor",)])
def test_what_there_is_is_told(arguments: tuple[str, ...]) -> None:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr


def test_a_deployment_is_verified(finished: FinishedRun) -> None:
    done = command("verify", finished.deployment, here=FAKE)
    assert done.returncode == 0, done.stderr


def test_a_deployment_predicts(finished: FinishedRun) -> None:
    code = (
        "import hwnas.deployment\nimport numpy as np\n"
        f"with hwnas.deployment.load({str(finished.deployment)!r}) as network:\n"
        "    print(network.predict(np.zeros((8, 8), np.uint8)).class_name, network.manifest.precision)\n"
    )
    done = without(code, here=FAKE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((name, ("{run}",)) for name in ("train", "profile", "run", "search", "export", "predict")),
        ("query", ("{run}", "--predicted", "1")),
        ("query", ("{run}", "--measured")),
        ("devices audit", ("cpu", "--output", "{empty}/audit")),
        ("adapt", ("onnx:net.onnx", "--output", "{empty}/run")),
        ("zoo pack", ("{run}", "{empty}/packed")),
    ],
)
def test_a_command_that_needs_more_names_it_in_one_line(
    finished: FinishedRun, tmp_path: Path, name: str, arguments: tuple[str, ...]
) -> None:
    given = [each.format(run=finished.folder, empty=tmp_path) for each in arguments]
    done = command(*name.split(), *given, here=FAKE)
    assert done.returncode == 2
    assert f"\nerror: hwnas {name} needs the package " in f"\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_where_it_is_needed_is_shown_to_who_looks_for_faults(finished: FinishedRun) -> None:
    said = command("train", finished.folder, "--debug").stderr
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("error: hwnas train needs the package 'torch'")


def test_json_tells_the_missing_package_too(finished: FinishedRun) -> None:
    document = json.loads(command("train", finished.folder, "--json").stdout)
    assert document["error"]["type"] == "MissingPackageError"
    assert "hwnas train needs the package 'torch'" in document["error"]["message"]
    assert document["exit_status"] == 2

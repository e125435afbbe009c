"""Evaluations on a real local Ray cluster of two workers.

All in one process of its own: a cluster takes seconds to start, writes to standard error and leaves threads behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import MissingPackageError
from hwnas.search import InProcess, Problem, RayWorkers, Sampling, search
from tests.once import made_once

from . import made_in_workers
from .problems import SPACE, quality

_SCRIPT = """
import json, sys
from contextlib import closing
from functools import partial

import ray

from hwnas.errors import ConfigError, HwnasError
from hwnas.search import Problem, RayWorkers, Sampling, search
from tests.search import made_in_workers as made
from tests.search.problems import SPACE

folder, out = sys.argv[1:]
found = {}

def find(make):
    said = []
    with closing(RayWorkers(make, count=2)) as executor:
        study = search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=52), executor,
                       sampling=Sampling(sampler="random"), progress=lambda done, total, note: said.append(note))
    return {"encodings": study.encodings.tolist(), "numbers": study.numbers.tolist(), "note": said[-1],
            "failed": {f.architecture["x"]: f.reason for f in study.failed}}

def error_of(make):
    try:
        find(make)
    except Exception as e:
        return [type(e).__name__, str(e), *getattr(e, "__notes__", ())]

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)  # one cluster for all
with closing(RayWorkers(made.good)) as executor:
    found["slots"] = executor.slots
found["good"] = find(made.good)
found["dying"] = find(partial(made.dying, folder, times=2))
found["failing"] = find(made.failing)
found["refusing"] = error_of(made.refusing)
found["buggy"] = error_of(made.buggy)
found["still there"] = ray.is_initialized()
ray.shutdown()
try:
    RayWorkers(made.good, address="127.0.0.1:1")
except ConfigError as e:
    found["nobody"] = str(e)
open(out, "w").write(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'hwnas[ray]'")

    def make(folder: Path) -> None:
        (folder / "deaths").mkdir()
        here = str(Path(__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(folder / "deaths"), str(folder / "found.json")],
            cwd=here,
            env={**os.environ, "PYTHONPATH": here},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr

    values: dict[str, Any] = json.loads((made_once(tmp_path_factory, "ray", make) / "found.json").read_text())
    return values


def test_a_cluster_finds_what_one_process_finds(found: dict[str, Any]) -> None:
    problem = Problem(SPACE, {"accuracy": "maximize"}, n_trials=52)
    alone = search(problem, InProcess(quality), sampling=Sampling(sampler="random"))
    assert found["good"]["encodings"] == alone.encodings.tolist()
    assert not found["good"]["note"]


def test_it_has_as_many_workers_as_the_cluster_has_processors(found: dict[str, Any]) -> None:
    assert found["slots"] == 2


def test_a_worker_that_dies_gives_its_network_to_another(found: dict[str, Any]) -> None:
    assert found["dying"]["numbers"] == list(range(52))
    assert found["dying"]["encodings"] == found["good"]["encodings"]
    assert not found["dying"]["failed"]
    assert found["dying"]["note"] == "2 workers died and gave the network back"


def test_errors_of_ours_travel_and_mark_the_trial(found: dict[str, Any]) -> None:
    assert found["failing"]["failed"]["d"] == "MeasurementError: too hot"


def test_what_keeps_workers_from_being_made_is_raised_here(found: dict[str, Any]) -> None:
    assert found["refusing"][:2] == ["DataError", "there are no images"]


def test_a_bug_in_a_worker_ends_the_search_and_shows_where_it_is(found: dict[str, Any]) -> None:
    kind, _, note = found["buggy"]
    assert kind == "ZeroDivisionError"
    assert "_buggy" in note


def test_a_cluster_that_was_there_before_stays(found: dict[str, Any]) -> None:
    assert found["still there"]


def test_where_there_is_no_cluster_it_is_said_how_to_start_one(found: dict[str, Any]) -> None:
    assert "there is no Ray cluster at '127.0.0.1:1'" in found["nobody"]
    assert "ray start --head" in found["nobody"]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hwnas\[ray\]'"):
        RayWorkers(made_in_workers.good)

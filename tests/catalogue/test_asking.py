"""Budgets of a finished run, on its own device and on others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from hwnas import pipeline
from hwnas._console import Console
from hwnas.catalogue import of_run, open_catalogue
from hwnas.catalogue.asking import measured_text
from hwnas.cli import app
from hwnas.config import Config
from hwnas.errors import StudyError, TableError
from hwnas.pipeline.measuring import MeasuredNetwork
from hwnas.search import load_study
from hwnas.workspace import Workspace
from tests.catalogue.later import profiled_later
from tests.runs import MadeUp, ReadConsole


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_device_that_was_profiled_after_the_search_is_asked_by_its_description(config: Config) -> None:
    later = profiled_later(config, slower=2.0)
    own = json.loads(invoke("query", config.output.folder, "--json").stdout)
    document = json.loads(invoke("query", config.output.folder, "--device", later, "--json").stdout)
    (answer,), (before,) = document["answers"], own["answers"]
    assert document["device"] == "later"
    assert answer["trial"] == before["trial"]
    assert answer["architecture"] == before["architecture"]
    assert answer["values"]["latency_ms"] == pytest.approx(2 * before["values"]["latency_ms"])
    assert document["predicted"] == []


def test_limits_are_those_of_the_device_that_is_asked(config: Config) -> None:
    later = profiled_later(config, slower=2.0)
    fastest = float(load_study(Workspace(config).study).upper["latency_ms"].min())
    limit = f"latency_ms={1.5 * fastest}"
    assert invoke("query", config.output.folder, "--limit", limit).exit_code == 0
    ended = invoke("query", config.output.folder, "--device", later, "--limit", limit)
    assert (ended.exit_code, "latency_ms binds" in ended.stderr) == (3, True)


def test_a_share_of_the_largest_networks_latency_is_a_limit_too(config: Config) -> None:
    largest_ms = of_run.known_device(config, "").costs.largest_ms
    for share in ("latency_fraction=0.8", "latency_fraction>=0.1"):
        in_ms = share.replace("fraction", "ms").replace(share[-3:], repr(float(share[-3:]) * largest_ms))
        by_share, by_time = (
            json.loads(invoke("query", config.output.folder, "--limit", limit, "--json").stdout)
            for limit in (share, in_ms)
        )
        assert by_share["answers"] == by_time["answers"]
        assert by_share["limits"] == by_time["limits"]


def test_a_share_of_a_latency_wants_a_run_and_no_latency_beside_it(config: Config) -> None:
    both = invoke("query", config.output.folder, "--limit", "latency_fraction=0.5", "--limit", "latency_ms=3")
    assert (both.exit_code, "latency_ms or latency_fraction, not both" in both.stderr) == (2, True)
    alone = invoke("query", Workspace(config).study, "--limit", "latency_fraction=0.5")
    assert (alone.exit_code, "name the folder of a run, or give latency_ms" in alone.stderr) == (2, True)


def test_the_own_device_may_be_named(config: Config) -> None:
    named = json.loads(invoke("query", config.output.folder, "--device", "fake", "--json").stdout)
    assert named["answers"] == json.loads(invoke("query", config.output.folder, "--json").stdout)["answers"]


def test_a_device_without_tables_is_told_what_measures_it(config: Config) -> None:
    ended = invoke("query", config.output.folder, "--device", "cpu")
    assert ended.exit_code == 2
    assert f"hwnas profile {config.output.folder} --device cpu" in " ".join(ended.stderr.split())


def test_predicted_networks_are_named_as_such(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_run, "_LEAST", 4)
    ended = invoke("query", config.output.folder, "--predicted", "1", "--limit", "latency_ms=0.5", "--json")
    document = json.loads(ended.stdout)
    assert len(document["answers"]) == 1
    for network in document["predicted"]:
        assert network["standard_errors"]["accuracy"] > 0
        assert network["sources"]["accuracy"].startswith("predicted from 8")
        assert network["architecture"] != document["answers"][0]["architecture"]
    told = invoke("query", config.output.folder, "--predicted", "1").stdout
    assert told.count("not evaluated") == len(document["predicted"])


def test_what_is_named_is_measured_if_asked(config: Config, evaluated: list[object]) -> None:
    ended = invoke("query", config.output.folder, "--measured", "--limit", "latency_ms=0.5", "--json")
    document = json.loads(ended.stdout)
    (answer,), (measured,) = document["answers"], document["measured"]
    # its accuracy is known, and its latency is that of its file
    assert measured["values"]["accuracy"] == answer["values"]["accuracy"]
    assert evaluated == []
    assert measured["values"]["latency_ms"] == pytest.approx(answer["values"]["latency_ms"], rel=0.1)
    assert measured["misses"] == []
    told = measured_text(
        MeasuredNetwork(
            values={"accuracy": 0.912, "latency_ms": 0.5},
            standard_error=0.004,
            n_validation=100,
            source="measured",
            misses=("latency_ms",),
        ),
        "trial 5",
    )
    assert (
        told.replace("\u00a0", " ")
        == "Measured, trial 5: accuracy 91.2 % ± 0.4 points, latency 0.500 ms: misses latency_ms."
    )


def test_predictions_need_the_folder_of_a_run(config: Config) -> None:
    ended = invoke("query", Workspace(config).study, "--predicted", "1")
    assert (ended.exit_code, "not the folder of a run" in ended.stderr) == (2, True)


def test_a_device_that_is_not_of_the_run_is_profiled_for_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Config] = []

    def profile(part: Config, *, console: Console) -> MadeUp:
        asked.append(part)
        return MadeUp()

    monkeypatch.setattr(pipeline, "profile", profile)
    assert invoke("profile", config.output.folder, "--device", "cpu").exit_code == 0
    (part,) = asked
    work = Workspace(part.single)
    assert work.device.name == "cpu"
    assert work.tables == Path(config.output.folder) / "latency_tables" / "cpu"
    # what is written into the run's folder
    assert part.whole.device.name == "fake"


# ---------------------------------------------------------------- the whole catalogue


def test_a_catalogue_has_the_runs_device_and_those_that_are_named(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_run, "_LEAST", 4)
    later = profiled_later(config, slower=2.0)
    catalogue = open_catalogue(config, console=ReadConsole(), devices=[later], n_predicted=200)
    assert list(catalogue) == ["fake", "later"]
    own, there = catalogue["fake"].predicted, catalogue["later"].predicted
    assert own is not None
    assert there is not None
    # one space, one prediction; costs of each device
    np.testing.assert_array_equal(own.encodings, there.encodings)
    np.testing.assert_array_equal(own.values["accuracy"], there.values["accuracy"])
    np.testing.assert_allclose(2 * own.values["latency_ms"], there.values["latency_ms"], rtol=1e-6)
    evaluated = {e.tobytes() for e in catalogue["fake"].evaluated.encodings}
    assert not evaluated & {e.tobytes() for e in own.encodings}


def test_a_device_with_tables_that_nobody_describes_is_left_out_and_told(config: Config) -> None:
    profiled_later(config, name="unheard")
    console = ReadConsole()
    assert list(open_catalogue(config, console=console, n_predicted=0)) == ["fake"]
    assert "unheard is left out: unknown device" in console.said


def test_a_device_that_was_named_and_has_no_tables_is_refused(config: Config) -> None:
    with pytest.raises(TableError, match="cpu is not profiled"):
        open_catalogue(config, console=ReadConsole(), devices=["cpu"], n_predicted=0)


def test_without_tables_or_a_study_there_is_no_catalogue(config: Config) -> None:
    console = ReadConsole()
    Workspace(config).study.unlink()
    with pytest.raises(TableError, match="no device is profiled and searched for"):
        open_catalogue(config, console=console)
    assert "no finished study" in console.said
    with pytest.raises(StudyError):
        of_run.networks_of(config, "fake")


def test_too_few_networks_predict_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_run, "_LEAST", 1000)
    assert open_catalogue(config, console=ReadConsole(), n_predicted=200)["fake"].predicted is None


def test_a_run_of_several_devices_joins_their_searches(config: Config) -> None:
    later, folder = profiled_later(config, slower=2.0), Path(config.output.folder)
    fleet = config.replaced({"device.names": ["fake", later], "device.name": None})
    for name in ("fake", "later"):
        (folder / "search" / name).mkdir()
        shutil.copy(folder / "search" / "study.safetensors", folder / "search" / name)
    n = len(load_study(folder / "search" / "study.safetensors"))
    networks = of_run.networks_of(fleet, "later")
    assert networks.searched_for == ("later", "fake")
    assert len(networks.evaluated) == n
    assert networks.evaluated.numbers.tolist() == list(range(n))

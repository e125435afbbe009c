"""Networks that were evaluated for one device, on another that was profiled afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.errors import StudyError
from hwnas.pipeline.costs import Costs, load_costs
from hwnas.pipeline.evaluated import Evaluated, evaluated_on
from hwnas.precisions import is_quantized
from hwnas.query import query
from hwnas.search import Study, load_study, save_study
from hwnas.testing.fake import FakeRuntime
from hwnas.types import Direction, Option
from hwnas.workspace import Workspace
from tests.catalogue.later import profiled_later
from tests.runs import ReadConsole


def on(config: Config, device: str) -> tuple[Workspace, Costs, Evaluated]:
    work = Workspace(config).on(device)
    costs = load_costs(work)
    return work, costs, evaluated_on(work, costs)


def own_study(config: Config) -> Study:
    return load_study(Workspace(config).study)


def test_a_later_device_has_all_networks_at_its_own_costs(config: Config) -> None:
    own = own_study(config)
    _, _, found = on(config, profiled_later(config, slower=2.0))
    assert (found.devices, found.left_out) == (("fake",), 0)
    assert found.study.numbers.tolist() == own.numbers.tolist()
    assert found.study.encodings.tolist() == own.encodings.tolist()
    np.testing.assert_array_equal(found.study.values["accuracy"], own.values["accuracy"])
    np.testing.assert_array_equal(found.study.standard_errors["accuracy"], own.standard_errors["accuracy"])
    np.testing.assert_allclose(found.study.values["latency_ms"], 2 * own.values["latency_ms"], rtol=1e-6)
    assert found.study.sources["accuracy"] == own.sources["accuracy"]


def test_the_own_device_costs_what_its_study_says(config: Config) -> None:
    own = own_study(config)
    _, _, found = on(config, "fake")
    for metric in own.values:
        np.testing.assert_array_equal(found.study.values[metric], own.values[metric])
        if metric in own.upper:
            np.testing.assert_array_equal(found.study.upper[metric], own.upper[metric])
    limits = {"latency_ms": float(np.median(own.upper["latency_ms"]))}
    assert query(found.study, limits=limits)[0].number == query(own, limits=limits)[0].number


def has_int8(architecture: Mapping[str, Option]) -> bool:
    return any(is_quantized(str(v)) for k, v in architecture.items() if k.endswith(".precision"))


def test_a_device_that_computes_in_floats_alone_has_the_float_networks(config: Config) -> None:
    own = own_study(config)
    work, _, found = on(config, profiled_later(config, precisions=["fp32"]))
    floats = [t for t in own.trials if not has_int8(t.architecture)]
    assert 0 < len(floats) < len(own)
    assert found.study.numbers.tolist() == [t.number for t in floats]
    assert found.left_out == len(own) - len(floats)
    assert work.space.precisions == ("fp32",)
    for row, trial in enumerate(floats):
        there = found.study.architecture_at(row)
        assert there == {k: v for k, v in trial.architecture.items() if k in there}


def test_where_integers_are_quantized_otherwise_only_float_networks_are_as_accurate(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = profiled_later(config)
    symmetric = type("Symmetric", (FakeRuntime,), {"quantization": "symmetric"})
    work = Workspace(config).on(later)
    monkeypatch.setitem(work.__dict__, "runtime", symmetric())
    found = evaluated_on(work, load_costs(work))
    assert not any(has_int8(t.architecture) for t in found.study.trials)
    assert 0 < len(found.study) == len(own_study(config)) - found.left_out


def test_without_a_study_the_command_that_makes_one_is_named(config: Config) -> None:
    Workspace(config).study.unlink()
    with pytest.raises(StudyError, match=r"no finished study.*`hwnas search"):
        on(config, "fake")


def test_a_study_of_another_space_is_refused(config: Config) -> None:
    study, path = own_study(config), Workspace(config).study
    renamed = tuple(
        dataclasses.replace(c, name=f"{c.name}x", parent=c.parent and f"{c.parent}x") for c in study.choices
    )
    save_study(dataclasses.replace(study, choices=renamed), path)
    with pytest.raises(StudyError, match=r"not of the space.*`hwnas search`"):
        on(config, "fake")


def test_a_study_of_other_labels_is_refused(config: Config) -> None:
    study, path = own_study(config), Workspace(config).study
    values, errors = dict(study.values), dict(study.standard_errors)
    values["agreement"], errors["agreement"] = values.pop("accuracy"), errors.pop("accuracy")
    directions = {"agreement": Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE}
    sources = {"agreement": study.sources["accuracy"]}
    save_study(
        dataclasses.replace(study, values=values, standard_errors=errors, directions=directions, sources=sources), path
    )
    told = r"knows agreement with the given network .* labels is 'source', asks for accuracy; .*`hwnas search"
    with pytest.raises(StudyError, match=told):
        on(config, "fake")
    with pytest.raises(StudyError, match=told):
        pipeline.export(config, console=ReadConsole())


def test_what_no_device_changes_is_loaded_once(config: Config) -> None:
    work = Workspace(config)
    there = work.on(profiled_later(config))
    assert "data" not in there.__dict__
    space = work.training_space
    assert work.on(there.config.device.all[0]).training_space is space
    assert Path(there.folder) == work.folder

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from hwnas.allowed import Between
from hwnas.errors import MeasurementError, StudyError
from hwnas.integrity import open_tensors
from hwnas.search import Problem, Study, load_study, save_study, search
from hwnas.types import Option

from .problems import SPACE, Bounded, quality


@pytest.fixture(scope="module")
def study() -> Study:
    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        if architecture["y"] == 2:
            raise MeasurementError("refused")
        return {**quality(architecture), **({"extra": 1.5} if architecture["y"] == 3 else {})}

    return search(
        Problem(
            SPACE,
            {"accuracy": "maximize", "cost": "minimize"},
            n_trials=60,
            limits={"cost": 6.0},
            closed_form={"cost": Bounded(SPACE)},
        ),
        evaluate,
    )


def test_a_study_comes_back_as_it_was(study: Study, tmp_path: Path) -> None:
    save_study(study, tmp_path / "study.safetensors")
    loaded = load_study(tmp_path / "study.safetensors")
    for a, b in zip(study.trials, loaded.trials, strict=True):
        assert (a.number, a.architecture, a.values, a.upper, a.feasible) == (
            b.number,
            b.architecture,
            b.values,
            b.upper,
            b.feasible,
        )
    for field in ("name", "space_name", "choices", "directions", "limits", "sources", "failed", "note", "provenance"):
        assert getattr(study, field) == getattr(loaded, field), field
    assert study.failed
    assert study.note
    assert study.provenance


def test_a_file_from_before_provenance_was_kept_has_none(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "study.safetensors"
    save_study(study, path)
    with safe_open(path, framework="numpy") as f:
        header = json.loads(f.metadata()["hwnas_study"])
        columns = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - not a dict
    del header["provenance"]
    header["schema"] = 1  # without a checksum, which would no longer be right
    save_file(columns, path, metadata={"hwnas_study": json.dumps(header)})
    assert load_study(path).provenance == {}


def test_limits_from_both_sides_come_back(study: Study, tmp_path: Path) -> None:
    limits = {"cost": Between(at_least=1.0, at_most=6.0), "accuracy": 0.5}
    save_study(dataclasses.replace(study, limits=limits), tmp_path / "study.safetensors")
    assert load_study(tmp_path / "study.safetensors").limits == limits


def test_standard_errors_come_back_and_a_file_from_before_they_were_kept_has_none(study: Study, tmp_path: Path) -> None:
    errors = {"accuracy": np.linspace(0.01, 0.02, len(study))}
    path = tmp_path / "study.safetensors"
    save_study(dataclasses.replace(study, standard_errors=errors), path)
    assert load_study(path).standard_errors["accuracy"].tolist() == errors["accuracy"].tolist()
    save_study(study, path)
    assert load_study(path).standard_errors == {}
    with safe_open(path, framework="numpy") as f:
        header = json.loads(f.metadata()["hwnas_study"])
        columns = {k: f.get_tensor(k) for k in f.keys() if k != "standard_errors"}  # noqa: SIM118 - not a dict
    del header["measured"]
    header["schema"] = 1  # that had no checksum either
    save_file(columns, path, metadata={"hwnas_study": json.dumps(header)})
    assert load_study(path).standard_errors == {}


def test_a_metric_that_some_trials_lack_is_left_out_of_their_values(study: Study) -> None:
    assert {("extra" in t.values) == (t.architecture["y"] == 3) for t in study.trials} == {True}


def test_an_empty_study_can_be_saved(study: Study, tmp_path: Path) -> None:
    empty = Study(
        name="e",
        space_name="xyz",
        choices=SPACE.choices,
        directions=study.directions,
        limits={},
        numbers=np.zeros(0, dtype=np.int64),
        encodings=np.zeros((0, 3), dtype=np.int64),
        values={m: np.zeros(0) for m in study.directions},
        feasible=np.zeros(0, dtype=bool),
    )
    save_study(empty, tmp_path / "e.safetensors")
    assert load_study(tmp_path / "e.safetensors").trials == ()
    with pytest.raises(StudyError, match="no finished trial"):
        empty.best("accuracy")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_at_any_byte_is_refused_by_name(study: Study, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cut.safetensors"
    save_study(study, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(StudyError, match=r"cut\.safetensors"):
        load_study(path)


def test_no_changed_byte_is_read_as_another_study(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "flipped.safetensors"
    save_study(study, path)
    whole = path.read_bytes()
    for i in range(0, len(whole), max(1, len(whole) // 300)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :])
        with pytest.raises(StudyError, match=r"flipped\.safetensors.*hwnas search"):
            load_study(path)


def test_a_study_without_a_checksum_is_read(study: Study, tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    path = tmp_path / "s.safetensors"
    save_study(study, path)
    sealed = load_study(path)
    header = json.loads(open_tensors(path.read_bytes())["hwnas_study"])
    columns = load(path.read_bytes())
    path.write_bytes(save(columns, metadata={"hwnas_study": json.dumps({**header, "schema": 1})}))
    assert repr(load_study(path)) == repr(sealed)
    path.write_bytes(save(columns, metadata={"hwnas_study": json.dumps(header)}))
    with pytest.raises(StudyError, match="checksum"):
        load_study(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(StudyError, match="no study file"):
        load_study(tmp_path / "absent")
    save_file({"a": np.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(StudyError, match="not a study"):
        load_study(tmp_path / "weights.safetensors")
    save_file({"a": np.zeros(3)}, tmp_path / "newer.safetensors", metadata={"hwnas_study": '{"schema": 99}'})
    with pytest.raises(StudyError, match="schema 99"):
        load_study(tmp_path / "newer.safetensors")


def test_a_study_is_opened_and_asked_without_optuna_or_torch(study: Study, tmp_path: Path) -> None:
    save_study(study, tmp_path / "s.safetensors")
    program = (
        "import sys; from hwnas.query import query; import hwnas.search\n"
        f"query({str(tmp_path / 's.safetensors')!r}, limits={{'cost': 5}})\n"
        "print([m for m in ('optuna', 'torch', 'onnxruntime', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

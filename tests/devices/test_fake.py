"""The simulated device: known costs, a virtual clock, exact outputs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import compose

from hwnas.errors import ConfigError
from hwnas.measure.artefacts import artefact_from_file
from hwnas.testing.fake import OPTIONS, FakeRuntime, fake_device
from hwnas.testing.simulation import simulated_cost_ns, simulated_costs
from hwnas.types import Artefact, Option
from tests.measure.onnx_models import write_model

STILL: dict[str, Option] = {"noise": 0.0, "drift": 0.0}


def times(artefact: Artefact, options: dict[str, Option], n: int = 20) -> list[int]:
    with FakeRuntime().load(artefact, fake_device(options=options)) as session:
        return [session.time_ns(iterations=10) for _ in range(n)]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_network_costs_what_its_blocks_cost_but_for_one_call(tmp_path: Path, precision: str) -> None:
    second = write_model(tmp_path / "b.onnx", precision=precision, size=2)
    first = write_model(tmp_path / "a.onnx", precision=precision, size=1)
    one, two = onnx.load(str(first.path)), onnx.load(str(second.path))
    two.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8  # fits what the first gives
    for tensor in two.graph.initializer:
        if tensor.name == "w0":
            wide = np.repeat(onnx.numpy_helper.to_array(tensor)[:, :1], 8, axis=1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, "w0"))
    onnx.save(two, str(second.path))
    both = compose.merge_models(compose.add_prefix(one, "a/"), compose.add_prefix(two, "b/"), io_map=[("a/y", "b/x")])
    onnx.save(both, str(tmp_path / "both.onnx"))
    empty_call = 4000.0
    parts = simulated_cost_ns(first.path) + simulated_cost_ns(second.path)
    assert simulated_cost_ns(tmp_path / "both.onnx") == pytest.approx(parts - empty_call)


def test_int8_is_cheaper_where_it_multiplies(tmp_path: Path) -> None:
    # Both with quantized tensors in and out, so that only the multiplications differ.
    int8 = write_model(tmp_path / "i.onnx", precision="int8", size=4)
    fp32 = write_model(tmp_path / "f.onnx", precision="fp32", size=4)
    assert simulated_cost_ns(int8.path) < 0.8 * simulated_cost_ns(fp32.path)


def test_without_noise_and_drift_time_is_cost_times_iterations(tmp_path: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    assert set(times(artefact, STILL)) == {round(10 * simulated_cost_ns(artefact.path))}


def test_a_faster_processor_takes_less_time(tmp_path: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    assert times(artefact, {**STILL, "speed": 2.0})[0] == pytest.approx(times(artefact, STILL)[0] / 2, abs=1)


def test_the_same_seed_gives_the_same_times_and_another_seed_others(tmp_path: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    assert times(artefact, {"seed": 1}) == times(artefact, {"seed": 1}) != times(artefact, {"seed": 2})


def test_noise_has_the_size_asked_for(tmp_path: Path) -> None:
    samples = np.log(times(write_model(tmp_path / "m.onnx"), {"noise": 0.05, "drift": 0.0}, n=2000))
    assert np.std(samples) == pytest.approx(0.05, rel=0.1)


def test_drift_reaches_its_size_and_is_slow(tmp_path: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    samples = np.array(times(artefact, {"noise": 0.0, "drift": 0.5, "drift_period_s": 0.1}, n=4000), float)
    assert samples.max() / samples.min() == pytest.approx(1.5, rel=0.01)
    assert np.max(np.abs(np.diff(samples)) / samples[1:]) < 0.05


def test_the_slow_phase_slows_what_is_no_multiplication_most(tmp_path: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    costs = simulated_costs(artefact.path)
    samples = np.array(times(artefact, {**STILL, "slow_share": 0.25, "slow_period_s": 0.01}, n=4000), float)
    fast = 10 * (costs.multiplying_ns + costs.other_ns)
    slow = 10 * (1.5 * costs.multiplying_ns + 2.0 * costs.other_ns)
    assert {round(fast), round(slow)} == set(samples)
    assert samples[samples > fast + 1].sum() / samples.sum() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("changes", [{"slow_share": 1.5}, {"slow_other": 0.0}, {"slow_period_s": 0.0}])
def test_phases_that_cannot_be_are_refused(changes: dict[str, Option]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        fake_device(options=changes)


def test_the_hardware_it_claims_can_be_chosen(tmp_path: Path) -> None:
    assert FakeRuntime().context(fake_device(options={"hardware": "abacus"}))["hardware"] == "abacus"


def test_an_unknown_option_or_fault_is_named_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'colour'.*crash_on"):
        fake_device(options={"colour": "red"})
    with pytest.raises(ConfigError, match=r"'never'.*load, run, timing"):
        fake_device(options={"fault_at": "never"})
    assert fake_device(options=OPTIONS).options == OPTIONS


def test_a_file_that_is_no_model_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing of the kind")
    artefact = artefact_from_file(tmp_path / "x.onnx", format="onnx", precision="fp32")
    with pytest.raises(ValueError, match=r"x\.onnx"):
        simulated_cost_ns(artefact.path)

"""Names and options of ONNX Runtime's execution providers, and what they leave to the CPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwnas.devices._onnx_providers import check_available, check_placement, full_name, placement, provider_of
from hwnas.errors import ConfigError, MeasurementError, UnknownNameError
from hwnas.types import Device

PATH = Path("m.onnx")


def _provider(name: str, *, threads: int = 1, **options: str | int | bool) -> Any:
    given = {key.replace("__", "."): value for key, value in options.items()}
    return provider_of(Device(name="d", runtime="onnxruntime", threads=threads, options={"provider": name, **given}))


class _Session:
    """Stands in for a session: the providers it has, and (provider, operator, name) of its nodes."""

    def __init__(self, providers: list[str], nodes: list[tuple[str, str, str]]) -> None:
        self._providers, self._nodes = providers, nodes

    def get_providers(self) -> list[str]:
        return self._providers

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(ep_name=ran_by, get_nodes=lambda op=op, name=name: [SimpleNamespace(op_type=op, name=name)])
            for ran_by, op, name in self._nodes
        ]


def _cuda(*nodes: tuple[str, str, str]) -> Any:
    return _Session(["CUDAExecutionProvider", "CPUExecutionProvider"], list(nodes))


ON_GPU = ("CUDAExecutionProvider", "Conv", "conv0")
ON_CPU = ("CPUExecutionProvider", "HardSwish", "act0")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("CPU", "CPUExecutionProvider"),
        ("cuda", "CUDAExecutionProvider"),
        ("TensorRT", "TensorrtExecutionProvider"),
        ("tensorrt-rtx", "NvTensorRTRTXExecutionProvider"),
        ("NvTensorRTRTX", "NvTensorRTRTXExecutionProvider"),
        ("OpenVINO", "OpenVINOExecutionProvider"),
        ("XNNPACK", "XnnpackExecutionProvider"),
        ("CoreML", "CoreMLExecutionProvider"),
        ("DirectML", "DmlExecutionProvider"),
        ("dml", "DmlExecutionProvider"),
        ("QNN", "QNNExecutionProvider"),
        ("ACL", "ACLExecutionProvider"),
        ("ROCm", "ROCMExecutionProvider"),
        ("MIGraphX", "MIGraphXExecutionProvider"),
        ("CUDAExecutionProvider", "CUDAExecutionProvider"),
        ("MyOwnExecutionProvider", "MyOwnExecutionProvider"),
    ],
)
def test_providers_go_by_short_and_by_full_names(said: str, name: str) -> None:
    assert full_name(said) == name


def test_a_name_that_is_not_known_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown execution provider 'cudda'; known: acl, .*cuda.*xnnpack"):
        full_name("cudda")


def test_options_of_the_provider_are_passed_on_as_text() -> None:
    provider = _provider("CUDA", provider__device_id=1, provider__enable_cuda_graph=True)
    assert provider.given == {"device_id": "1", "enable_cuda_graph": "True"}
    assert provider.device_id == 1


def test_what_a_description_says_goes_before_a_default() -> None:
    assert _provider("CUDA").options == {"use_tf32": "0"}
    assert _provider("CUDA", provider__use_tf32=1).options == {"use_tf32": "1"}


def test_providers_with_threads_of_their_own_take_the_devices() -> None:
    assert _provider("XNNPACK", threads=3).options["intra_op_num_threads"] == "3"
    assert _provider("XNNPACK", threads=3).threads == 1
    assert _provider("OpenVINO", threads=3).options["num_of_threads"] == "3"
    assert _provider("CPU", threads=3).threads == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devise_id": 1}, r"unknown option 'devise_id'.*provider, allow_cpu_fallback, and as provider\.<option>"),
        ({"provider__": 1}, r"unknown option 'provider\.'"),
        ({"allow_cpu_fallback": "yes"}, r"allow_cpu_fallback is 'yes'; allowed: true or false"),
        ({"provider__device_id": "first"}, r"provider\.device_id is 'first'; allowed: a number"),
    ],
)
def test_wrong_options_are_refused_and_the_allowed_named(options: dict[str, str | int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _provider("CUDA", **options)


def test_a_provider_of_another_build_is_refused_and_its_package_named() -> None:
    with pytest.raises(
        MeasurementError, match=r"available: CPUExecutionProvider; the package onnxruntime-gpu brings it"
    ):
        check_available(_provider("CUDA"), ["CPUExecutionProvider"])
    with pytest.raises(MeasurementError, match="must be built with it"):
        check_available(_provider("ACL"), ["CPUExecutionProvider"])


def test_a_provider_that_could_not_start_is_refused_whatever_is_allowed() -> None:
    session: Any = _Session(["CPUExecutionProvider"], [ON_CPU])
    with pytest.raises(MeasurementError, match=r"could not start it and runs on CPUExecutionProvider"):
        check_placement(session, _provider("CUDA", allow_cpu_fallback=True), PATH)


def test_operators_left_to_the_cpu_are_named_with_the_way_to_allow_them() -> None:
    with pytest.raises(MeasurementError, match=r"runs 1 of 2 .*: act0 \(HardSwish\); set allow_cpu_fallback = true"):
        check_placement(_cuda(ON_GPU, ON_CPU), _provider("CUDA"), PATH)


def test_of_many_operators_left_to_the_cpu_a_few_are_named() -> None:
    many = [("CPUExecutionProvider", "HardSwish", f"act{i}") for i in range(20)]
    with pytest.raises(MeasurementError, match=r"runs 20 of 21 .*act7 \(HardSwish\) and 12 more;"):
        check_placement(_cuda(ON_GPU, *many), _provider("CUDA"), PATH)


def test_operators_left_to_the_cpu_may_be_allowed_and_are_told() -> None:
    provider = _provider("CUDA", allow_cpu_fallback=True)
    check_placement(_cuda(ON_GPU, ON_CPU), provider, PATH)
    told = placement(_cuda(ON_GPU, ON_CPU), provider)
    assert told["left_to_others"] == "HardSwish 1"
    assert told["nodes_by_provider"] == "CPUExecutionProvider 1, CUDAExecutionProvider 1"


def test_movement_of_data_may_stay_on_the_cpu_and_is_told() -> None:
    moved = ("CPUExecutionProvider", "Transpose", "enter")
    check_placement(_cuda(ON_GPU, moved), _provider("CUDA"), PATH)
    assert placement(_cuda(ON_GPU, moved), _provider("CUDA"))["left_to_others"] == "Transpose 1"


def test_a_model_of_which_a_provider_takes_nothing_is_refused_even_if_it_only_moves_data() -> None:
    with pytest.raises(MeasurementError, match=r"runs 1 of 1 .*enter \(Transpose\)"):
        check_placement(_cuda(("CPUExecutionProvider", "Transpose", "enter")), _provider("CUDA"), PATH)


def test_a_model_that_runs_whole_on_its_provider_is_accepted() -> None:
    check_placement(_cuda(ON_GPU), _provider("CUDA"), PATH)
    assert placement(_cuda(ON_GPU), _provider("CUDA"))["left_to_others"] == "none"


def test_a_version_that_does_not_tell_what_runs_where_is_refused_for_other_providers_than_the_cpu() -> None:
    silent: Any = SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider"])
    with pytest.raises(MeasurementError, match="does not tell"):
        check_placement(silent, _provider("CUDA"), PATH)
    on_cpu: Any = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    check_placement(on_cpu, _provider("CPU"), PATH)

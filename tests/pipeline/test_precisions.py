"""A device that computes floats in half and int8 with weights of 7 bits: both by their own names, from end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.cost.table import LatencyTable
from hwnas.deployment import Manifest
from hwnas.errors import TableContextError
from hwnas.pipeline.costs import MIXED, load_costs, table_path
from hwnas.pipeline.verifying import verify
from hwnas.testing.run import describe_fake_device, tiny_config
from hwnas.types import Block
from hwnas.workspace import Workspace
from tests.runs import FinishedRun, ReadConsole

OTHERS = {"float_type": "fp16", "vnni": False}


@pytest.fixture(scope="module")
def other(finished: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str]:
    """A run for such a device with the finished run's supernet, and what it said."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(finished.folder, folder / "run", ignore=shutil.ignore_patterns("latency_tables", "deployments"))
    device = describe_fake_device(folder, OTHERS, name="other")
    config = tiny_config(folder / "run", {"device.name": device})
    console = ReadConsole()
    for stage in (pipeline.profile, pipeline.search, pipeline.export):
        stage(config, console=console)
    return config, console.said


def deployed(config: Config) -> Manifest:
    (folder,) = (Path(config.output.folder) / "deployments").iterdir()
    return Manifest.read(folder)


def test_tables_have_the_precisions_that_are_computed(other: tuple[Config, str]) -> None:
    work = Workspace(other[0])
    names = {p.name for p in work.tables.glob("*.jsonl")}
    assert names == {f"fake-{p}.jsonl" for p in ("fp16", "int8-w7", MIXED)}
    for name in ("fp16", "int8-w7"):
        table = LatencyTable.open(table_path(work, name))
        assert table.context.precision == name
        assert {Block.from_key(key).precision for key in table.entries} == {name}


def test_blocks_models_and_manifest_say_what_is_computed(other: tuple[Config, str]) -> None:
    work, manifest = Workspace(other[0]), deployed(other[0])
    assert work.space.precisions == ("int8-w7", "fp16")
    assert work.widest_precision == "fp16"
    assert {b.precision for b in load_costs(work).blocks.blocks} == {"int8-w7", "fp16"}
    assert manifest.precision in ("fp16", "int8-w7")
    assert {Block.from_key(key).precision for key in manifest.blocks} <= {"fp16", "int8-w7"}
    assert manifest.precision_speedup is None or manifest.precision_speedup.against == "fp16"


def test_each_substitution_is_told_in_a_line_with_its_reason(other: tuple[Config, str]) -> None:
    lines = [line for line in other[1].splitlines() if "other computes in" in line]
    assert any("fp16: floats of half precision" in line for line in lines)
    assert any("int8-w7: int8 with weights of 7 bits: this processor has neither AVX512-VNNI" in line for line in lines)


def test_no_quantized_weight_of_the_deployment_has_8_bits(other: tuple[Config, str]) -> None:
    import onnx

    (folder,) = (Path(other[0].output.folder) / "deployments").iterdir()
    tensors = [onnx.numpy_helper.to_array(t) for t in onnx.load(folder / "model.onnx").graph.initializer]
    weights = [abs(t.astype(int)).max() for t in tensors if t.dtype == "int8" and t.ndim > 1]
    assert all(largest <= 63 for largest in weights)
    assert bool(weights) is (deployed(other[0]).precision == "int8-w7")


def test_devices_share_accuracies_of_floats_and_have_their_own_of_integers(
    other: tuple[Config, str],
) -> None:
    (path,) = (Path(other[0].output.folder) / "search").glob("accuracies-*.jsonl")
    architectures = [json.loads(line)["architecture"] for line in path.read_text().splitlines()[1:]]
    used = {v for a in architectures for k, v in a.items() if k.endswith(".precision")}
    assert used == {"fp32", "int8", "int8-w7"}


def test_the_deployment_is_verified(other: tuple[Config, str]) -> None:
    (folder,) = (Path(other[0].output.folder) / "deployments").iterdir()
    assert verify(folder, console=ReadConsole()).top1_agreement >= 0.995


# ---------------------------------------------------------------- what does not fit


def test_tables_that_call_the_two_by_one_name_are_refused(config: Config, tmp_path: Path) -> None:
    """As earlier versions wrote them; the files stay."""
    device = describe_fake_device(tmp_path, OTHERS)
    renamed = config.replaced({"device.name": device})
    with pytest.raises(TableContextError, match=r"precision: table has 'fp32', here it is 'fp16'.*hwnas profile"):
        load_costs(Workspace(renamed))
    assert table_path(Workspace(renamed), "fp32").exists()


def test_a_processor_that_computes_in_another_precision_than_the_tables_is_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwnas.testing import fake

    def substitutes(self: object, device: object, context: dict[str, str]) -> dict[str, str]:
        return {"int8": "int8-w7"} if "runtime_version" in context else {}

    monkeypatch.setattr(fake.FakeRuntime, "substitutes", substitutes)
    with pytest.raises(TableContextError, match=r"table has 'fp32, int8', here it is 'fp32, int8-w7'"):
        pipeline.export(config, console=ReadConsole())
    assert table_path(Workspace(config), "int8").exists()


def test_a_deployment_of_an_earlier_version_is_verified_as_what_it_computes(config: Config) -> None:
    """It called half precision fp32, which would be held to torch's outputs in single."""
    from hwnas.pipeline.verifying import _precision
    from hwnas.testing.fake import FakeRuntime

    manifest = deployed(config)
    device = manifest.device.model_copy(update={"options": {"float_type": "fp16"}})
    old = manifest.model_copy(update={"precision": "fp32", "device": device})
    assert _precision(old, FakeRuntime()) == "fp16"
    assert _precision(old.model_copy(update={"precision": "int8"}), FakeRuntime()) == "int8"

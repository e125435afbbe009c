"""A network from an ONNX file, from the file to a verified one, on the fake device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hwnas import pipeline
from hwnas.config import Config
from hwnas.deployment import Manifest
from hwnas.errors import ConfigError, ModelError
from hwnas.supernet.importing import load_onnx
from hwnas.supernet.importing.rules import RULES
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.pipeline.test_adapting import NET
from tests.runs import ReadConsole
from tests.supernet.onnx_models import normal, written


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network whose normalisations are folded into its convolutions, as torch exports it."""
    names: dict[str, object] = {}
    exec(compile(NET, "nets.py", "exec"), names)
    make = names["make"]
    assert callable(make)
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    torch.onnx.export(make(), (torch.randn(1, 1, 16, 16),), str(path), dynamo=False)
    return path


@pytest.fixture
def folder(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.onnx").write_bytes(exported.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_file(folder: Path, **changes: object) -> Config:
    asked = {"model.source": "onnx:small.onnx", "space.preset": None}
    return tiny_config(folder / "run").replaced({**asked, **{k.replace("__", "."): v for k, v in changes.items()}})


def test_what_is_elastic_has_the_names_of_the_modules_it_was_exported_from(folder: Path) -> None:
    result = pipeline.adapt(of_file(folder), console=ReadConsole(), with_images=False)
    assert result.name == "small"
    assert result.slots == ("stem", "layer1.0", "layer1.1", "head")
    assert {"layer1.depth", "layer1.0.conv1.width"} <= result.choices.keys()
    assert ("head",) in [f.modules for f in result.fixed]


def test_a_file_goes_the_whole_way_to_a_verified_one_and_is_not_needed_later(folder: Path) -> None:
    config = of_file(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    (folder / "small.onnx").unlink()
    result = pipeline.run_all(config, console=ReadConsole())
    assert Manifest.read(result.deployment).accuracy.n_test > 0
    assert pipeline.verify(result.deployment, console=ReadConsole()).exit_status == 0


def test_the_largest_network_computes_what_the_file_does(folder: Path) -> None:
    config = of_file(folder, train__steps=0)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    work = Workspace(config)
    space = work.training_space
    found = work.supernet.extract(space.named_blocks(space.largest()))
    given = load_onnx("small.onnx", tell=lambda _: None)
    x = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(found(x), given(x), rtol=1e-5, atol=1e-5)


def test_another_file_is_refused_until_it_is_adapted_again(folder: Path) -> None:
    config = of_file(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    model = onnx.load("small.onnx")
    model.producer_name = "another"
    onnx.save_model(model, "small.onnx")
    with pytest.raises(ConfigError, match=r"onnx:small.onnx is another file than when the network"):
        _ = Workspace(config).training_space
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    assert Workspace(config).training_space.count() > 1


def test_tensors_beside_the_file_are_part_of_it(folder: Path) -> None:
    onnx.save_model(onnx.load("small.onnx"), "small.onnx", save_as_external_data=True, location="d", size_threshold=0)
    config = of_file(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    (folder / "d").write_bytes((folder / "d").read_bytes()[::-1])
    with pytest.raises(ConfigError, match="is another file than when"):
        _ = Workspace(config).training_space


def test_what_does_not_compute_as_the_file_does_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "Relu", lambda c: c.x.abs())
    with pytest.raises(ModelError, match=r"its output .* is off by .* from ONNX Runtime's"):
        pipeline.adapt(of_file(folder), console=ReadConsole(), with_images=False)
    assert not (folder / "run").exists()


def test_a_file_that_runs_on_one_sample_alone_is_refused(folder: Path) -> None:
    body = "r = Reshape(x, rows)\n a = Gemm(r, w, each)\n s = Reshape(a, row)\n y = MatMul(s, head)"
    weights = {"w": normal(8, 16), "each": normal(5, 16), "head": normal(80, 10)}
    shapes = {"rows": np.array([5, 8]), "row": np.array([1, 80])}
    written(folder / "small.onnx", body, given="float[1, 5, 8] x", **weights, **shapes)
    with pytest.raises(ModelError, match=r"is written for one sample, .*\. Export it with an open batch axis"):
        pipeline.adapt(of_file(folder), console=ReadConsole(), with_images=False)


def test_what_is_said_of_images_is_held_to_the_files_input(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"elastic.resolutions ends with 24, and the input is 1x16x16"):
        pipeline.adapt(of_file(folder, model__elastic__resolutions=[16, 24]), console=ReadConsole())


def test_what_has_a_single_position_is_not_told_as_fixed(folder: Path) -> None:
    body = (
        "e = MatMul(x, w)\n t = Concat<axis=1>(token, e)\n h = MatMul(t, v)\n r = Relu(h)\n b = MatMul(r, u)\n"
        "s = Add(t, b)\n m = ReduceMean<axes=[1], keepdims=0>(s)\n y = MatMul(m, head)"
    )
    weights = {"token": normal(1, 1, 16), "w": normal(8, 16), "v": normal(16, 32), "u": normal(32, 16)}
    written(folder / "small.onnx", body, given="float[1, 5, 8] x", opset=17, head=normal(16, 10), **weights)
    result = pipeline.adapt(of_file(folder), console=ReadConsole(), with_images=False)
    assert all(f.reason for f in result.fixed)


def test_a_file_with_channels_last_and_probabilities_is_compared_as_it_is(folder: Path) -> None:
    body = (
        "t = Transpose<perm=[0,3,1,2]>(x)\n c = Conv<pads=[1,1,1,1]>(t, w)\n r = Relu(c)\n d = Conv(r, v)\n"
        "g = GlobalAveragePool(d)\n f = Flatten(g)\n y = Softmax(f)"
    )
    weights = {"w": normal(16, 1, 3, 3), "v": normal(10, 16, 3, 3)}
    written(folder / "small.onnx", body, given="float[N, 16, 16, 1] x", **weights)
    console = ReadConsole()
    result = pipeline.adapt(of_file(folder), console=console, with_images=False)
    assert result.networks > 1
    assert "taken without" in console.said

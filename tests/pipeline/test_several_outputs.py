"""Networks of several outputs, from their function to a verified file and what it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas import deployment as deployments
from hwnas import pipeline
from hwnas.config import Config
from hwnas.deployment import Manifest, NamedOutputs, Samples
from hwnas.errors import ConfigError, GraphError, SpaceError
from hwnas.pipeline.parity import compare_outputs
from hwnas.row_parts import RowPart
from hwnas.testing.run import tiny_config
from tests.runs import ReadConsole

NETWORKS = '''
import torch
from torch import nn
from torch.nn import functional as F

def conv(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())

class Pyramid(nn.Module):
    """What is seen small, enlarged and added to what is seen large."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = conv(1, 8), conv(8, 8, 2), conv(8, 16, 2)
        self.c, self.lateral = conv(16, 16, 2), nn.ModuleList(nn.Conv2d(n, 8, 1) for n in (8, 16, 16))
        self.smooth = nn.ModuleList(nn.Conv2d(8, 4, 3, padding=1) for _ in range(3))

    def forward(self, x):
        a = self.a(self.stem(x))
        b = self.b(a)
        rows = [lateral(y) for lateral, y in zip(self.lateral, (a, b, self.c(b)))]
        for i in (1, 0):
            rows[i] = rows[i] + F.interpolate(rows[i + 1], scale_factor=2.0, mode="nearest")
        return {f"p{i}": smooth(y) for i, (smooth, y) in enumerate(zip(self.smooth, rows))}

class Heads(nn.Module):
    """Classes, and numbers of another unit."""

    def __init__(self):
        super().__init__()
        self.stem, self.body = conv(1, 8, 2), conv(8, 16, 2)
        self.classes, self.numbers = nn.Linear(16, 10), nn.Linear(16, 2)

    def forward(self, x):
        y = self.body(self.stem(x)).mean((2, 3))
        return self.classes(y), 100 * self.numbers(y)

class MoreWhileTraining(Heads):
    def forward(self, x):
        first, second = super().forward(x)
        return (first, second, first + 1) if self.training else (first, second)

class FewerWhileTraining(Heads):
    def forward(self, x):
        found = super().forward(x)
        return found[0] if self.training else found

class Twice(Heads):
    def forward(self, x):
        first, _ = super().forward(x)
        return first, first

def made(kind):
    torch.manual_seed(0)
    return kind().eval()

def pyramid(): return made(Pyramid)
def heads(): return made(Heads)
def more(): return made(MoreWhileTraining)
def fewer(): return made(FewerWhileTraining)
def twice(): return made(Twice)
'''
TASK = '''
from hwnas.tasks.classification import Classification

class OfTwo(Classification):
    """Learns the labels by the first output, and nothing by the second."""

    name, metric, takes_several = "of_two", "score", True

    def fits(self, shape, *, n_outputs):
        return n_outputs in (None, self.parts[0].shape[0] if self.parts else n_outputs)

    def loss(self, outputs, targets, *, label_smoothing=0.0):
        return super().loss(self.split(outputs)["output_0"], targets, label_smoothing=label_smoothing)

    def distill(self, outputs, teacher):
        classes, taught = self.split(outputs)["output_0"], self.split(teacher)["output_0"]
        return super().distill(classes, taught)

    def statistics(self, outputs, targets):
        return super().statistics(self.split(outputs)["output_0"], targets)

    def measures(self, means):
        return {"score": means[..., 0]}

def make():
    return OfTwo()
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "several.py").write_text(NETWORKS)
    (tmp_path / "of_two.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(folder: Path, kind: str, **changes: object) -> Config:
    own = {"model.source": f"python:several:{kind}", "model.input": [1, 16, 16], "space.preset": None}
    taught = {"data.labels": "network", "task.name": "outputs"}
    given = {k.replace("__", "."): v for k, v in changes.items()}
    return tiny_config(folder / "run").replaced({**own, **taught, **given})


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_pyramid_goes_the_whole_way_to_outputs_by_their_names(folder: Path, precision: str) -> None:
    config = asked(folder, "pyramid", space__precisions=[precision], limits__latency_fraction=1.2)
    console = ReadConsole()
    adapted = pipeline.adapt(config, console=console)
    assert adapted.slices[0].accuracy == pytest.approx(1.0)  # it agrees with itself
    assert ("outputs", "3: p0 4x8x8, p1 4x4x4, p2 4x2x2") in list(adapted.shown.rows)
    assert any("learn from all outputs alike" in note for note in adapted.shown.notes)
    (folder / "several.py").unlink()  # nothing later needs the user's code
    result = pipeline.run_all(config, console=console)
    manifest = Manifest.read(result.deployment)
    assert manifest.accuracy.metric == "agreement"
    assert [(p.name, p.shape) for p in manifest.output.parts] == [(f"p{i}", (4, n, n)) for i, n in enumerate((8, 4, 2))]
    assert len(manifest.artefact.outputs) == 3
    assert pipeline.verify(result.deployment, console=console).exit_status == 0
    assert Samples.read(result.deployment).outputs.shape[1:] == (4 * (64 + 16 + 4),)
    assert "N × p1 4x4x4<" in (result.deployment / "report.html").read_text()


def test_a_deployment_predicts_each_output_in_its_shape(folder: Path) -> None:
    config = asked(folder, "heads", train__steps=0, space__precisions=["fp32"])
    pipeline.adapt(config, console=ReadConsole())
    result = pipeline.run_all(config, console=ReadConsole())
    samples = Samples.read(result.deployment)
    with deployments.load(result.deployment) as network:
        found = network.predict_batch(samples.raw)
    assert all(isinstance(f, NamedOutputs) for f in found)
    rows = [np.concatenate([f.outputs["output_0"], f.outputs["output_1"]]) for f in found]  # type: ignore[union-attr]
    np.testing.assert_allclose(np.stack(rows), samples.outputs, rtol=1e-3, atol=1e-3)


def test_each_output_is_held_against_torch_by_its_own_range(folder: Path) -> None:
    parts = (RowPart(name="large", shape=(1000,)), RowPart(name="small", shape=(4,)))
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(50, 1004)).astype(np.float32)
    expected[:, :1000] *= 1000
    found = expected.copy()
    found[:, 1000:] += 0.5  # nothing beside the large output's thousands, and one value of 250
    compared = compare_outputs(found, expected, parts=parts, steps={})
    assert compared.n == expected.size
    (problem,) = compared.problems(exact=False)
    assert problem.startswith("output 'small': 200 of 200 values are others")
    assert compared.problems(exact=True)[0].startswith("output 'small': outputs differ")
    assert compare_outputs(expected, expected, parts=parts, steps={}).problems(exact=True) == []


def test_an_onnx_file_says_what_its_outputs_are_called(folder: Path) -> None:
    import warnings

    import torch

    namespace: dict[str, Any] = {}
    exec(NETWORKS, namespace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            namespace["heads"](),
            (torch.zeros(1, 1, 16, 16),),
            "heads.onnx",
            dynamo=False,
            output_names=["which", "how much"],
        )
    config = asked(folder, "heads", model__source="onnx:heads.onnx")
    found = pipeline.adapt(config, console=ReadConsole(), with_images=False)
    assert [str(part) for part in found.outputs] == ["which 10", "how_much 2"]


@pytest.mark.parametrize(("kind", "said"), [("more", "it has other outputs then"), ("fewer", "it has other outputs")])
def test_outputs_that_differ_while_training_are_those_that_are_predicted(folder: Path, kind: str, said: str) -> None:
    console = ReadConsole()
    result = pipeline.adapt(asked(folder, kind), console=console, with_images=False)
    assert said in console.said
    assert "taken as it predicts" in console.said
    assert ("outputs", "2: output_0 10, output_1 2") in list(result.shown.rows)


def test_a_task_that_takes_one_output_is_refused_with_what_to_do(folder: Path) -> None:
    for changes in ({"data__labels": "source", "task__name": "classification"}, {"task__name": "regression"}):
        with pytest.raises(SpaceError, match=r"has 2 outputs \(output_0, output_1\).*takes one.*takes_several = True"):
            pipeline.adapt(asked(folder, "heads", **changes), console=ReadConsole())


def test_labels_of_others_are_refused_by_the_task_of_outputs(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r'knows no other labels: \[data\] labels = "network"'):
        pipeline.adapt(asked(folder, "heads", data__labels="source", task__name="outputs"), console=ReadConsole())


def test_outputs_that_cannot_be_told_apart_are_refused(folder: Path) -> None:
    with pytest.raises(GraphError, match="'output_0' and 'output_1' are one tensor"):
        pipeline.adapt(asked(folder, "twice"), console=ReadConsole(), with_images=False)


def test_maps_of_other_sizes_at_other_resolutions_are_refused(folder: Path) -> None:
    config = asked(folder, "pyramid", model__elastic__resolutions=[8, 16])
    with pytest.raises(GraphError, match=r"at 8 px the network's outputs are p0 4x4x4.*leave out model.elastic.resol"):
        pipeline.adapt(config, console=ReadConsole(), with_images=False)


def test_rows_are_the_same_at_every_resolution(folder: Path) -> None:
    config = asked(folder, "heads", model__elastic__resolutions=[8, 16])
    assert pipeline.adapt(config, console=ReadConsole(), with_images=False).choices["resolution"] == (8, 16)


def test_a_task_of_ones_own_gets_labels_and_all_outputs(folder: Path) -> None:
    config = asked(folder, "heads", data__labels="source", task__name="python:of_two:make")
    pipeline.adapt(config, console=ReadConsole())
    result = pipeline.run_all(config, console=ReadConsole())
    manifest = Manifest.read(result.deployment)
    assert (manifest.accuracy.metric, manifest.parity.decides) == ("score", "value")
    assert [p.name for p in manifest.output.parts] == ["output_0", "output_1"]
    assert pipeline.verify(result.deployment, console=ReadConsole()).exit_status == 0

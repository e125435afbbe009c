"""The whole way for tasks other than telling classes apart, and for samples that are no images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwnas import deployment as deployments
from hwnas import pipeline
from hwnas.answers import best_networks
from hwnas.config import Config
from hwnas.deployment import Labels, Manifest, Mask, Prediction, Values
from hwnas.errors import ConfigError, DataError, SpaceError
from hwnas.search import load_study
from hwnas.spaces import StageSpec
from hwnas.spaces.segmentation import SegmentationSpace, SegmentationSpec
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole

NETWORKS = '''
import torch
from torch import nn

class Net(nn.Module):
    """Encoder and decoder with a connection across, or a stack of 1-D convolutions."""

    def __init__(self, conv, channels, head):
        super().__init__()
        def unit(i, o, stride=1):
            norm = nn.BatchNorm2d if conv is nn.Conv2d else nn.BatchNorm1d
            return nn.Sequential(conv(i, o, 3, stride, 1, bias=False), norm(o), nn.ReLU())
        self.labels, self.layer = unit(channels, 8), unit(8, 16, 2)
        self.block = nn.Sequential(unit(16, 16), conv(16, 16, 1))
        self.head = head

    def forward(self, x):
        a = self.labels(x)
        b = self.layer(a)
        return self.head(a, b + self.block(b))

class Masks(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.out = nn.Upsample(scale_factor=2), nn.Conv2d(24, 3, 1)

    def forward(self, a, b):
        return self.out(torch.cat([a, self.up(b)], 1))

class Classes(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(16, 4)

    def forward(self, a, b):
        return self.out(b.mean(-1))

def unet():
    torch.manual_seed(0)
    return Net(nn.Conv2d, 1, Masks()).eval()

def series():
    torch.manual_seed(0)
    return Net(nn.Conv1d, 3, Classes()).eval()

class Two(nn.Module):
    """An image and numbers, which meet before the classifier."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.numbers = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.out = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, image, numbers):
        return self.out(torch.cat([self.image(image).mean((2, 3)), self.numbers(numbers)], 1))

def two():
    torch.manual_seed(0)
    return Two().eval()

def load():
    import numpy as np
    classes = np.arange(240) % 4
    rng = np.random.default_rng(0)
    image = rng.normal(size=(240, 1, 8, 8)) + 2 * (classes % 2)[:, None, None, None]
    numbers = 50 * (rng.normal(size=(240, 4)) + 3 * (classes // 2)[:, None])
    return {"x_train": {"image": image, "numbers": numbers}, "y_train": classes}
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images(n: int = 240) -> np.ndarray:
    """(N, 8, 8) of a bright rectangle on noise."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (n, 8, 8), np.uint8)
    for image in x:
        top, left = rng.integers(0, 5, 2)
        image[top : top + rng.integers(1, 5), left : left + rng.integers(1, 5)] += 150
    return x


def config(folder: Path, targets: np.ndarray, task: str, changes: dict[str, object] | None = None) -> Config:
    np.savez(folder / "data.npz", x_train=images(), y_train=targets)
    asked = {
        "data.source": "npz:data.npz",
        "task.name": task,
        "train.steps": 60,
        "limits.latency_fraction": 1.2,
        "deploy.finetune_steps": 2,
        "deploy.train_steps": 2,
    }
    return tiny_config(folder / "run", {**asked, **(changes or {})})


def train_plainly(folder: Path, source: str, x: np.ndarray, y: np.ndarray) -> None:
    """A user's network as its owner trains it, and its weights as they keep them."""
    import torch
    from safetensors.torch import save_file

    namespace: dict[str, Callable[[], torch.nn.Module]] = {}
    exec((folder / "nets.py").read_text(), namespace)
    network = namespace[source]().train()
    inputs, targets = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y).long()
    axes = [0, *range(2, inputs.dim())]
    inputs = (inputs - inputs.mean(axes, keepdim=True)) / inputs.std(axes, keepdim=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), targets, ignore_index=255).backward()
        optimizer.step()
    save_file(network.state_dict(), folder / "trained.safetensors")


def adapted(folder: Path, source: str, shape: list[int], changes: dict[str, object]) -> Config:
    of_network = {
        "space.preset": None,
        "model.source": f"python:nets:{source}",
        "model.input": shape,
        "model.weights": "trained.safetensors",
        "train.learning_rate": 0.01,
        "train.steps": 5,
    }
    return tiny_config(folder / "run").replaced({**of_network, "limits.latency_fraction": 1.2, **changes})


def run(config: Config) -> tuple[Manifest, pipeline.RunResult, ReadConsole]:
    console = ReadConsole()
    if config.model is not None:
        pipeline.adapt(config, console=console)
    result = pipeline.run_all(config, console=console)
    assert pipeline.verify(result.deployment, console=ReadConsole()).exit_status == 0
    return Manifest.read(result.deployment), result, console


def words(result: pipeline.RunResult, console: ReadConsole) -> str:
    """All that people are told."""
    answer = best_networks(result.deployment.parents[1], limits={}, metric="", top=1)
    page = (result.deployment / "report.html").read_text()
    return "\n".join([page, console.said, *map(str, (result.shown, answer.shown))])


# ---------------------------------------------------------------- tasks


def test_values(folder: Path) -> None:
    brightness = images().mean((1, 2)) * 1000 + 1e6
    manifest, result, console = run(config(folder, np.stack([brightness, -brightness], 1), "regression"))
    assert (manifest.accuracy.metric, manifest.output.task, manifest.parity.decides) == ("r2", "regression", "value")
    assert manifest.accuracy.test_runtime > 0.5
    assert set(manifest.accuracy.others) == {"mae", "rmse"}
    assert manifest.accuracy.by_class is None
    with deployments.load(result.deployment) as network:
        found = network.predict(images()[0])
    assert isinstance(found, Values)
    assert list(found.values) == ["0", "1"]
    assert abs(found.values["0"] - brightness[0]) < 3 * manifest.accuracy.others["rmse"] + 1
    told = words(result, console)
    assert "R²" in told
    assert "accura" not in told.lower().replace("accuracies-", "")


def test_labels(folder: Path) -> None:
    x = images()
    halves = np.stack([x[:, :4].max((1, 2)) > 150, x[:, 4:].max((1, 2)) > 150, x[:, :, :4].max((1, 2)) > 150], 1)
    np.savez(folder / "named.npz", class_names=np.array(["top", "bottom", "left"]), x_train=x, y_train=halves)
    asked = config(folder, halves, "multi_label", {"data.source": "npz:named.npz"})
    manifest, result, console = run(asked)
    assert (manifest.accuracy.metric, manifest.parity.decides) == ("macro_f1", "label")
    assert manifest.accuracy.test_runtime > 0.6
    assert manifest.parity.n == 3 * manifest.accuracy.n_test
    with deployments.load(result.deployment) as network:
        found = network.predict(x[0])
    assert isinstance(found, Labels)
    assert found.labels == tuple(name for name, score in found.scores.items() if score > 0.5)
    assert "macro F1" in words(result, console)


def test_masks(folder: Path) -> None:
    x = images()
    masks = (x > 100).astype(np.uint8) + (x > 170)
    masks[0, 0] = 255
    np.savez(folder / "data.npz", x_train=x, y_train=masks)
    train_plainly(folder, "unet", x[:, None] / 255, masks)
    changes = {"data.source": "npz:data.npz?augment=natural", "task.name": "segmentation"}
    manifest, result, console = run(adapted(folder, "unet", [1, 8, 8], {**changes, "task.class_weights": "balanced"}))
    assert (manifest.accuracy.metric, manifest.parity.decides) == ("mean_iou", "pixel")
    assert manifest.accuracy.test_runtime > 0.4
    assert manifest.parity.n == 64 * manifest.accuracy.n_test
    assert manifest.accuracy.by_pixel is not None
    assert manifest.accuracy.by_pixel.mean_iou == pytest.approx(manifest.accuracy.test_runtime)
    assert "worst class" in words(result, console)
    with deployments.load(result.deployment) as network:
        found = network.predict(x[1])
    assert isinstance(found, Mask)
    assert found.classes.shape == (8, 8)
    assert (found.classes == masks[1]).mean() > 0.5
    assert "mean IoU" in words(result, console)


def test_masks_of_a_folder_on_a_space_of_segmentation(folder: Path) -> None:
    x = images()
    masks = (x > 100).astype(np.uint8)
    masks[0, 0] = 255
    stages = [
        StageSpec(channels=8, stride=1, depths=(1, 2), kernel_sizes=(3,), expand_ratios=(2, 3), activations=("relu",))
    ]
    spec = SegmentationSpec(
        in_channels=1,
        n_classes=2,
        resolutions=(8, 12),
        stem_channels=8,
        stages=stages * 2,
        reductions=(1, 2),
        head_channels=16,
        head_activation="relu",
    )
    (folder / "space.json").write_text(json.dumps(SegmentationSpace("small", spec).to_json()))
    for name, arrays in (("images", x), ("masks", masks)):
        (folder / "photos" / name).mkdir(parents=True)
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(folder / "photos" / name / f"{i:03}.png")
    changes = {"space.preset": "space.json", "train.steps": 150, "data.source": "folder:photos"}
    manifest, result, console = run(config(folder, masks, "segmentation", changes))
    assert (manifest.space, manifest.accuracy.metric) == ("small", "mean_iou")
    assert manifest.input.shape in ((1, 8, 8), (1, 12, 12))
    assert manifest.accuracy.test_runtime > 0.6
    with deployments.load(result.deployment) as network:
        found = network.predict(folder / "photos/images/001.png")
    assert isinstance(found, Mask)
    assert found.classes.shape == manifest.input.shape[1:]
    assert "mean IoU" in words(result, console)


def test_a_task_of_ones_own_is_ranked_by_its_score(folder: Path) -> None:
    own = (
        "from hwnas.tasks.classification import Classification\n"
        "class Twice(Classification):\n"
        "    name, metric = 'twice', 'score'\n"
        "    def measures(self, means):\n"
        "        return {'score': super().measures(means)['accuracy'] ** 2}\n"
        "    def standard_error(self, value, statistics):\n"
        "        return 0.01\n"
        "def make() -> Twice:\n"
        "    return Twice()\n"
    )
    (folder / "own_task.py").write_text(own)
    manifest, result, console = run(config(folder, np.arange(240) % 3, "python:own_task:make", {"train.steps": 2}))
    assert (manifest.accuracy.metric, manifest.output.task) == ("score", "twice")
    study = load_study(Workspace(config(folder, np.arange(240) % 3, "python:own_task:make", {"train.steps": 2})).study)
    assert study.ranked_by == "score"
    assert study.standard_errors["score"].tolist() == [0.01] * len(study)
    assert "score" in words(result, console)


# ---------------------------------------------------------------- samples of another shape


def test_series(folder: Path) -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(240) % 4
    phase = np.linspace(0, 1, 32) * 2 * np.pi
    x = np.sin((1 + classes)[:, None, None] * phase + rng.uniform(0, 6, (240, 3, 1))) * 50 + 1000
    np.savez(folder / "data.npz", x_train=x, y_train=classes)
    train_plainly(folder, "series", x, classes)
    manifest, result, _ = run(adapted(folder, "series", [3, 32], {"data.source": "npz:data.npz?inputs=arrays"}))
    assert manifest.input.shape == (3, 32)
    assert manifest.accuracy.test_runtime > 0.8
    with deployments.load(result.deployment) as network:
        found = network.predict(x[5])
        with pytest.raises(DataError, match=r"shape \(32, 3\).*numbers of the shape \(3, 32\)"):
            network.predict(x[5].T)
        with pytest.raises(DataError, match="trained on arrays of numbers"):
            network.predict("photo.jpg")
    assert isinstance(found, Prediction)
    assert found.class_name == "1"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_several_inputs(folder: Path, precision: str) -> None:
    namespace: dict[str, Any] = {}
    exec((folder / "nets.py").read_text(), namespace)
    found = namespace["load"]()
    inputs, classes = found["x_train"], found["y_train"]
    changes = {"data.source": "python:nets:load", "model.weights": None, "train.steps": 150}
    of_network = {"model.input": [[1, 8, 8], [4]], "space.precisions": [precision], "limits.latency_fraction": None}
    manifest, result, console = run(adapted(folder, "two", [68], {**changes, **of_network}))
    assert manifest.input.shape == (68,)
    assert [(p.name, p.shape) for p in manifest.input.parts] == [("image", (1, 8, 8)), ("numbers", (4,))]
    assert manifest.accuracy.test_runtime > 0.8
    assert "the network is given samples of mean 0 and deviation 1 in each channel" in console.said
    with deployments.load(result.deployment) as network:
        told = [network.predict({name: array[i] for name, array in inputs.items()}) for i in range(40)]
        with pytest.raises(DataError, match="a sample has the inputs image 1x8x8, numbers 4; given are: image"):
            network.predict({"image": inputs["image"][0]})
    said = [int(p.class_name) for p in told if isinstance(p, Prediction)]
    assert np.mean(np.array(said) == classes[:40]) > 0.8


def test_inputs_in_another_order_than_the_networks_are_refused(folder: Path) -> None:
    turned = (
        "def turned():\n    found = load()\n    return {**found, 'x_train': dict(reversed(found['x_train'].items()))}\n"
    )
    (folder / "nets.py").write_text(NETWORKS + turned)
    changes = {"data.source": "python:nets:turned", "model.weights": None, "model.input": [[1, 8, 8], [4]]}
    with pytest.raises(SpaceError, match=r"takes image 1x8x8, numbers 4, and the samples are numbers 4, image 1x8x8;"):
        pipeline.adapt(adapted(folder, "two", [68], changes), console=ReadConsole())
    as_adapted = adapted(folder, "two", [68], {**changes, "data.source": "python:nets:load"})
    pipeline.adapt(as_adapted, console=ReadConsole())
    with pytest.raises(SpaceError, match="give the inputs in the order in which the network takes them"):
        _ = Workspace(as_adapted.replaced({"data.source": "python:nets:turned"})).task  # every stage asks for it
    assert Workspace(as_adapted).task.name == "classification"


def test_samples_that_are_no_images_are_given_as_they_are_where_the_network_was_trained_so(folder: Path) -> None:
    x = np.random.default_rng(0).normal(size=(240, 4)) + 200
    np.savez(folder / "data.npz", x_train=x, y_train=np.arange(240) % 2)
    asked = adapted(folder, "two", [4], {"data.source": "npz:data.npz?inputs=arrays", "model.weights": None})
    as_they_are = asked.replaced({"model.mean": [0.0], "model.std": [1.0]})
    brought, left = (Workspace(c).images for c in (asked, as_they_are))
    assert left.mean == (0.0,) * 4
    assert brought.mean == pytest.approx((200.0,) * 4, abs=1)
    assert brought.fingerprint != left.fingerprint


def test_series_on_a_space_of_series(folder: Path) -> None:
    classes = np.arange(240) % 2
    x = np.random.default_rng(0).normal(size=(240, 3, 24)) + 2 * classes[:, None, None]
    np.savez(folder / "data.npz", x_train=x, y_train=classes)
    changes = {"data.source": "npz:data.npz?inputs=arrays", "space.preset": "conv1d-sensor", "train.steps": 2}
    asked = tiny_config(folder / "run", {**changes, "search.n_trials": 4, "limits.latency_fraction": 1.2})
    manifest, _, _ = run(asked)
    assert (manifest.space, manifest.input.shape) == ("conv1d-sensor", (3, 24))


def test_a_space_of_images_is_refused_for_series(folder: Path) -> None:
    np.savez(
        folder / "data.npz", x_train=np.random.default_rng(0).normal(size=(240, 3, 24)), y_train=np.arange(240) % 2
    )
    with pytest.raises(SpaceError, match=r"takes 3x8x8 .* the samples have the shape 3x24 and 2 classes"):
        _ = Workspace(tiny_config(folder / "run", {"data.source": "npz:data.npz?inputs=arrays"})).training_space


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("task", "targets", "says"),
    [
        ("regression", lambda n: np.full(n, np.nan), "those of sample 0 are NaN"),
        ("regression", np.ones, "is the same for every sample"),
        ("regression", lambda n: np.zeros((n, 2, 2)), r"give \(N,\) or \(N, K\)"),
        ("multi_label", lambda n: np.arange(n) % 2, r"give \(N, K\), a 0 or 1"),
        ("multi_label", lambda n: np.full((n, 2), 2), "values other than 0 and 1"),
        ("multi_label", lambda n: np.zeros((n, 2), int), "no sample has the label 0"),
        ("segmentation", lambda n: np.arange(n) % 2, r"give \(N, H, W\) integers"),
        ("segmentation", lambda n: np.zeros((n, 4, 4), int) + np.arange(n)[:, None, None] % 2, "are 4x4, and their im"),
        ("segmentation", lambda n: np.full((n, 8, 8), 255), "not one pixel is of a known class"),
        ("segmentation", lambda n: np.full((n, 8, 8), 700), "classes from 700 to 700"),
        ("classification", lambda n: np.zeros((n, 3)), r"give \(N,\), one class index"),
    ],
)
def test_targets_of_another_kind_are_refused(
    folder: Path, task: str, targets: Callable[[int], np.ndarray], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        _ = Workspace(config(folder, targets(240), task)).images


def test_a_space_whose_outputs_are_none_of_the_task_is_refused(folder: Path) -> None:
    masks = (images() > 100).astype(np.uint8)
    with pytest.raises(SpaceError, match="gives 2 outputs; the images have 1 channels and 2 classes"):
        _ = Workspace(config(folder, masks, "segmentation")).training_space


def test_a_limit_is_on_the_tasks_own_metric(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"limits has accuracy, .* evaluated for their r2; give r2 instead"):
        tiny_config(folder / "run", {"task.name": "regression", "limits.accuracy": 0.9})
    limited = tiny_config(folder / "run", {"task.name": "regression", "limits.r2": 0.9})
    assert limited.limits.absolute()["r2"].at_least == 0.9  # type: ignore[union-attr]


def test_another_task_is_another_run(folder: Path) -> None:
    own = "from hwnas.tasks.classification import Classification\n\ndef make() -> Classification:\n"
    own += "    return Classification()\n"
    (folder / "own_task.py").write_text(own)
    targets = np.arange(240) % 3

    def seen(task: str, **changes: object) -> tuple[dict[str, str], str]:
        work = Workspace(config(folder, targets, task, {k.replace("__", "."): v for k, v in changes.items()}))
        return work.identity, work.weights_and_data()

    plain, mine = seen("classification"), seen("python:own_task:make")
    assert plain[1] != mine[1]
    assert plain[0] != mine[0] != seen("classification", task__class_weights="balanced")[0]
    (folder / "own_task.py").write_text(own + "# another loss\n")
    assert seen("python:own_task:make")[1] != mine[1]

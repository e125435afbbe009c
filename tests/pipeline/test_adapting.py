"""A network of one's own, from its function to a verified file, on the fake device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwnas import pipeline
from hwnas.adapted_run import SPACE, WEIGHTS
from hwnas.config import Config, load_config
from hwnas.deployment import Manifest
from hwnas.errors import CheckpointError, ConfigError, DataError, SpaceError
from hwnas.files import read_document, write_document
from hwnas.pipeline.workers import make_evaluator
from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.tasks import Score
from hwnas.testing.run import tiny_config
from hwnas.testing.spaces import tiny_space
from hwnas.workspace import Workspace
from tests.runs import ReadConsole

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))

class Net(nn.Module):
    def __init__(self, channels=1, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.layer1 = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.layer1(self.stem(x)).mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net().eval()

def of_colours():
    return Net(channels=3)

class Deep(Net):
    def forward(self, x):
        x = self.stem(x)
        if self.training:  # stochastic depth as many write it
            x = x * torch.floor(0.8 + torch.rand(x.shape[0], 1, 1, 1))
        return self.head(self.layer1(x).mean((2, 3)))

class Auxiliary(Net):
    def forward(self, x):
        x = self.layer1(self.stem(x))
        y = self.head(x.mean((2, 3)))
        return (y, self.head(x.amax((2, 3)))) if self.training else y

class Shared(Net):
    def forward(self, x):
        norm = self.stem[1]
        return self.head(self.layer1(norm(torch.tanh(self.stem(x)))).mean((2, 3)))

def shared():
    torch.manual_seed(0)
    return Shared()

def deep():
    torch.manual_seed(0)
    return Deep()

def auxiliary():
    torch.manual_seed(0)
    return Auxiliary()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(folder: Path, **changes: object) -> Config:
    asked = {"model.source": "python:nets:make", "model.input": [1, 16, 16], "space.preset": None}
    given = {k.replace("__", "."): v for k, v in changes.items()}
    return tiny_config(folder / "run").replaced({**asked, **given})


def test_what_is_elastic_is_told_and_kept(folder: Path) -> None:
    console = ReadConsole()
    result = pipeline.adapt(own(folder), console=console, with_images=False)
    assert result.slots == ("stem", "layer1.0", "layer1.1", "head")
    assert result.choices == {
        "layer1.depth": (0, 1, 2),
        "layer1.0.conv1.width": (0.25, 0.5, 0.75, 1.0),
        "layer1.1.conv1.width": (0.25, 0.5, 0.75, 1.0),
    }
    assert result.macs[0] < result.macs[1]
    reasons = {f.reason: f.modules for f in result.fixed}
    assert reasons["it is the network's output"] == ("head",)
    assert any("residual" in reason and "stem.0" in modules for reason, modules in reasons.items())
    text = "\n".join(str(row) for row in result.shown.rows)
    assert "layer1.0.conv1" in text
    kept = load_config(str(folder / "run"))
    assert kept.model is not None
    assert Workspace(kept).training_space.count() == result.networks


def test_on_a_profiled_device_the_latencies_of_fastest_and_slowest_are_told(folder: Path) -> None:
    config = own(folder, space__precisions=["fp32"])
    before = pipeline.adapt(config, console=ReadConsole(), with_images=False)
    assert not before.latencies_ms
    assert any("not profiled yet; hwnas profile" in note for note in before.shown.notes)
    bounds = pipeline.profile(config, console=ReadConsole()).latency_ms_bounds
    again = pipeline.adapt(config, console=ReadConsole(), with_images=False)
    assert again.latencies_ms == {"fake": bounds}
    assert 0 < bounds[0] < bounds[1]
    assert "latency on fake" in [name for name, _ in again.shown.rows]
    assert not any("hwnas profile" in note for note in again.shown.notes)


def test_tables_of_other_networks_tell_no_latency(folder: Path) -> None:
    config = own(folder, space__precisions=["fp32"], model__elastic__width=[0.25, 0.75, 1.0])
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    pipeline.profile(config, console=ReadConsole())
    wider = config.replaced({"model.elastic.width": [0.25, 0.5, 0.75, 1.0]})
    assert not pipeline.adapt(wider, console=ReadConsole(), with_images=False).latencies_ms


def test_a_given_network_goes_the_whole_way_to_a_verified_file(folder: Path) -> None:
    config = own(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    (folder / "nets.py").unlink()  # nothing later needs the user's code
    result = pipeline.run_all(config, console=ReadConsole())
    manifest = Manifest.read(result.deployment)
    assert manifest.accuracy.n_test > 0
    assert pipeline.verify(result.deployment, console=ReadConsole()).exit_status == 0


def test_without_training_the_largest_network_is_the_given_one(folder: Path) -> None:
    import torch

    config = own(folder, train__steps=0)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    console = ReadConsole()
    assert pipeline.train(config, console=console).steps == 0
    work = Workspace(config)
    space = work.training_space
    found = work.supernet.extract(space.named_blocks(space.largest()))
    import sys

    sys.path.insert(0, str(folder))
    try:
        import nets  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(folder))
    x = torch.randn(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(found(x), nets.make()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["deep", "auxiliary"])
def test_a_network_that_cannot_be_read_as_it_trains_is_taken_as_it_predicts(folder: Path, name: str) -> None:
    console = ReadConsole()
    result = pipeline.adapt(own(folder, model__source=f"python:nets:{name}"), console=console, with_images=False)
    assert "taken as it predicts" in console.said
    console = ReadConsole()
    plain = own(folder, output__folder=str(folder / "plain"))
    assert pipeline.adapt(plain, console=console, with_images=False).networks == result.networks
    assert "taken as it predicts" not in console.said


@pytest.mark.parametrize("worse", ["trained", "given"])
def test_the_whole_network_is_the_better_of_what_was_given_and_what_was_trained(folder: Path, worse: str) -> None:
    config = own(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    pipeline.train(config, console=ReadConsole())
    work = Workspace(config)
    supernet, given = work.supernet, work.new_supernet()
    blocks = work.space.named_blocks(work.space.largest())
    smaller = work.space.named_blocks(work.space.smallest())
    evaluator = make_evaluator(work)
    assert isinstance(supernet, AdaptedSupernet)
    found = {"given": given.eval().extract(blocks), "trained": evaluator.recalibrate(supernet.extract(blocks))}
    scores = {name: float(name != worse) for name in found}

    def score(network: nn.Module, *, in_shape: tuple[int, ...]) -> Score:
        first = next(network.parameters())
        value = next(scores[n] for n, f in found.items() if torch.equal(first, next(f.parameters())))
        return Score(value=value, standard_error=0.0, measures={}, n=1)

    evaluator.score = score  # type: ignore[method-assign]
    taken = next(evaluator.extract(blocks).parameters())
    assert not torch.equal(next(found["given"].parameters()), next(found["trained"].parameters()))
    assert torch.equal(taken, next(found["trained" if worse == "given" else "given"].parameters()))
    assert supernet.extract_given(smaller) is None


def test_a_normalisation_that_is_called_twice_is_told_unless_statistics_are_frozen(folder: Path) -> None:
    said = []
    for statistics in ("recalibrated", "frozen"):
        console = ReadConsole()
        config = own(folder, model__source="python:nets:shared", train__batch_norm=statistics)
        pipeline.adapt(config.replaced({"output.folder": str(folder / statistics)}), console=console, with_images=False)
        said.append("stem.1 normalises by batches in several places" in console.said)
    assert said == [True, False]


def test_a_run_adapts_its_network_by_itself(folder: Path) -> None:
    config = own(folder, train__steps=0)
    pipeline.run_all(config, console=ReadConsole())
    assert (folder / "run" / SPACE).is_file()
    assert (folder / "run" / WEIGHTS).is_file()


def test_another_model_section_is_refused_until_it_is_adapted_again(folder: Path) -> None:
    pipeline.adapt(own(folder), console=ReadConsole(), with_images=False)
    other = own(folder, model__elastic__depth=False)
    with pytest.raises(ConfigError, match=r"adapted from another \[model\] \(elastic was"):
        _ = Workspace(other).training_space
    pipeline.adapt(other, console=ReadConsole(), with_images=False)
    assert "layer1.depth" not in {c.name for c in Workspace(other).training_space.choices}


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    pipeline.adapt(own(folder), console=ReadConsole(), with_images=False)
    kept = (folder / "run" / WEIGHTS).read_bytes()
    pipeline.adapt(own(folder, model__elastic__depth=False), console=ReadConsole(), with_images=False)
    (folder / "run" / WEIGHTS).write_bytes(kept)
    with pytest.raises(CheckpointError, match="are of another network"):
        Workspace(own(folder, model__elastic__depth=False)).new_supernet()


def test_a_damaged_space_is_refused_with_what_to_do(folder: Path) -> None:
    pipeline.adapt(own(folder), console=ReadConsole(), with_images=False)
    path = folder / "run" / SPACE
    path.write_text(path.read_text().replace("conv2d", "conv3d", 1))
    with pytest.raises(ConfigError, match="adapt the network again with `hwnas adapt`"):
        _ = Workspace(own(folder)).training_space


def test_a_network_of_other_images_is_refused_before_anything_is_trained(folder: Path) -> None:
    config = own(folder, model__source="python:nets:of_colours", model__input=[3, 16, 16])
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    with pytest.raises(SpaceError, match="takes 3 channels"):
        pipeline.train(config, console=ReadConsole())


def test_images_that_are_not_there_are_told_before_the_network_is_looked_at(folder: Path) -> None:
    console = ReadConsole()
    with pytest.raises(DataError):
        pipeline.adapt(own(folder, data__source="folder:nowhere?size=16"), console=console)
    assert "is run" not in console.said
    assert not (folder / "run").exists()


def test_without_a_model_there_is_nothing_to_adapt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no network is named"):
        pipeline.adapt(tiny_config(tmp_path), console=ReadConsole())


def test_images_are_normalised_as_the_network_was_trained(folder: Path) -> None:
    config = own(folder, model__mean=[0.25], model__std=[0.5])
    data = Workspace(config).data
    assert (data.mean, data.std) == ((0.25,), (0.5,))
    batch, _ = next(iter(Workspace(config).stream("train", batch_size=4).unaugmented()))
    raw = data.train.inputs[: len(batch)].astype(np.float32).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(batch.numpy(), (raw - 0.25) / 0.5, atol=1e-6)


# ---------------------------------------------------------------- what is not vouched for


def test_weights_that_changed_since_are_refused(folder: Path) -> None:
    from safetensors.torch import save_file

    namespace: dict[str, object] = {"__name__": "nets"}
    exec(NET, namespace)
    network = namespace["make"]()  # type: ignore[operator]
    save_file(network.state_dict(), folder / "w.safetensors")
    config = own(folder, model__weights="w.safetensors")
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    _ = Workspace(config).training_space
    network.head.bias.data += 1
    save_file(network.state_dict(), folder / "w.safetensors")
    with pytest.raises(ConfigError, match="another file than when the network"):
        _ = Workspace(config).training_space
    (folder / "w.safetensors").unlink()  # a run can do without
    _ = Workspace(config).training_space


def test_images_that_are_normalised_otherwise_are_other_data(folder: Path) -> None:
    before = Workspace(own(folder, model__mean=[0.25], model__std=[0.5])).data.fingerprint
    assert Workspace(own(folder, model__mean=[0.25], model__std=[0.25])).data.fingerprint != before
    assert Workspace(own(folder)).data.fingerprint != before


def test_a_folder_with_a_trained_supernet_is_not_adapted_into(folder: Path) -> None:
    config = own(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    pipeline.train(config, console=ReadConsole())
    kept = {p.name: p.read_bytes() for p in (folder / "run").glob("network.*")}
    with pytest.raises(ConfigError, match="holds a trained supernet"):
        pipeline.adapt(own(folder, model__elastic__depth=False), console=ReadConsole(), with_images=False)
    assert {p.name: p.read_bytes() for p in (folder / "run").glob("network.*")} == kept


def test_a_run_of_a_preset_is_not_adapted_into(folder: Path) -> None:
    Workspace(tiny_config(folder / "run")).begin()
    before = (folder / "run" / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match="without a network of its own"):
        pipeline.adapt(own(folder), console=ReadConsole(), with_images=False)
    assert (folder / "run" / "config.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99; this version reads 1"),
        ({"space": tiny_space().to_json()}, "holds no space of a given network"),
        ({"made_of": 7}, "cannot be read"),
    ],
)
def test_another_kind_of_document_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    config = own(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    path = folder / "run" / SPACE
    write_document(path, {**read_document(path), **change})
    with pytest.raises(ConfigError, match=message):
        _ = Workspace(config).training_space


def test_that_frozen_parts_are_trained_is_told(folder: Path) -> None:
    (folder / "nets.py").write_text(NET.replace("return Net().eval()", "return Net().eval().requires_grad_(False)"))
    console = ReadConsole()
    pipeline.adapt(own(folder), console=console, with_images=False)
    assert "frozen" in console.said


def test_a_run_of_frozen_statistics_recalibrates_no_network_and_is_none_of_the_other_kind(folder: Path) -> None:
    config = own(folder, train__batch_norm="frozen", train__steps=2)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    given = Workspace(config).adapted.supernet(Workspace(config).adapted_space, whole=Workspace(config).adapted_space)
    pipeline.train(config, console=ReadConsole())
    space, supernet = Workspace(config).training_space, Workspace(config).supernet
    smallest = supernet.extract(space.named_blocks(space.smallest()))
    assert smallest.statistics_hold
    its = {k.split(".", 2)[2]: v for k, v in smallest.state_dict().items()}
    assert its["stem.1.running_mean"].tolist() == given.numbers()["stem.1.running_mean"].tolist()
    assert its["stem.0.weight"].tolist() != given.numbers()["stem.0.weight"].tolist()
    other = own(folder, train__steps=2)
    with pytest.raises(CheckpointError, match="was trained with another batch_norm"):
        _ = Workspace(other).supernet
    with pytest.raises(CheckpointError, match="batch_norm was 'frozen', now 'recalibrated'"):
        pipeline.train(other, console=ReadConsole())


def test_slices_with_frozen_statistics_are_other_networks_to_evaluations(folder: Path) -> None:
    config = own(folder, train__steps=0)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    frozen = own(folder, train__steps=0, train__batch_norm="frozen")
    assert Workspace(config).weights_and_data() != Workspace(frozen).weights_and_data()

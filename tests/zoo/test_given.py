"""Packed supernets of networks of one's own: what is in them, and runs of them without the user's code."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from hwnas import pipeline
from hwnas.adapted_run import WEIGHTS as GIVEN_WEIGHTS
from hwnas.config import Config
from hwnas.deployment import MANIFEST
from hwnas.errors import CheckpointError, ConfigError
from hwnas.files import read_document, write_document
from hwnas.pipeline.packing import Packing, pack
from hwnas.pipeline.workers import make_evaluator
from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.supernet.recalibration import recalibrate
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from hwnas.zoo import find_entry, one_entry
from hwnas.zoo.entry import WEIGHTS
from hwnas.zoo.writing import seal
from tests.runs import ReadConsole, hwnas
from tests.zoo.test_runs import config_of

NET = """
import torch
from torch import nn

class Block(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 16, 5, 1, 2, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8),
        )

    def forward(self, x):
        return x + super().forward(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))

class Two(Net):
    def forward(self, x):
        y = self.blocks(self.stem(x)).mean((2, 3))
        return self.head(y), y

def make(kind=Net):
    torch.manual_seed(0)
    net = kind()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean, -0.1, 0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return net.eval()

def two():
    return make(Two)
"""
MEAN, STD = (0.31,), (0.37,)


def adapted(folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object] | None = None) -> Config:
    """A run of the network above, as far as `hwnas train`; its code is gone afterwards."""
    (folder / "own_nets.py").write_text(NET)
    monkeypatch.chdir(folder)
    own = {"model.source": "python:own_nets:make", "model.input": [1, 8, 8], "space.preset": None}
    own |= {"model.mean": list(MEAN), "model.std": list(STD), "train.learning_rate": 0.05}
    config = tiny_config(folder / "run").replaced({**own, **(changes or {})})
    pipeline.adapt(config, console=ReadConsole())
    pipeline.train(config, console=ReadConsole())
    (folder / "own_nets.py").unlink()
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return config


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    folder = tmp_path_factory.mktemp("given")
    with pytest.MonkeyPatch.context() as patch:
        config = adapted(folder, patch)
    pack(config, folder / "own", packing=Packing(n_images=(200, 100, 50)), console=ReadConsole())
    return config, folder / "own"


@pytest.fixture
def trained(once: tuple[Config, Path]) -> Config:
    """Not to be changed."""
    return once[0]


@pytest.fixture
def packed(once: tuple[Config, Path], tmp_path: Path) -> Path:
    """The folder of a packed supernet, to be changed at will."""
    return Path(shutil.copytree(once[1], tmp_path / "own"))


def taken(packed: Path, folder: Path, trained: Config) -> Workspace:
    """A run of it on the images of the training, as far as there is a supernet."""
    config = config_of(packed, folder, **{"data.source": trained.data.source})
    pipeline.train(config, console=ReadConsole())
    return Workspace(config)


def answers(work: Workspace, encoding: np.ndarray, *, images: Workspace) -> Tensor:
    """What a network of a run says to test images, with statistics from training images of another run."""
    network = work.supernet.extract(work.training_space.named_blocks(encoding))
    recalibrate(network, (x for x, _ in images.stream("train").kept(64, shuffled=True)))
    with torch.inference_mode():
        return torch.cat([network(x) for x, _ in images.stream("test").kept(100)])


def some(work: Workspace) -> dict[str, np.ndarray]:
    space = work.training_space
    drawn = space.sample(4, np.random.default_rng(0))
    return {"smallest": space.smallest(), "largest": space.largest(), **{f"random {i}": e for i, e in enumerate(drawn)}}


def test_the_whole_way_needs_neither_the_code_nor_the_weights(packed: Path, tmp_path: Path) -> None:
    """In a process of its own, which has never seen the network."""
    config = config_of(packed, tmp_path / "of-it")
    (tmp_path / "of-it.toml").write_text(config.to_toml())
    done = hwnas("run", tmp_path / "of-it.toml", "--json")
    assert done.returncode == 0, done.stderr
    (manifest,) = (tmp_path / "of-it").glob(f"deployments/*/{MANIFEST}")
    assert read_document(manifest)["parity"]["top1_agreement"] == 1.0
    assert not (tmp_path / "of-it" / GIVEN_WEIGHTS).exists()


def test_networks_are_those_of_the_training_within_half_precision(
    trained: Config, packed: Path, tmp_path: Path
) -> None:
    theirs, mine = Workspace(trained), taken(packed, tmp_path / "of-it", trained)
    assert mine.training_space == theirs.training_space
    for name, encoding in some(theirs).items():
        wanted = answers(theirs, encoding, images=theirs)
        got = answers(mine, encoding, images=theirs)
        assert (got - wanted).abs().max() <= 5e-3 * wanted.abs().max(), name
        assert (got - wanted).abs().max() > 0, name


def test_smaller_networks_keep_the_units_that_were_ranked_first(trained: Config, packed: Path, tmp_path: Path) -> None:
    theirs, mine = Workspace(trained).supernet, taken(packed, tmp_path / "of-it", trained).supernet
    assert isinstance(theirs, AdaptedSupernet)
    assert isinstance(mine, AdaptedSupernet)
    orders = [theirs.order(i).tolist() for i in range(len(theirs.space.network.dependencies.dims))]
    assert any(order != sorted(order) for order in orders)
    assert [mine.order(i).tolist() for i in range(len(orders))] == orders
    fixed = theirs.fixed_numbers()
    assert any("running_var" in name for name in fixed)
    assert all(torch.equal(number, fixed[name]) for name, number in mine.fixed_numbers().items())


def test_the_largest_network_is_what_training_made_of_the_given_one(
    trained: Config, packed: Path, tmp_path: Path
) -> None:
    theirs, mine = Workspace(trained), taken(packed, tmp_path / "of-it", trained)
    blocks = mine.training_space.named_blocks(mine.training_space.largest())
    assert theirs.supernet.extract_given(blocks) is not None
    assert mine.supernet.extract_given(blocks) is None
    assert not mine.supernet.extract(blocks).statistics_hold
    console = ReadConsole()
    pack(trained, tmp_path / "again", console=console)
    assert "the largest network of the entry is what training made of the given one" in console.said
    shown = one_entry(str(packed))
    assert "what training made of the network that was given" in str(dict(shown.shown.rows)["largest network"])
    assert (shown.to_json()["is_of_given"], shown.to_json()["is_given"]) == (True, False)


def test_a_network_that_was_not_trained_stays_the_given_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = adapted(tmp_path, monkeypatch, {"train.steps": 0})
    pack(config, tmp_path / "own", console=ReadConsole())
    theirs, mine = Workspace(config), taken(tmp_path / "own", tmp_path / "of-it", config)
    space = mine.training_space
    largest = mine.supernet.extract(space.named_blocks(space.largest()))
    assert largest.statistics_hold
    assert not mine.supernet.extract(space.named_blocks(space.smallest())).statistics_hold
    for name, encoding in some(theirs).items():
        wanted = answers(theirs, encoding, images=theirs)
        assert (answers(mine, encoding, images=theirs) - wanted).abs().max() <= 5e-3 * wanted.abs().max(), name
    scores = [make_evaluator(work)(space.named_blocks(space.largest())).value for work in (mine, theirs)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)  # two of a hundred images
    rows = dict(one_entry(str(tmp_path / "own")).shown.rows)
    assert rows["largest network"] == "the network that was given; nothing was trained"
    assert rows["trained with"] == "hwnas adapt --no-training"


def test_frozen_statistics_are_those_of_every_network_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = adapted(tmp_path, monkeypatch, {"train.batch_norm": "frozen"})
    pack(config, tmp_path / "own", console=ReadConsole())
    theirs, mine = Workspace(config), taken(tmp_path / "own", tmp_path / "of-it", config)
    assert mine.identity["batch_norm"] == "frozen"
    for name, encoding in some(theirs).items():
        assert mine.supernet.extract(mine.training_space.named_blocks(encoding)).statistics_hold, name
        wanted = answers(theirs, encoding, images=theirs)
        assert (answers(mine, encoding, images=theirs) - wanted).abs().max() <= 5e-3 * wanted.abs().max(), name


def test_images_are_seen_as_the_given_network_saw_them(packed: Path, tmp_path: Path) -> None:
    assert (find_entry(str(packed)).card.mean, find_entry(str(packed)).card.std) == (MEAN, STD)
    for source in (f"zoo:{packed}", "digits"):
        images = Workspace(config_of(packed, tmp_path / "run", **{"data.source": source})).images
        assert (images.mean, images.std) == (MEAN, STD), source


def test_batches_are_of_the_size_that_the_networks_bring_images_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = adapted(tmp_path, monkeypatch, {"model.input": [1, 160, 160], "train.steps": 0})
    pack(config, tmp_path / "own", console=ReadConsole())
    theirs, mine = Workspace(config), taken(tmp_path / "own", tmp_path / "of-it", config)
    assert mine.stream("test").batch_size == theirs.stream("test").batch_size == 4_000_000 // 160**2


def test_what_a_run_of_it_evaluated_is_known_to_the_next(packed: Path, tmp_path: Path) -> None:
    first = config_of(packed, tmp_path / "first")
    for stage in (pipeline.train, pipeline.profile, pipeline.search):
        stage(first, console=ReadConsole())
    assert pack(first, packed, console=ReadConsole()).known == first.search.n_trials
    second = first.replaced({"output.folder": str(tmp_path / "second")})
    for stage in (pipeline.train, pipeline.profile):
        stage(second, console=ReadConsole())
    assert pipeline.search(second, console=ReadConsole()).evaluations.reused > 0


def test_the_deployed_file_computes_what_the_network_does_on_this_machine(packed: Path, tmp_path: Path) -> None:
    config = config_of(packed, tmp_path / "of-it", **{"device.name": "cpu", "search.n_trials": 4})
    made = pipeline.run_all(config, console=ReadConsole())
    assert made.manifest.parity.top1_agreement == 1.0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fixed.stem.1.running_var", None, r"do not fit its network .*fixed\.stem\.1\.running_var"),
        ("fixed.stem.1.running_var", torch.zeros(3), r"do not fit its network .*fixed\.stem\.1\.running_var"),
        ("order.stem.0", None, r"no order of units"),
        ("order.stem.0", torch.zeros(8, dtype=torch.long), "must name each of them once"),
        ("weights.head/weight", None, "does not fit space"),
    ],
)
def test_weights_that_do_not_fit_the_network_are_refused(
    name: str, value: Tensor | None, said: str, trained: Config, packed: Path, tmp_path: Path
) -> None:
    """A folder of anybody's, whose checksums are right."""
    tensors = safetensors.torch.load_file(packed / WEIGHTS)
    assert name in tensors
    tensors = {k: t for k, t in tensors.items() if k != name} | ({} if value is None else {name: value})
    safetensors.torch.save_file(tensors, packed / WEIGHTS)
    entry = find_entry(str(packed))
    seal(entry, list(entry.card.files))
    with pytest.raises(CheckpointError, match=said):
        _ = taken(packed, tmp_path / "of-it", trained).supernet


def test_statistics_of_no_known_kind_are_refused(packed: Path) -> None:
    values = {k: v for k, v in read_document(packed / "card.json").items() if k != "sha256"}
    write_document(packed / "card.json", {**values, "batch_norm": "melted"})
    with pytest.raises(ConfigError, match="batch_norm 'melted'; known: recalibrated, frozen"):
        find_entry(str(packed))


def test_a_training_does_not_begin_with_it(packed: Path, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "new", {"train.start_from": str(packed)})
    with pytest.raises(ConfigError, match=r"networks are parts of a given one, .*hwnas run --supernet"):
        pipeline.train(config, console=ReadConsole())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.labels": "network"}, "labels of this run are what its given network answers"),
        (
            {"data.labels": "network", "task.name": "outputs", "model.source": "python:own_nets:two"},
            "labels of this run are what its given network answers",
        ),
        (
            {"task.name": "regression", "data.source": "npz:heights.npz"},
            "only supernets that classify images can be packed, .* for regression",
        ),
    ],
)
def test_other_networks_than_those_that_classify_images_are_refused(
    changes: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("heights.npz", x_train=rng.integers(0, 99, (99, 8, 8, 1), dtype=np.uint8), y_train=rng.random((99, 1)))
    config = tiny_config(tmp_path / "run").replaced(
        {"model.source": "python:own_nets:make", "model.input": [1, 8, 8], "space.preset": None, **changes}
    )
    with pytest.raises(ConfigError, match=said):
        pack(config, tmp_path / "own", console=ReadConsole())
    assert not (tmp_path / "own").exists()

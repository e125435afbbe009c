"""Runs of a packed supernet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.appending import read_sealed
from hwnas.config import Config, TrainConfig, load_config, parse_config
from hwnas.data import load_data
from hwnas.deployment import load
from hwnas.errors import CheckpointError, ConfigError, DataError
from hwnas.pipeline import packing as packing_stage
from hwnas.pipeline.packing import Packing, pack
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from hwnas.zoo import ENTRIES, find_entry, one_entry
from hwnas.zoo.images import as_trained_on
from tests.runs import ReadConsole


def config_of(packed: Path, folder: Path, **changes: object) -> Config:
    """A run of it that takes seconds."""
    config = tiny_config(folder, {"limits.latency_fraction": 1.5, "train.n_random": 2})
    values = {"train.supernet": str(packed), "train.steps": None, "space.preset": None, "data.source": None}
    return config.replaced({**values, **changes})


def test_the_whole_way_trains_nothing_and_asks_for_no_other_images(packed: Path, tmp_path: Path) -> None:
    config, console = config_of(packed, tmp_path / "run"), ReadConsole()
    assert config.data.source == f"zoo:{packed}"
    made = pipeline.run_all(config, console=console)
    assert made.manifest.parity.top1_agreement == 1.0
    assert "nothing is trained: the supernet is few-digits (few digits)" in console.said
    checkpoint = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    pipeline.train(load_config(tmp_path / "run"), console=ReadConsole())  # again: nothing changes
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == checkpoint


def test_what_a_run_evaluated_goes_into_the_folder_and_is_known_to_the_next(packed: Path, tmp_path: Path) -> None:
    first = config_of(packed, tmp_path / "first")
    for stage in (pipeline.train, pipeline.profile, pipeline.search):
        stage(first, console=ReadConsole())
    result = pack(first, packed, console=ReadConsole())
    assert result.known == first.search.n_trials
    second = first.replaced({"output.folder": str(tmp_path / "second")})
    for stage in (pipeline.train, pipeline.profile):
        stage(second, console=ReadConsole())
    found = pipeline.search(second, console=ReadConsole())
    assert found.evaluations.reused > 0
    third, console = first.replaced({"output.folder": str(tmp_path / "third")}), ReadConsole()
    pipeline.train(third, console=console)
    assert f"accuracies of {result.known} networks come with it" in console.said
    assert found.evaluations.measured < first.search.n_trials


def test_what_several_runs_evaluated_comes_together(packed: Path, tmp_path: Path) -> None:
    known = set()
    for name, seed in (("first", 1), ("second", 2)):  # side by side: neither knows of the other's networks
        config = config_of(packed, tmp_path / name, **{"search.seed": seed, "search.sampler": "random"})
        for stage in (pipeline.train, pipeline.profile, pipeline.search):
            stage(config, console=ReadConsole())
    for name in ("first", "second", "first"):
        config = load_config(tmp_path / name)
        (file,) = (tmp_path / name / "search").glob("accuracies-*.jsonl")
        known |= {network["key"] for network in read_sealed(file)[1:]}
        result = pack(config, packed, console=ReadConsole())
        assert result.known == len(known)
    entry = find_entry(str(packed))
    (name,) = entry.known
    assert {network["key"] for network in read_sealed(packed / name)[1:]} == known
    assert len(known) > config.search.n_trials


def test_what_is_damaged_is_not_sealed_anew(packed: Path, tmp_path: Path) -> None:
    config = config_of(packed, tmp_path / "run")
    for stage in (pipeline.train, pipeline.profile, pipeline.search):
        stage(config, console=ReadConsole())
    content = bytearray((packed / "val.png").read_bytes())
    content[len(content) // 2] ^= 1
    (packed / "val.png").write_bytes(content)
    with pytest.raises(ConfigError, match="its content is not what its card says"):
        pack(config, packed, console=ReadConsole())
    with pytest.raises(ConfigError, match="its content is not what its card says"):
        find_entry(str(packed)).data()


def test_a_packed_supernet_is_not_overwritten(trained: Config, packed: Path) -> None:
    before = {p.name: p.read_bytes() for p in packed.iterdir()}
    with pytest.raises(ConfigError, match="is there already"):
        pack(trained, packed, console=ReadConsole())
    assert {p.name: p.read_bytes() for p in packed.iterdir()} == before


def test_nothing_is_left_of_a_packing_that_failed(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder, parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing_stage, "write_images", full)
    with pytest.raises(OSError, match="No space left"):
        pack(trained, tmp_path / "shared" / "new", console=ReadConsole())
    assert list((tmp_path / "shared").iterdir()) == []


def test_images_for_recalibration_are_of_all_classes_from_the_first(packed: Path) -> None:
    """Data of folders come class by class, and who takes fewer images takes the first ones."""
    targets = find_entry(str(packed)).data().train.targets
    assert len(set(targets[:50].tolist())) == 10


def test_photos_are_read_by_the_rule_of_the_training(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = np.clip(rng.normal(level, 20, (20, 26)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    changes = {"data.source": f"folder:{tmp_path / 'photos'}?size=8", "limits.latency_fraction": 1.5}
    config = tiny_config(tmp_path / "run", {**changes, "train.batch_size": 8})
    pipeline.train(config, console=ReadConsole())
    pack(config, tmp_path / "packed", console=ReadConsole())
    entry = find_entry(str(tmp_path / "packed"))
    assert entry.card.decoding == Workspace(config).images.decoding
    made = pipeline.run_all(config_of(tmp_path / "packed", tmp_path / "of-it"), console=ReadConsole())
    model = load(made.deployment)
    assert model.predict(tmp_path / "photos" / "dark" / "0.png") is not None


def test_a_run_of_it_is_not_packed_as_another(packed: Path, tmp_path: Path) -> None:
    config = config_of(packed, tmp_path / "run")
    with pytest.raises(ConfigError, match="which is packed already"):
        pack(config, tmp_path / "other", console=ReadConsole())
    with pytest.raises(ConfigError, match="has evaluated no networks yet"):
        pack(config, packed, console=ReadConsole())


def test_networks_are_those_of_the_training(trained: Config, packed: Path, tmp_path: Path) -> None:
    """But for the half precision of the weights: the same space, and the same accuracies to a few images."""
    config = config_of(packed, tmp_path / "run", **{"data.source": trained.data.source})
    pipeline.train(config, console=ReadConsole())
    mine, theirs = Workspace(config), Workspace(trained)
    assert mine.training_space == theirs.training_space
    assert (mine.images.mean, mine.images.std) == (theirs.images.mean, theirs.images.std)
    blocks = mine.training_space.named_blocks(mine.training_space.largest())
    for got, wanted in zip(
        mine.supernet.extract(blocks).parameters(), theirs.supernet.extract(blocks).parameters(), strict=True
    ):
        assert np.allclose(got.detach(), wanted.detach(), rtol=1e-3, atol=1e-6)


def test_a_folder_with_another_supernet_is_refused_and_stays(trained: Config, packed: Path, tmp_path: Path) -> None:
    own = trained.replaced({"output.folder": str(tmp_path / "run")})
    pipeline.train(own, console=ReadConsole())
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("c*")}
    config = config_of(packed, tmp_path / "run", **{"data.source": trained.data.source})
    with pytest.raises(CheckpointError, match="supernet was '', now"):
        pipeline.train(config, console=ReadConsole())
    assert {p: p.read_bytes() for p in (tmp_path / "run").glob("c*")} == before


def test_a_training_does_not_go_on_with_a_packed_one(trained: Config, packed: Path, tmp_path: Path) -> None:
    config = config_of(packed, tmp_path / "run", **{"data.source": trained.data.source})
    pipeline.train(config, console=ReadConsole())
    with pytest.raises(CheckpointError, match="supernet was"):
        pipeline.train(trained.replaced({"output.folder": str(tmp_path / "run")}), console=ReadConsole())


def test_images_of_ones_own_are_seen_as_those_of_the_training(packed: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 99, (300, 8, 8, 1), dtype=np.uint8), np.arange(300) % 10
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels)
    told: list[str] = []
    config = config_of(packed, tmp_path / "run", **{"data.source": f"npz:{tmp_path / 'own.npz'}"})
    found = Workspace(config, tell=told.append).images
    card = find_entry(str(packed)).card
    assert (found.mean, found.std) == (card.mean, card.std)
    without = Workspace(config.replaced({"train.supernet": None}), tell=told.append).images
    assert found.fingerprint != without.fingerprint
    assert not told  # their names are numbers, as those of the digits are


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x_train": np.zeros((99, 8, 8, 3), np.uint8)}, "images of 3.channels, and the supernet few-digits takes"),
        ({"n": 7}, "has 7 classes .*, and the supernet few-digits tells 10 apart"),
        ({"names": [str(9 - i) for i in range(10)]}, "in another order .*give them in its order: 0, 1, 2"),
    ],
)
def test_images_of_other_classes_are_refused(
    arrays: dict[str, object], said: str, packed: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    n = int(arrays.pop("n", 10))
    names = arrays.pop("names", None)
    x = rng.integers(0, 99, (99, 8, 8, 1), dtype=np.uint8)
    if "x_train" in arrays:
        x = rng.integers(0, 99, (99, 8, 8, 3), dtype=np.uint8)
    more = {} if names is None else {"class_names": np.array(names)}
    np.savez(tmp_path / "own.npz", x_train=x, y_train=np.arange(99) % n, **more)
    config = config_of(packed, tmp_path / "run", **{"data.source": f"npz:{tmp_path / 'own.npz'}"})
    for stage in (pipeline.train, pipeline.run_all):
        with pytest.raises(DataError, match=said):
            stage(config, console=ReadConsole())
    assert not (tmp_path / "run").exists()


def test_classes_without_names_are_taken_for_those_of_the_supernet(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwnas.zoo import images

    entry = find_entry(str(_named(trained, tmp_path)))
    told: list[str] = []
    images.as_trained_on(Workspace(trained).images, entry, tell=told.append)
    assert "taken for those of the supernet letters, in its order: a, b, c" in told[0]


def _named(trained: Config, tmp_path: Path) -> Path:
    packing = Packing(n_images=(50, 50, 50), class_names=tuple("abcdefghij"))
    pack(trained, tmp_path / "letters", packing=packing, console=ReadConsole())
    return tmp_path / "letters"


def test_as_many_names_of_classes_are_wanted_as_there_are(trained: Config, tmp_path: Path) -> None:
    for names in ("abc", "abcdefghijj", "abcdefghii"):
        with pytest.raises(ConfigError, match=rf"{len(names)} names of classes are given .*, and the run has 10"):
            pack(trained, tmp_path / "new", packing=Packing(class_names=tuple(names)), console=ReadConsole())


def test_a_name_is_that_of_one_that_ships_or_of_a_folder_with_a_card(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = Config.quick_start().data.source
    assert Config(train=TrainConfig(supernet="cifar10-mobilenet")).data.source == shipped
    (tmp_path / "cifar10-mobilenet").mkdir()  # of a run, say
    assert find_entry("cifar10-mobilenet").folder.parent == ENTRIES
    packed.rename(tmp_path / "cifar10-mobilenet")
    assert find_entry("cifar10-mobilenet").card.title == "few digits"
    assert find_entry("./cifar10-mobilenet").card.title == "few digits"
    assert find_entry("zoo:cifar10-mobilenet").folder.parent == ENTRIES
    assert Config(train=TrainConfig(supernet="cifar10-mobilenet")).data.source == "zoo:./cifar10-mobilenet"


def test_an_unfinished_or_other_run_is_not_packed(
    trained: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already; name a new folder"):
        pack(trained, tmp_path / "full", console=ReadConsole())
    many = Packing(n_images=(2_000_000, 1, 1))
    monkeypatch.setattr(packing_stage, "MOST_PIXELS", 20_000)
    with pytest.raises(ConfigError, match=r"training images of 8 x 8 pixels are too many .* at most 312"):
        pack(trained, tmp_path / "many", packing=many, console=ReadConsole())
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="is there already"):
        pack(trained, ".", console=ReadConsole())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="no trained supernet"):
        pack(trained.replaced({"output.folder": str(tmp_path / "none")}), tmp_path / "new", console=ReadConsole())
    assert not (tmp_path / "new").exists()
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["letter.txt"]


def test_another_supernet_brings_its_own_images(packed: Path, tmp_path: Path) -> None:
    config = config_of(packed, tmp_path / "run")
    assert config.replaced({"train.supernet": "of/another"}).data.source == "zoo:of/another"
    assert config.replaced({"train.supernet": None}).data.source == "digits"
    own = config.replaced({"data.source": "npz:own.npz"})
    assert own.replaced({"train.supernet": "zoo:another"}).data.source == "npz:own.npz"
    assert Config(train=TrainConfig(supernet="zoo:x")).data.source == "zoo:x"
    assert parse_config(config.to_toml()) == config


def test_settings_of_a_preset_or_a_training_contradict_a_trained_supernet(packed: Path, tmp_path: Path) -> None:
    for key, value, said in (
        ("space.preset", "resnet20", "space.preset is of a preset"),
        ("train.steps", 5, "steps is of a training"),
        ("train.epochs", 5.0, "epochs is of a training"),
        ("train.strategy", "compound", "strategy is of a training"),
        ("train.quantized_fraction", 0.5, "quantized_fraction is of a training"),
        ("train.experts", 2, "experts is of a training"),
        ("train.split_fraction", 0.5, "split_fraction is of a training"),
    ):
        with pytest.raises(ConfigError, match=said):
            config_of(packed, tmp_path / "run", **{key: value})
    with pytest.raises(ConfigError, match=r"and so has \[model\]"):
        config_of(packed, tmp_path, **{"model.source": "python:a:b", "model.input": [3, 8, 8]})


def test_fewer_of_its_networks_can_be_asked_for(packed: Path, tmp_path: Path) -> None:
    config = config_of(packed, tmp_path / "run", **{"space.kernel_sizes": [3]})
    pipeline.train(config, console=ReadConsole())
    blocks = Workspace(config).space.distinct_blocks()
    kernels = {dict(b.attributes)["kernel_size"] for b in blocks if "kernel_size" in dict(b.attributes)}
    assert kernels == {3}
    all_ = Workspace(config_of(packed, tmp_path / "all")).space.distinct_blocks()
    assert {dict(b.attributes)["kernel_size"] for b in all_ if "kernel_size" in dict(b.attributes)} > {3}


def test_a_supernet_without_images_wants_some_and_leaves_nothing_behind(without_images: Path, tmp_path: Path) -> None:
    config = config_of(without_images, tmp_path / "run")
    for stage in (pipeline.train, pipeline.run_all):
        with pytest.raises(DataError, match=r"few-digits came without images; give images of its 10 classes: --data"):
            stage(config, console=ReadConsole())
    assert not (tmp_path / "run").exists()
    shown = one_entry(str(without_images))
    assert shown.to_json()["has_images"] is False
    assert any("--data SOURCE" in note for note in shown.shown.notes)


def test_a_supernet_without_images_takes_those_of_its_classes_and_what_a_run_of_it_evaluated(
    without_images: Path, tmp_path: Path
) -> None:
    config = config_of(without_images, tmp_path / "run", **{"data.source": "digits"})
    pipeline.run_all(config, console=ReadConsole())
    result = pack(config, without_images, console=ReadConsole())
    assert (result.known, result.images) == (config.search.n_trials, {})
    assert ("images", "none") in result.shown.rows


def test_classes_without_names_take_those_of_the_data_in_its_order(without_images: Path, tmp_path: Path) -> None:
    data = load_data("digits", seed=0)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    entry, told = find_entry(str(without_images)), []
    found = as_trained_on(dataclasses.replace(data, class_names=names), entry, tell=told.append)
    assert found.class_names == names
    assert told == [
        "the classes of the supernet few-digits have no names; those of digits are taken for them, in this order: "
        "zero, one, two, three, four, ..."
    ]
    with pytest.raises(DataError, match=r"in another order \(9, 8, .*its order: 0, 1, 2, 3, 4, \.\.\."):
        as_trained_on(dataclasses.replace(data, class_names=data.class_names[::-1]), entry, tell=told.append)
    with pytest.raises(DataError, match=r"has 9 classes .* tells 10 apart: 0, 1, 2, 3, 4, \.\.\.\. Give images"):
        as_trained_on(dataclasses.replace(data, class_names=names[:9]), entry, tell=told.append)

"""Entries of the zoo: what is in them, and what is said where something is wrong with them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas import zoo
from hwnas.config import Config
from hwnas.data import ArrayDataset, load_data
from hwnas.errors import ConfigError, DataError
from hwnas.files import write_document
from hwnas.workspace import Workspace
from hwnas.zoo import find_entry
from hwnas.zoo.entry import WEIGHTS, write_images


def test_an_entry_has_the_weights_of_the_training_at_half_precision(trained: Config, packed: Path) -> None:
    tensors = find_entry(str(packed)).tensors()
    parameters = dict(Workspace(trained).supernet.named_parameters())
    assert tensors.keys() == parameters.keys()
    for name, p in parameters.items():
        wanted = p.detach().half().float() if p.dim() > 1 else p.detach()
        assert torch.equal(tensors[name], wanted), name
    assert any(p.dim() > 1 and not torch.equal(p, p.half().float()) for p in parameters.values())


def test_its_images_are_some_of_each_part_with_the_statistics_of_all(trained: Config, packed: Path) -> None:
    data, whole = load_data(f"zoo:{packed}", seed=0), Workspace(trained).images
    assert [len(data.train), len(data.validation), len(data.test)] == [200, 100, 50]
    assert (data.mean, data.std, data.class_names) == (whole.mean, whole.std, whole.class_names)
    assert data.augment == whole.augment
    for some, all_ in ((data.train, whole.train), (data.validation, whole.validation), (data.test, whole.test)):
        known = {(i.tobytes(), int(t)) for i, t in zip(np.asarray(all_.inputs), all_.targets, strict=True)}
        assert {(i.tobytes(), int(t)) for i, t in zip(np.asarray(some.inputs), some.targets, strict=True)} <= known


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_as_they_were(channels: int, packed: Path) -> None:
    rng = np.random.default_rng(0)
    part = ArrayDataset(
        inputs=rng.integers(0, 256, (7, 5, 6, channels), dtype=np.uint8), targets=np.arange(7, dtype=np.int64)
    )
    write_images(packed, dict.fromkeys(("train", "val", "test"), part))
    names = ("train.png", "val.png", "test.png", "labels.json")
    import hashlib

    entry = find_entry(str(packed))
    sums = {name: hashlib.sha256((packed / name).read_bytes()).hexdigest() for name in names}
    card = dataclasses.replace(
        entry.card, files={**entry.card.files, **sums}, class_names=tuple(map(str, range(7))), mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )  # fmt: skip
    card.write(packed)
    assert np.array_equal(np.asarray(find_entry(str(packed)).data().validation.inputs), np.asarray(part.inputs))


def test_a_card_comes_back_as_it_was_written(packed: Path) -> None:
    entry = find_entry(str(packed))
    card = dataclasses.replace(
        entry.card, measured=(zoo.Measured(network="smallest", macs=12, accuracies={"fp32": 0.25}),), seconds=3.5
    )
    card.write(packed)
    assert find_entry(str(packed)).card == card


@pytest.mark.parametrize("name", [WEIGHTS, "labels.json", "val.png"])
def test_a_changed_file_is_noticed(name: str, packed: Path) -> None:
    content = bytearray((packed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (packed / name).write_bytes(content)
    entry = find_entry(str(packed))
    with pytest.raises(ConfigError, match=f"{name}.*is not what its card says"):
        entry.tensors() if name == WEIGHTS else entry.data()


def test_a_missing_file_is_told(packed: Path) -> None:
    (packed / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match=f"{WEIGHTS}.*cannot be used"):
        find_entry(str(packed)).tensors()


def test_a_changed_card_is_noticed(packed: Path) -> None:
    text = (packed / "card.json").read_text()
    (packed / "card.json").write_text(text.replace("few digits", "few dogs"))
    with pytest.raises(ConfigError, match=r"card\.json cannot be used"):
        find_entry(str(packed))


@pytest.mark.parametrize(
    ("key", "value"),
    [("files", [1]), ("measured", [{"network": "a", "macs": 1, "accuracies": [1]}]), ("is_given", "no")],
)
def test_a_card_of_odd_values_is_refused(packed: Path, key: str, value: object) -> None:
    values = json.loads((packed / "card.json").read_text())
    values = {**{k: v for k, v in values.items() if k != "sha256"}, key: value}
    write_document(packed / "card.json", values)
    with pytest.raises(ConfigError, match=r"card\.json cannot be used"):
        find_entry(str(packed))


def test_a_file_that_leads_out_of_the_folder_is_not_read(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    values = json.loads((packed / "card.json").read_text())
    values["files"]["../secret"] = "0" * 64
    values = {key: value for key, value in values.items() if key != "sha256"}
    write_document(packed / "card.json", values)
    with pytest.raises(ConfigError, match="leads out of the folder"):
        find_entry(str(packed)).read("../secret")


@pytest.mark.parametrize("named", ["zoo:nothing-of-this-name", "nothing-of-this-name"])
def test_an_unknown_name_lists_those_that_ship(named: str) -> None:
    with pytest.raises(ConfigError, match=r"no trained supernet that ships .*, and no folder"):
        find_entry(named)


def test_a_folder_without_a_card_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"its card.json is missing; .*hwnas zoo pack RUN FOLDER"):
        find_entry(str(tmp_path))


def test_the_source_wants_a_name() -> None:
    with pytest.raises(DataError, match="wants a name or folder"):
        load_data("zoo", seed=0)
    with pytest.raises(DataError, match="no option 'size'"):
        load_data("zoo:some?size=3", seed=0)


def test_a_card_is_shown(packed: Path) -> None:
    found = zoo.one_entry(str(packed))
    rows = dict(found.shown.rows)
    assert rows["data"] == "digits"
    assert "not stated" in rows["licence"]
    assert found.to_json()["name"] == "few-digits"

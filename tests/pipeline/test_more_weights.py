"""The whole way of a supernet with more than one set of weights: trained, packed, taken again; what it cannot begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas import pipeline
from hwnas.config import Config
from hwnas.errors import CheckpointError
from hwnas.pipeline.packing import Packing, pack
from hwnas.supernet.elastic import NamedBlocks
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from hwnas.zoo import find_entry
from tests.runs import ReadConsole

KEYS = {"experts": 2, "split_fraction": 0.5}


@pytest.fixture(scope="module", params=sorted(KEYS))
def trained(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, str, str]:
    """A finished training, the key that gave it more weights, and what it said."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    config = tiny_config(folder, {f"train.{request.param}": KEYS[request.param], "train.steps": 3})
    console = ReadConsole()
    pipeline.train(config, console=console)
    return config, request.param, console.said


def networks(config: Config) -> list[NamedBlocks]:
    """Of both parts, where networks are parted by any choice."""
    space = Workspace(config).training_space
    return [space.named_blocks(space.smallest()), space.named_blocks(space.largest())]


def test_how_many_weights_there_are_is_told_and_by_what_networks_are_parted(trained) -> None:
    _, key, said = trained
    assert "the supernet holds " in said
    assert "; one set of them would be " in said
    assert ("the networks are parted by " in said) == (key == "split_fraction")


def test_a_finished_training_tells_by_what_its_networks_are_parted(trained) -> None:
    config, key, _ = trained
    console = ReadConsole()
    pipeline.train(config, console=console)
    assert ("is at step 3 of 3; the networks are parted by " in console.said) == (key == "split_fraction")


def test_it_is_packed_with_all_its_weights_and_taken_with_them(trained, tmp_path: Path) -> None:
    config, key, _ = trained
    pack(config, tmp_path / "packed", packing=Packing(n_images=(50, 20, 20)), console=ReadConsole())
    assert f"{key} = {KEYS[key]}" in find_entry(str(tmp_path / "packed")).card.recipe
    given = {"train.supernet": str(tmp_path / "packed"), "train.n_random": 2, "train.steps": None}
    taken = tiny_config(tmp_path / "taken").replaced({**given, "space.preset": None, "data.source": None})
    pipeline.train(taken, console=ReadConsole())
    before, after = Workspace(config).supernet, Workspace(taken).supernet
    for blocks in networks(config):
        for mine, theirs in zip(before.extract(blocks).parameters(), after.extract(blocks).parameters(), strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-2, atol=1e-3)  # matrices were kept at half precision


def test_its_weights_are_those_of_the_checkpoint_whatever_the_configuration_says_by_now(trained) -> None:
    config, key, _ = trained
    changed = config.replaced({f"train.{key}": 1 if key == "experts" else 0.0})
    before, after = Workspace(config).supernet, Workspace(changed).supernet
    for blocks in networks(config):
        for mine, theirs in zip(before.extract(blocks).parameters(), after.extract(blocks).parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_no_training_begins_with_it(trained, tmp_path: Path) -> None:
    config, _, _ = trained
    grown = tiny_config(tmp_path / "grown", {"train.start_from": str(config.output.folder)})
    with pytest.raises(CheckpointError, match="has several sets of weights"):
        pipeline.train(grown, console=ReadConsole())
    assert not (tmp_path / "grown").exists()

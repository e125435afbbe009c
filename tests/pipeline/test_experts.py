"""The whole way of a supernet with experts: trained, packed, taken again; what cannot be begun with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas import pipeline
from hwnas.config import Config
from hwnas.errors import CheckpointError, ConfigError
from hwnas.pipeline.packing import Packing, pack
from hwnas.supernet.elastic import Supernet
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from hwnas.zoo import find_entry
from tests.runs import ReadConsole


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Trained, which is told in the console of the first test."""
    config = tiny_config(tmp_path_factory.mktemp("experts") / "run", {"train.experts": 2, "train.steps": 3})
    console = ReadConsole()
    pipeline.train(config, console=console)
    assert "the supernet holds " in console.said
    return config


def test_it_is_packed_with_its_experts_and_taken_with_them(config: Config, tmp_path: Path) -> None:
    pack(config, tmp_path / "packed", packing=Packing(n_images=(50, 20, 20)), console=ReadConsole())
    assert "experts = 2" in find_entry(str(tmp_path / "packed")).card.recipe
    given = {"train.supernet": str(tmp_path / "packed"), "train.n_random": 2, "train.steps": None}
    taken = tiny_config(tmp_path / "taken").replaced({**given, "space.preset": None, "data.source": None})
    pipeline.train(taken, console=ReadConsole())
    before, after = Workspace(config).supernet, Workspace(taken).supernet
    assert isinstance(after, Supernet)
    assert after.router is not None
    space = Workspace(config).training_space
    blocks = space.named_blocks(space.largest())
    for mine, theirs in zip(before.extract(blocks).parameters(), after.extract(blocks).parameters(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-2, atol=1e-3)  # matrices were kept at half precision


def test_experts_are_those_of_the_checkpoint_whatever_the_configuration_says_by_now(config: Config) -> None:
    supernet = Workspace(config.replaced({"train.experts": 1})).supernet
    assert isinstance(supernet, Supernet)
    assert supernet.router is not None


def test_no_training_begins_with_it(config: Config, tmp_path: Path) -> None:
    grown = tiny_config(tmp_path / "grown", {"train.start_from": str(config.output.folder)})
    with pytest.raises(CheckpointError, match=r"several sets of weights \(train.experts\)"):
        pipeline.train(grown, console=ReadConsole())
    assert not (tmp_path / "grown").exists()


def test_experts_of_a_network_of_ones_own_are_refused(tmp_path: Path) -> None:
    own = {"model.source": "python:a:b", "model.input": [1, 8, 8], "space.preset": None}
    with pytest.raises(ConfigError, match=r"train\.experts is for a preset"):
        tiny_config(tmp_path, {"train.experts": 2, **own})

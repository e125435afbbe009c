"""A supernet that was trained for a moment and packed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.pipeline.packing import Packing, pack
from hwnas.testing.run import tiny_config
from hwnas.zoo import find_entry
from hwnas.zoo.entry import WEIGHTS
from hwnas.zoo.writing import seal
from tests.runs import ReadConsole


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of digits whose supernet is trained, for integers as well; not to be changed."""
    config = tiny_config(tmp_path_factory.mktemp("trained") / "run", {"train.quantized_fraction": 0.5})
    pipeline.train(config, console=ReadConsole())
    return config


@pytest.fixture(scope="session")
def packed_once(trained: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "few-digits"
    pack(trained, folder, packing=Packing(title="few digits", n_images=(200, 100, 50)), console=ReadConsole())
    return folder


@pytest.fixture
def packed(packed_once: Path, tmp_path: Path) -> Path:
    """The folder of a packed supernet, to be changed at will."""
    return Path(shutil.copytree(packed_once, tmp_path / "few-digits"))


@pytest.fixture
def without_images(packed: Path) -> Path:
    """The same of a supernet that came without images."""
    for name in ("train.png", "val.png", "test.png", "labels.json"):
        (packed / name).unlink()
    seal(find_entry(str(packed)), [WEIGHTS])
    return packed

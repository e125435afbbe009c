"""The supernets that ship: whole, as good as their cards say, and known to a first search."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.accuracy import SubnetEvaluator
from hwnas.config import Config
from hwnas.pipeline.evaluating import Evaluations
from hwnas.workspace import Workspace
from hwnas.zoo import ENTRIES, entry_names, find_entry
from tests.runs import ReadConsole

_MOST_BYTES = 16_000_000  # of all entries, in the wheel


def test_all_of_them_together_are_small_enough_for_the_wheel() -> None:
    assert entry_names()
    assert sum(p.stat().st_size for p in ENTRIES.rglob("*") if p.is_file()) <= _MOST_BYTES


def test_the_quick_start_is_of_one_that_ships() -> None:
    assert find_entry(Config.quick_start().train.supernet or "").folder.parent == ENTRIES


@pytest.mark.parametrize("name", entry_names())
def test_every_file_is_what_its_card_says(name: str) -> None:
    entry = find_entry(f"zoo:{name}")
    assert entry.card.name == name
    assert {p.name for p in entry.folder.iterdir()} == {*entry.card.files, "card.json"}
    for file in entry.card.files:
        entry.read(file)
    assert entry.card.measured
    assert not any(word in entry.card.recipe for word in ("/tmp", "/home"))
    assert not {"not stated", ""} & {entry.card.licence, entry.card.hardware}


@pytest.fixture(scope="module", params=entry_names())
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run of one, as the quick start begins it."""
    folder = tmp_path_factory.mktemp("shipped") / request.param
    config = Config.of_supernet(f"zoo:{request.param}").replaced({"output.folder": str(folder), "train.threads": 1})
    pipeline.train(config, console=ReadConsole())
    return Workspace(config)


def test_its_known_accuracies_are_known_to_a_run_of_today(work: Workspace) -> None:
    """Where this fails, evaluation is another than when it was packed: `benchmarks/make_zoo.py` makes it anew."""
    known = Evaluations.of(work).known.networks
    assert len(known) >= 100
    # of the space, whatever this machine computes its integers in
    space = work.training_space
    assert all(set(n.architecture) >= {c.name for c in space.choices if "." not in c.name} for n in known)
    assert all(0.5 < n.accuracy < 1 for n in known)


def test_its_smallest_network_is_as_good_as_its_card_says(work: Workspace) -> None:
    entry = work.zoo_entry
    assert entry is not None
    (card,) = [m for m in entry.card.measured if m.network == "smallest"]
    found = {}
    for precision in ("fp32", "int8"):
        space = work.training_space.restrict(precisions=(precision,))
        evaluator = SubnetEvaluator(work.supernet, train=work.stream("train"), validation=work.stream("test"))
        found[precision] = evaluator(space.named_blocks(space.smallest())).value
    assert found["fp32"] == pytest.approx(card.accuracies["fp32"], abs=0.04)  # of 1,000 of its 10,000 test images
    assert found["int8"] == pytest.approx(found["fp32"], abs=0.02)


def test_a_network_is_no_better_for_having_seen_its_validation_images(work: Workspace) -> None:
    """Images to rank networks by were set aside in the training: no image of one part is in another."""
    data = work.images
    parts = [{image.tobytes() for image in part.inputs} for part in (data.train, data.validation, data.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def test_the_data_card_tells_where_images_are_from() -> None:
    for name in entry_names():
        assert len(find_entry(f"zoo:{name}").card.data) > 40
        assert not list(Path(ENTRIES / name).glob(".*"))

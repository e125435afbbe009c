"""Accuracies that are known: found again, kept whole, told apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hwnas.accuracy.known import Conditions, KnownAccuracies, KnownNetwork, network_key
from hwnas.appending import append_sealed, read_sealed
from hwnas.errors import StudyError
from hwnas.testing.spaces import tiny_space

CONDITIONS = Conditions(
    checkpoint_sha256="9f86d081",
    quantization="asymmetric",
    validation_samples=None,
    recalibration_samples=512,
    calibration_samples=256,
    version="1",
)
FIRST = KnownNetwork(key="a", architecture={"depth": 2, "se": True, "precision": "int8"}, accuracy=0.75)
SECOND = KnownNetwork(key="b", architecture={"depth": 1}, accuracy=1.0)


@pytest.fixture
def known(tmp_path: Path) -> KnownAccuracies:
    known = KnownAccuracies(tmp_path, CONDITIONS)
    known.add(FIRST)
    return known


def test_nothing_is_written_before_something_is_known(tmp_path: Path) -> None:
    assert KnownAccuracies(tmp_path / "new", CONDITIONS).find("a") is None
    assert not (tmp_path / "new").exists()


def test_what_was_added_is_found_by_the_next_one(known: KnownAccuracies, tmp_path: Path) -> None:
    again = KnownAccuracies(tmp_path, CONDITIONS)
    assert again.find("a") == FIRST
    assert again.networks == (FIRST,)


def test_what_another_process_adds_is_found(known: KnownAccuracies, tmp_path: Path) -> None:
    other = KnownAccuracies(tmp_path, CONDITIONS)
    other.add(SECOND)
    assert known.find("b") == SECOND
    assert known.networks == (FIRST, SECOND)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Conditions)])
def test_under_other_conditions_nothing_is_known(name: str, known: KnownAccuracies, tmp_path: Path) -> None:
    changed = "other" if isinstance(getattr(CONDITIONS, name), str) else 7
    other = KnownAccuracies(tmp_path, dataclasses.replace(CONDITIONS, **{name: changed}))
    assert other.find("a") is None
    assert other.path != known.path


def test_a_line_that_was_cut_short_is_as_if_it_had_not_been(known: KnownAccuracies, tmp_path: Path) -> None:
    known.add(SECOND)
    known.path.write_bytes(known.path.read_bytes()[:-5])
    again = KnownAccuracies(tmp_path, CONDITIONS)
    assert again.networks == (FIRST,)
    again.add(SECOND)
    assert KnownAccuracies(tmp_path, CONDITIONS).networks == (FIRST, SECOND)


@pytest.mark.parametrize(
    ("old", "new"), [("0.75", "0.95"), ('"depth":2', '"depth":1'), ('"key":"a"', '"key":"c"'), ('"line"', '"linf"')]
)
def test_a_damaged_line_is_put_aside_and_told_and_the_others_stay(
    old: str, new: str, known: KnownAccuracies, tmp_path: Path
) -> None:
    known.add(SECOND)
    lines = known.path.read_text().splitlines(keepends=True)
    assert old in lines[1]
    known.path.write_text("".join([lines[0], lines[1].replace(old, new), lines[2]]))
    again = KnownAccuracies(tmp_path, CONDITIONS)
    assert "line 2 is damaged" in again.repaired[0]
    assert again.networks == (SECOND,)
    assert again.find("a") is None
    again.add(FIRST)
    assert KnownAccuracies(tmp_path, CONDITIONS).networks == (SECOND, FIRST)
    assert not KnownAccuracies(tmp_path, CONDITIONS).repaired


def test_damaged_conditions_put_the_whole_file_aside(known: KnownAccuracies, tmp_path: Path) -> None:
    known.path.write_text(known.path.read_text().replace("512", "513"))
    again = KnownAccuracies(tmp_path, CONDITIONS)
    assert "line 1 is damaged" in again.repaired[0]
    assert not again.networks
    again.add(FIRST)
    assert KnownAccuracies(tmp_path, CONDITIONS).networks == (FIRST,)


def test_a_file_that_another_process_repaired_is_read_again(known: KnownAccuracies, tmp_path: Path) -> None:
    known.add(SECOND)
    lines = known.path.read_text().splitlines(keepends=True)
    known.path.write_text("".join([lines[0], "damaged\n", lines[2]]))
    other = KnownAccuracies(tmp_path, CONDITIONS)
    other.add(KnownNetwork(key="c", architecture={}, accuracy=0.5))
    other.add(KnownNetwork(key="d", architecture={}, accuracy=0.25))
    assert [n.accuracy for key in "cd" if (n := known.find(key)) is not None] == [0.5, 0.25]


def test_damage_while_the_file_is_open_says_what_to_do(known: KnownAccuracies) -> None:
    with known.path.open("a") as f:
        f.write("no JSON\n")
    with pytest.raises(StudyError, match=r"line 3 is damaged.* run the same command again"):
        known.find("b")
    with pytest.raises(StudyError, match="run the same command again"):
        known.add(SECOND)


@pytest.mark.parametrize("bad", [{"key": 1}, {"accuracy": 1.5}, {"architecture": None}])
def test_a_sound_line_that_is_no_network_is_named(bad: dict[str, object], known: KnownAccuracies) -> None:
    append_sealed(known.path, [{**dataclasses.asdict(SECOND), **bad}])
    with pytest.raises(StudyError, match=r"line 3 is damaged .* delete the file"):
        known.find("b")


def test_a_file_without_checksums_is_read_and_gets_some(known: KnownAccuracies, tmp_path: Path) -> None:
    head, *rest = read_sealed(known.path)
    known.path.write_text("".join(json.dumps(v) + "\n" for v in ({**head, "schema": 1}, *rest)))
    assert KnownAccuracies(tmp_path, CONDITIONS).networks == (FIRST,)
    assert read_sealed(known.path) == [head, *rest]


def test_networks_that_the_space_lacks_keep_their_keys_of_an_earlier_version(tmp_path: Path) -> None:
    path = KnownAccuracies(tmp_path, CONDITIONS).path
    first = {"kind": "accuracies", "schema": 2, **dataclasses.asdict(CONDITIONS)}
    append_sealed(path, [dataclasses.asdict(FIRST), dataclasses.asdict(SECOND)], first=first)
    known = KnownAccuracies(tmp_path, CONDITIONS, key_of=lambda a: "new" if a["depth"] == 2 else None)
    assert [n.key for n in known.networks] == ["new", "b"]


def test_networks_of_different_blocks_have_different_keys() -> None:
    space = tiny_space()
    largest, smallest = (space.named_blocks(e) for e in (space.largest(), space.smallest()))
    assert network_key(largest) != network_key(smallest)
    assert network_key(largest) == network_key(space.named_blocks(space.largest()))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_network_is_the_same_where_its_precision_is_the_only_one(precision: str) -> None:
    both = tiny_space()
    one = both.restrict(precisions=[precision])
    of_both = {c.name: precision for c in both.choices if c.name.endswith("precision")}
    for encoding in (one.largest(), one.smallest()):
        same = both.encode({**of_both, **one.decode(encoding)})
        assert network_key(one.named_blocks(encoding)) == network_key(both.named_blocks(same))

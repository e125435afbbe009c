"""Profiling: what is measured, going on after an interruption, and what the tables must be of."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.appending import read_sealed
from hwnas.config import Config
from hwnas.cost.cuts import cut_of
from hwnas.cost.table import LatencyTable
from hwnas.errors import ConfigError, ExportError, TableContextError, TableError
from hwnas.pipeline._candidate import Bench
from hwnas.pipeline._timed_table import timing
from hwnas.pipeline.costs import MIXED, anchor_path, largest_network, load_costs, precision_of, table_path
from hwnas.pipeline.profiling import sample_networks
from hwnas.precisions import is_conversion
from hwnas.supernet import untrained
from hwnas.supernet.untrained import Untrained
from hwnas.testing.fake import OPTIONS
from hwnas.testing.run import describe_fake_device, tiny_config
from hwnas.types import Block, Option
from hwnas.workspace import Workspace
from tests.runs import ReadConsole, contents


def test_every_block_and_network_is_in_the_tables(config: Config) -> None:
    work = Workspace(config)
    for block in work.space.distinct_blocks():
        assert LatencyTable.open(table_path(work, block.precision)).latency_ms(block.key) > 0
    measured = {
        precision: {n.blocks for n in LatencyTable.open(table_path(work, precision)).networks}
        for precision in ("fp32", "int8", MIXED)
    }
    for network in sample_networks(work):
        assert tuple(b.key for b in network) in measured[precision_of(network)]


def test_each_tensor_that_blocks_hand_on_is_cut_by_a_pair(config: Config) -> None:
    work = Workspace(config)
    for precision in ("fp32", "int8"):
        part = work.space.restrict(precisions=(precision,))
        kept = list(part.sample(50, np.random.default_rng(0), over="encodings"))
        handed_on = {
            cut_of(a)
            for encoding in kept
            for a, b in itertools.pairwise(block for _, block in part.named_blocks(encoding))
            if not (is_conversion(a.kind) or is_conversion(b.kind))
        }
        pairs = LatencyTable.open(table_path(work, precision)).pairs
        assert {cut_of(Block.from_key(n.blocks[0])) for n in pairs} == handed_on
        for first, second in (n.blocks for n in pairs):
            assert Block.from_key(first).out_shape == Block.from_key(second).in_shape


def test_a_pair_that_cannot_be_written_costs_nobody_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = untrained.untrained_part

    def refuse(part: Sequence[Block], **settings: Any) -> Untrained:
        if len(part) > 1:
            raise ExportError("no such neighbours")
        return whole(part, **settings)

    monkeypatch.setattr(untrained, "untrained_part", refuse)
    console = ReadConsole()
    result = pipeline.profile(tiny_config(tmp_path), console=console)
    assert "not all pairs of neighbouring blocks could be measured in int8" in console.said
    assert "no such neighbours" in console.said
    assert "the reasons are in the tables" not in console.said
    assert not result.correction.cuts
    assert result.n_networks > 4


def test_no_pair_is_timed_in_a_precision_that_the_space_has_not(tmp_path: Path, measured: list[str]) -> None:
    """The largest network is measured in the widest precision all the same."""
    config = tiny_config(tmp_path, {"space.precisions": ["int8"]})
    pipeline.profile(config, console=ReadConsole())
    assert LatencyTable.open(table_path(Workspace(config), "int8")).pairs
    assert not LatencyTable.open(table_path(Workspace(config), "fp32")).pairs
    measured.clear()
    pipeline.profile(config, console=ReadConsole())
    assert not measured


def test_pairs_of_a_space_beside_are_no_pairs_of_this_one(config: Config, measured: list[str]) -> None:
    table = LatencyTable.open(table_path(Workspace(config), "fp32"))
    elsewhere = [
        [key.replace("kernel_size=3", "kernel_size=9") for key in pair.blocks]
        for pair in table.pairs
        if any("kernel_size=3" in key for key in pair.blocks)
    ]
    table.path.unlink()
    other = LatencyTable.open(table.path, table.context)
    for keys in elsewhere:
        other.append_network(keys, table.pairs[0].statistic, size_bytes=1, is_pair=True)
    pipeline.profile(config, console=ReadConsole())
    assert sum(key.startswith("pair ") for key in measured) == len(table.pairs)


def test_networks_of_every_precision_correct_the_sums(config: Config) -> None:
    work = Workspace(config)
    networks = list(sample_networks(work))
    found = [precision_of(n) for n in networks]
    assert tuple(b.key for b in networks[0]) == largest_network(work)
    assert min(found.count("fp32"), found.count("int8"), found.count(MIXED)) >= config.profile.n_networks - 1


def test_the_same_configuration_measures_the_same_networks(config: Config) -> None:
    assert list(sample_networks(Workspace(config))) == list(sample_networks(Workspace(config)))


def test_an_ideal_device_is_predicted_closely(config: Config) -> None:
    """The fake device's network costs are sums of block costs: noise is left, and a fit to nine networks."""
    correction = pipeline.profile(config, console=ReadConsole()).to_json()["correction"]
    assert correction["quality"]["mean_abs_error_percent"] < 5.0


def test_rounds_are_bounded_by_the_configuration(config: Config) -> None:
    bounded = timing(Workspace(config.replaced({"profile.rounds": 5})), rounds=41, min_rounds=15)
    assert (bounded.rounds, bounded.min_rounds) == (5, 5)
    assert timing(Workspace(config), rounds=41, min_rounds=15).rounds == 41


# ---------------------------------------------------------------- damage


def test_a_changed_digit_is_refused_by_the_search_and_measured_again_by_the_profile(
    config: Config, measured: list[str]
) -> None:
    work = Workspace(config)
    path = table_path(work, "fp32")
    lines = path.read_bytes().splitlines(keepends=True)
    key = read_sealed(path)[3]["block"]
    lines[3] = lines[3].replace(b'"fastest":0', b'"fastest":9', 1)
    path.write_bytes(b"".join(lines))
    with pytest.raises(TableError, match=r"line 4 is damaged.*hwnas profile"):
        load_costs(work)
    with pytest.raises(TableError, match=r"line 4 is damaged.*hwnas profile"):
        pipeline.search(config, console=ReadConsole())
    console = ReadConsole()
    pipeline.profile(config, console=console)
    assert measured == [key]
    assert "line 4 is damaged" in console.said
    assert load_costs(work).entries[key] > 0


def test_a_table_without_checksums_gets_them_and_nothing_is_measured(config: Config, measured: list[str]) -> None:
    path = table_path(Workspace(config), "fp32")
    head, *rest = read_sealed(path)
    path.write_text("".join(json.dumps(v) + "\n" for v in ({**head, "schema": 1}, *rest)))
    before = load_costs(Workspace(config)).entries
    console = ReadConsole()
    pipeline.profile(config, console=console)
    assert not measured
    assert "had no checksums yet" in console.said
    assert read_sealed(path) == [head, *rest]
    assert load_costs(Workspace(config)).entries == before


# ---------------------------------------------------------------- going on


def test_an_interrupted_profile_goes_on_where_it_was(tmp_path: Path, measured: list[str]) -> None:
    config = tiny_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pipeline.profile(config, console=ReadConsole(interrupt_after=("blocks, int8", 1)))
    table = LatencyTable.open(table_path(Workspace(config), "int8"))
    measured.clear()
    pipeline.profile(config, console=ReadConsole())
    blocks = [key for key in measured if not key.startswith(("network ", "pair "))]
    n_all = len(Workspace(config).space.distinct_blocks())
    assert 0 < len(table.entries) < 20
    assert len(blocks) == n_all - len(table.entries)
    assert not set(blocks) & set(table.entries)
    assert dict(table.entries).items() <= dict(LatencyTable.open(table.path).entries).items()


def test_more_networks_are_added_to_those_there_are(config: Config, measured: list[str]) -> None:
    before = len(load_costs(Workspace(config)).networks)
    pipeline.profile(config.replaced({"profile.n_networks": 5}), console=ReadConsole())
    assert len(load_costs(Workspace(config)).networks) == before + len(measured)
    assert 1 <= len(measured) <= 15


# ---------------------------------------------------------------- contexts


def test_a_table_of_another_machine_is_refused_and_the_difference_named(config: Config, tmp_path: Path) -> None:
    options: dict[str, Option] = {"noise": 0.01, "drift": 0.2, "seed": 0, "hardware": "another processor"}
    device = describe_fake_device(tmp_path / "devices", options)
    before = contents(Path(config.output.folder))
    with pytest.raises(TableContextError, match="hardware: table has 'simulated processor', here it is 'another") as e:
        pipeline.profile(config.replaced({"device.name": device}), console=ReadConsole())
    assert e.value.differences["hardware"] == (OPTIONS["hardware"], "another processor")
    assert contents(Path(config.output.folder)) == before


def test_a_table_for_other_threads_is_refused(config: Config) -> None:
    with pytest.raises(TableContextError, match="threads: table has 1, here it is 2"):
        pipeline.profile(config.replaced({"device.threads": 2}), console=ReadConsole())


def test_a_table_keeps_its_drift_anchor_when_an_exporter_would_write_another(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(Workspace(config).tables)
    monkeypatch.setattr("hwnas.supernet.untrained.drift_anchor", None)
    pipeline.profile(config, console=ReadConsole())
    assert contents(Workspace(config).tables) == before


def test_a_damaged_drift_anchor_is_written_again(config: Config) -> None:
    before = contents(Workspace(config).tables)
    anchor_path(Workspace(config), "int8").write_bytes(b"")
    pipeline.profile(config, console=ReadConsole())
    assert contents(Workspace(config).tables) == before


def test_tables_may_stand_in_a_folder_that_runs_share(config: Config, tmp_path: Path, measured: list[str]) -> None:
    shared = {"profile.tables": f"{config.output.folder}/latency_tables"}
    pipeline.profile(tiny_config(tmp_path / "other", shared), console=ReadConsole())
    assert not measured


def test_two_profiles_in_one_folder_are_refused(config: Config) -> None:
    work = Workspace(config)
    with work.alone("profiling"), pytest.raises(ConfigError, match="another process is profiling in"):
        pipeline.profile(config, console=ReadConsole())


def test_a_table_that_ships_for_the_device_is_begun_with(
    config: Config, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwnas.latency_tables.folder", lambda: Path(config.output.folder, "latency_tables"))
    shipped = contents(Workspace(config).tables)
    run = tiny_config(tmp_path / "new")
    pipeline.profile(run, console=ReadConsole())
    assert not measured
    assert contents(Workspace(run).tables) == shipped


def test_a_table_that_ships_for_another_context_is_left_alone(
    config: Config, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwnas.latency_tables.folder", lambda: Path(config.output.folder, "latency_tables"))
    pipeline.profile(tiny_config(tmp_path / "new", {"device.threads": 2}), console=ReadConsole())
    assert measured


def test_a_board_that_nobody_said_the_place_of_is_refused_with_the_way_to_say_it(tmp_path: Path) -> None:
    run = tiny_config(tmp_path / "run", {"device.name": "raspberry-pi-5"})
    with pytest.raises(ConfigError, match="hwnas devices new my-raspberry-pi-5 --like raspberry-pi-5 --host"):
        pipeline.profile(run, console=ReadConsole())


def test_a_damaged_drift_anchor_is_refused_by_the_export_and_made_again_by_the_profile(config: Config) -> None:
    path = anchor_path(Workspace(config), "fp32")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    bench = Bench(work=Workspace(config), worker=None, costs=None, limits={}, study="")  # type: ignore[arg-type]
    with pytest.raises(TableError, match=r"is not the drift anchor that fake-fp32\.jsonl .*hwnas profile"):
        bench.anchor("fp32")
    pipeline.profile(config, console=ReadConsole())
    assert path.read_bytes() == whole

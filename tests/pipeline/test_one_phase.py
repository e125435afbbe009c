"""Tables whose entries come from more than one phase of the machine: what is timed again, and what then counts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.cost.table import LatencyTable
from hwnas.measure import Worker
from hwnas.pipeline._one_phase import _drifts, phases_of
from hwnas.pipeline._timed_table import TimedTable
from hwnas.pipeline.costs import load_costs, table_path
from hwnas.types import Artefact, MeasurementFailure, Statistic
from hwnas.workspace import Workspace
from tests.runs import ReadConsole

SLOW = 1.5  # the anchor's time over its time in the table
_SLOWED = 1.2  # and that of what is timed, corrected: it is slowed more than the anchor


def slowed(statistic: Statistic) -> Statistic:
    """As it is in the slow phase."""
    return dataclasses.replace(
        statistic,
        minimum=_SLOWED * statistic.minimum,
        median=_SLOWED * statistic.median,
        p90=_SLOWED * statistic.p90,
        drift=SLOW,
        phase_drift=SLOW,
        phase_share=0.5,
    )


def slow_blocks(config: Config, *, n: int, precision: str = "fp32") -> list[str]:
    """Write n blocks of a table as if they had been timed in the slow phase; their keys."""
    table = LatencyTable.open(table_path(Workspace(config), precision))
    keys = [b.key for b in Workspace(config).space.distinct_blocks() if b.precision == precision][:n]
    table.append_blocks({key: slowed(table.statistics[key]) for key in keys})
    return keys


def stay_slow(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    """From now on whatever is measured is measured in the slow phase."""
    measure = Worker.measure

    def slow(self: Worker, artefacts: Mapping[str, Artefact], **arguments: object) -> object:
        asked.extend(artefacts)
        on_result = arguments.pop("on_result")
        keep = lambda key, result: on_result(key, slowed(result))  # type: ignore[operator]  # noqa: E731
        return measure(self, artefacts, on_result=keep, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Worker, "measure", slow)


def test_a_table_of_one_phase_is_left_alone(config: Config, measured: list[str]) -> None:
    result = pipeline.profile(config, console=ReadConsole())
    assert not measured
    assert result.n_outside_phase == 0


def test_blocks_of_a_slow_phase_are_timed_again_and_these_alone(config: Config, measured: list[str]) -> None:
    before = load_costs(Workspace(config)).entries
    keys = slow_blocks(config, n=5)
    assert load_costs(Workspace(config)).entries[keys[0]] > 1.1 * before[keys[0]]
    console = ReadConsole()
    result = pipeline.profile(config, console=console)
    assert measured == keys
    assert result.n_outside_phase == 0
    assert "times as slow" not in console.said
    assert load_costs(Workspace(config)).entries == pytest.approx(before, rel=0.05)


def test_networks_of_a_slow_phase_are_timed_again(config: Config, measured: list[str]) -> None:
    """All of them: a phase that every network shares is none to stay in while the blocks saw a faster one."""
    table = LatencyTable.open(table_path(Workspace(config), "int8"))
    networks = {n.blocks: n for n in table.networks}
    for keys, network in networks.items():
        table.append_network(keys, slowed(network.statistic), size_bytes=network.size_bytes)
    pipeline.profile(config, console=ReadConsole())
    assert len(measured) == len(networks)
    found = {n.blocks: n.statistic for n in LatencyTable.open(table.path).networks}
    for keys, network in networks.items():
        assert found[keys].minimum == pytest.approx(network.statistic.minimum, rel=0.05)


def test_pairs_of_a_slow_phase_are_timed_again(config: Config, measured: list[str]) -> None:
    table = LatencyTable.open(table_path(Workspace(config), "int8"))
    before = table.pairs
    for pair in before[:2]:
        table.append_network(pair.blocks, slowed(pair.statistic), size_bytes=pair.size_bytes, is_pair=True)
    pipeline.profile(config, console=ReadConsole())
    assert len(measured) == 2
    found = {n.blocks: n.statistic for n in LatencyTable.open(table.path).pairs}
    for pair in before[:2]:
        assert found[pair.blocks].minimum == pytest.approx(pair.statistic.minimum, rel=0.05)


def test_a_pair_is_told_from_a_network_of_its_two_blocks(config: Config) -> None:
    work = Workspace(config)
    table = LatencyTable.open(table_path(work, "fp32"))
    pair = table.pairs[0]
    blocks = {b.key: b for b in work.space.distinct_blocks()}
    network = tuple(blocks[key] for key in pair.blocks)
    table.append_network(pair.blocks, dataclasses.replace(pair.statistic, phase_drift=1.0), size_bytes=1)
    table.append_network(pair.blocks, slowed(pair.statistic), size_bytes=1, is_pair=True)
    opened = TimedTable(work=work, worker=None, table=table, anchor=None)  # type: ignore[arg-type]  # nothing is timed
    found = _drifts(opened, list(blocks.values()), [network])
    assert found[pair.blocks] == 1.0
    assert found["pair", *pair.blocks] == SLOW


def test_a_machine_that_stays_slow_is_asked_four_times_and_told(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = slow_blocks(config, n=5)
    asked: list[str] = []
    before = LatencyTable.open(table_path(Workspace(config), "fp32")).n_entries
    stay_slow(monkeypatch, asked)
    console = ReadConsole()
    result = pipeline.profile(config, console=console)
    assert asked == 3 * keys
    assert result.n_outside_phase == len(keys)
    assert result.shown.rows[2] == ("taken while the machine was slower", len(keys))
    assert re.search(
        r"5 times of \d+ .* 1\.[4-9]\d times as slow as for the others, and was so each of 4 times", console.said
    )
    # what is no nearer to the phase is not written
    assert LatencyTable.open(table_path(Workspace(config), "fp32")).n_entries == before


def test_a_failure_does_not_hide_the_time_there_is(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = slow_blocks(config, n=2)
    before = load_costs(Workspace(config)).entries

    def failing(self: Worker, artefacts: Mapping[str, Artefact], **arguments: object) -> dict[str, object]:
        results = {key: MeasurementFailure(reason="out of memory") for key in artefacts}
        for key, result in results.items():
            arguments["on_result"](key, result)  # type: ignore[operator]
        arguments["progress"](len(results), len(results), "")  # type: ignore[operator]
        return dict(results)

    monkeypatch.setattr(Worker, "measure", failing)
    assert pipeline.profile(config, console=ReadConsole()).n_outside_phase == len(keys)
    assert load_costs(Workspace(config)).entries == before


def test_one_anchor_has_one_time_in_all_tables(config: Config) -> None:
    """Networks of mixed precision are corrected by the anchor of floats."""
    work = Workspace(config)
    contexts = [LatencyTable.open(table_path(work, precision)).context for precision in ("fp32", "mixed")]
    assert contexts[0].reference_sha256 == contexts[1].reference_sha256
    assert contexts[0].reference_ms == contexts[1].reference_ms


def test_the_phase_of_a_table_is_the_fastest_that_enough_share() -> None:
    # one lucky entry is no phase
    assert phases_of({"fp32": [0.8, *[1.04] * 20, *[1.5] * 40]}) == {"fp32": 1.04}
    assert phases_of({"fp32": [1.3] * 30}) == {"fp32": 1.3}


def test_a_table_is_to_be_as_fast_as_the_others() -> None:
    assert phases_of({"fp32": [1.04] * 20, "mixed": [1.5] * 20}) == {"fp32": 1.04, "mixed": 1.04}
    # 1.08 of it is the same phase
    assert phases_of({"fp32": [1.0] * 20, "mixed": [1.08] * 20}) == {"fp32": 1.0, "mixed": 1.08}


def test_a_table_begun_in_a_slow_phase_makes_no_demands_on_the_others() -> None:
    assert phases_of({"fp32": [1.04] * 20, "int8": [0.7] * 20}) == {"fp32": 1.04, "int8": 0.7}


def test_tables_that_do_not_tell_have_no_phase() -> None:
    assert phases_of({"fp32": []}) == {}

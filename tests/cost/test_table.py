"""The latency table: round trips, contexts, and files that were cut off, damaged or written by two."""

import json
import multiprocessing
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas import appending
from hwnas.appending import append_sealed, read_sealed
from hwnas.cost._table_file import entry_values
from hwnas.cost.table import KEYS_SCHEMA, SCHEMA, BlockEntry, LatencyTable, NetworkEntry, TableContext, repair_table
from hwnas.errors import MissingEntryError, TableContextError, TableError
from hwnas.spaces.kinds import current_key
from hwnas.spaces.presets import mobilenet_tiny
from hwnas.types import Device, MeasurementFailure, Statistic

CONTEXT = TableContext(
    device="cpu",
    hardware="a processor",
    runtime="onnxruntime",
    runtime_version="1.2",
    threads=1,
    precision="fp32",
    reference_sha256="ab" * 32,
    reference_ms=1.5,
    date="2026-01-01",
)
STATISTIC = Statistic(minimum=0.25, median=0.25, p90=0.3, n=9, cv=0.01, drift=1.1)
FAILURE = MeasurementFailure(reason="died of SIGSEGV")


def filled(path: Path) -> LatencyTable:
    table = LatencyTable.open(path, CONTEXT)
    table.append_blocks({"a": STATISTIC}, sizes={"a": 100})
    table.append_blocks({"b": FAILURE})
    table.append_network(["a", "a"], replace(STATISTIC, minimum=0.6), size_bytes=300)
    table.append_blocks({"größe|µ": replace(STATISTIC, minimum=0.125)})
    return table


def same(a: LatencyTable, b: LatencyTable) -> bool:
    return (a.context, dict(a.statistics), dict(a.failures), a.networks) == (
        b.context,
        dict(b.statistics),
        dict(b.failures),
        b.networks,
    )


def test_the_phase_of_a_time_is_kept(tmp_path: Path) -> None:
    table = LatencyTable.open(tmp_path / "t.jsonl", CONTEXT)
    seen = replace(STATISTIC, phase_drift=1.02, phase_share=0.25)
    table.append_blocks({"a": seen, "b": STATISTIC})
    assert dict(LatencyTable.open(table.path).statistics) == {"a": seen, "b": STATISTIC}


def test_what_was_appended_is_there_after_opening_again(tmp_path: Path) -> None:
    table = filled(tmp_path / "t.jsonl")
    assert same(table, LatencyTable.open(table.path))
    assert dict(table.entries) == {"a": 0.25, "größe|µ": 0.125}
    assert table.latency_ms("a") == 0.25
    assert read_sealed(table.path)[1]["size_bytes"] == 100
    assert table.networks[0].blocks == ("a", "a")
    assert table.networks[0].size_bytes == 300


def test_a_pair_of_neighbours_is_kept_and_is_no_network(tmp_path: Path) -> None:
    table = filled(tmp_path / "t.jsonl")
    table.append_network(["a", "b"], STATISTIC, size_bytes=7, board="left", is_pair=True)
    for found in (table, LatencyTable.open(table.path)):
        assert [n.blocks for n in found.networks] == [("a", "a")]
        assert found.pairs == (
            NetworkEntry(blocks=("a", "b"), statistic=STATISTIC, size_bytes=7, board="left", is_pair=True),
        )


def test_a_pair_of_three_is_refused(tmp_path: Path) -> None:
    table = filled(tmp_path / "t.jsonl")
    append_sealed(table.path, [{**read_sealed(table.path)[3], "kind": "pair", "blocks": ["a", "a", "a"]}])
    with pytest.raises(TableError, match="a pair of 3 blocks"):
        LatencyTable.open(table.path)


def test_a_table_from_before_there_were_pairs_is_read_and_gets_todays_number_with_the_first_line(
    tmp_path: Path,
) -> None:
    path = filled(tmp_path / "t.jsonl").path
    head, *rest = read_sealed(path)
    path.unlink()
    append_sealed(path, rest, first={**head, "schema": 3})
    table = LatencyTable.open(path)
    assert (table.schema, table.pairs) == (3, ())
    assert repair_table(path) == ()  # nothing that anybody needs to hear of
    table.append_network(["a", "a"], STATISTIC, size_bytes=7, is_pair=True)
    found = LatencyTable.open(path)
    assert (found.schema, len(found.pairs), len(found.networks)) == (SCHEMA, 1, 1)
    assert dict(found.entries) == dict(table.entries)


def test_appending_many_at_once_equals_appending_one_by_one(tmp_path: Path) -> None:
    one = LatencyTable.open(tmp_path / "one.jsonl", CONTEXT)
    one.append_blocks({"a": STATISTIC}, sizes={"a": 7})
    one.append_blocks({"b": FAILURE})
    many = LatencyTable.open(tmp_path / "many.jsonl", CONTEXT)
    many.append_blocks({"a": STATISTIC, "b": FAILURE}, sizes={"a": 7})
    assert one.path.read_bytes() == many.path.read_bytes()


def test_the_last_entry_of_a_block_wins(tmp_path: Path) -> None:
    table = LatencyTable.open(tmp_path / "t.jsonl", CONTEXT)
    table.append_blocks({"a": STATISTIC})
    table.append_blocks({"a": replace(STATISTIC, minimum=0.5)})
    assert LatencyTable.open(table.path).latency_ms("a") == 0.5


def test_a_failure_counts_as_missing_and_its_reason_is_told(tmp_path: Path) -> None:
    table = filled(tmp_path / "t.jsonl")
    assert table.missing(["b", "a", "c", "b"]) == ("b", "c")
    with pytest.raises(MissingEntryError, match="SIGSEGV"):
        table.latency_ms("b")
    with pytest.raises(MissingEntryError, match="hwnas profile"):
        table.latency_ms("c")


def test_a_success_after_a_failure_and_the_other_way_round(tmp_path: Path) -> None:
    table = LatencyTable.open(tmp_path / "t.jsonl", CONTEXT)
    table.append_blocks({"a": FAILURE})
    table.append_blocks({"a": STATISTIC}, sizes={"a": 3})
    assert table.missing(["a"]) == ()
    assert not table.failures
    table.append_blocks({"a": FAILURE})
    assert table.missing(["a"]) == ("a",)
    assert not table.statistics
    assert same(table, LatencyTable.open(table.path))


@pytest.mark.parametrize(
    "bad",
    [
        {"fastest": 0.0},
        {"median": 0.0},
        {"median": float("nan")},
        {"p90": float("inf")},
        {"n": 0},
        {"phase_drift": 0.0},
        {"phase_share": 1.5},
        {"phase_share": -0.1},
    ],
)
def test_a_value_that_could_not_be_read_back_is_not_written(tmp_path: Path, bad: dict[str, float]) -> None:
    table = filled(tmp_path / "t.jsonl")
    before = table.path.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        table.append_blocks({"x": replace(STATISTIC, **bad)})
    assert table.path.read_bytes() == before


# ---------------------------------------------------------------- contexts


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "pi5"),
        ("hardware", "another processor"),
        ("runtime", "litert"),
        ("runtime_version", "1.3"),
        ("threads", 4),
        ("precision", "int8"),
        ("options", "provider=CUDAExecutionProvider"),
        ("reference_sha256", "cd" * 32),
    ],
)
def test_another_context_is_refused_and_the_difference_named(tmp_path: Path, field: str, value: object) -> None:
    filled(tmp_path / "t.jsonl")
    with pytest.raises(TableContextError) as e:
        LatencyTable.open(tmp_path / "t.jsonl", replace(CONTEXT, **{field: value}))
    assert e.value.differences == {field: (getattr(CONTEXT, field), value)}
    assert str(value) in str(e.value)


def test_date_governor_and_anchor_time_may_differ_and_the_tables_own_stay(tmp_path: Path) -> None:
    filled(tmp_path / "t.jsonl")
    later = replace(CONTEXT, date="2027-01-01", reference_ms=2.0, governor="performance")
    assert LatencyTable.open(tmp_path / "t.jsonl", later).context == CONTEXT


def test_a_context_of_a_device_holds_its_options_and_what_the_runtime_says() -> None:
    device = Device(name="d", runtime="r", threads=2, options={"b": 1, "a": "x"})
    said = {"runtime_version": "9", "hardware": "h", "governor": "performance"}
    context = TableContext.of(device, said, precision="int8", reference_sha256="00", reference_ms=1.0)
    assert (context.device, context.runtime, context.threads, context.options) == ("d", "r", 2, "a=x,b=1")
    assert (context.runtime_version, context.hardware, context.governor) == ("9", "h", "performance")
    assert context.date


def test_without_a_context_an_absent_table_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="hwnas profile"):
        LatencyTable.open(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_opening_writes_nothing_to_a_table_that_exists(tmp_path: Path) -> None:
    path = filled(tmp_path / "t.jsonl").path
    path.write_bytes(path.read_bytes()[:-3])
    before = path.read_bytes()
    LatencyTable.open(path, CONTEXT)
    LatencyTable.open(path)
    assert path.read_bytes() == before


# ---------------------------------------------------------------- files cut off and damaged


def test_a_table_cut_off_at_any_byte_opens_and_can_be_appended_to(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.jsonl").path.read_bytes()
    first_line_end = whole.index(b"\n") + 1
    path = tmp_path / "cut.jsonl"
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = whole[:length].count(b"\n")
        if length < first_line_end:
            with pytest.raises(TableError, match="first line"):
                LatencyTable.open(path)
        table = LatencyTable.open(path, CONTEXT)
        assert len(table.statistics) + len(table.failures) + len(table.networks) == max(complete - 1, 0)
        table.append_blocks({"new": STATISTIC})
        again = LatencyTable.open(path)
        assert same(table, again)
        assert again.latency_ms("new") == 0.25
        kept = whole[: whole[:length].rfind(b"\n") + 1]
        assert path.read_bytes().startswith(kept)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_line_is_an_error_with_its_number(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = filled(tmp_path_factory.mktemp("damaged") / "t.jsonl").path
    lines = path.read_bytes().split(b"\n")
    number = data.draw(st.integers(0, len(lines) - 2))
    position = data.draw(st.integers(0, len(lines[number]) - 1))
    # Cut inside a line, or a brace replaced: a damage that no JSON survives.
    lines[number] = data.draw(
        st.sampled_from(
            [lines[number][:position], b"\0" * len(lines[number]), b"x" + lines[number][1:], b"\xff" + lines[number]]
        )
    )
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(TableError, match=rf"line {number + 1} is damaged.*hwnas profile"):
        LatencyTable.open(path)


@pytest.mark.parametrize(
    "change",
    [
        {"latency_ms": None},
        {"latency_ms": {"median": 1.0}},
        {"latency_ms": {"fastest": 1.0, "median": "fast", "p90": 1.0, "n": 3, "cv": 0.0, "drift": 1.0}},
        {"latency_ms": {"fastest": 1.0, "median": -1.0, "p90": 1.0, "n": 3, "cv": 0.0, "drift": 1.0}},
        {"block": 7},
        {"kind": "poem"},
        {"size_bytes": "many"},
    ],
)
def test_a_line_of_the_wrong_shape_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    path = filled(tmp_path / "t.jsonl").path
    head, line, *rest = read_sealed(path)
    path.unlink()
    append_sealed(path, [{**line, **change}, *rest], first=head)
    with pytest.raises(TableError, match="line 2 "):
        LatencyTable.open(path)


def test_a_newer_schema_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = filled(tmp_path / "t.jsonl").path
    head, *rest = read_sealed(path)
    path.unlink()
    append_sealed(path, rest, first={**head, "schema": SCHEMA + 1})
    with pytest.raises(TableError, match=rf"schema {SCHEMA + 1}.*reads schemas up to {SCHEMA}"):
        LatencyTable.open(path)


# ---------------------------------------------------------------- damage that is still JSON, and its repair


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"fastest":0.25', b'"fastest":0.75'),  # the time itself
        (b'"block":"a"', b'"block":"c"'),
        (b'"size_bytes":100', b'"size_bytes":900'),
        (b'"ms":1.5', b'"ms":1.6'),  # all entries are relative to it
        (b'"blocks":["a","a"]', b'"blocks":["b","a"]'),
        (b'"failure":"died', b'"failure":"diet'),
        (f'"schema":{SCHEMA}'.encode(), b'"schema":1'),
        (b'"checksum"', b'"checksun"'),
    ],
)
def test_one_changed_character_is_refused_with_what_to_do(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = filled(tmp_path / "t.jsonl").path
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(TableError, match=r"t\.jsonl.*hwnas profile"):
        LatencyTable.open(path)


def test_no_single_changed_byte_of_a_table_is_read_as_something_else(tmp_path: Path) -> None:
    path = filled(tmp_path / "t.jsonl").path
    whole = LatencyTable.open(path)
    data = path.read_bytes()
    for i in range(len(data) - 1):  # the last byte is the end of the last line: without it there is no line
        path.write_bytes(data[:i] + bytes([data[i] ^ (1 << i % 8)]) + data[i + 1 :])
        with pytest.raises(TableError):
            LatencyTable.open(path)
    path.write_bytes(data)
    assert same(whole, LatencyTable.open(path))


def test_a_repaired_table_lacks_the_damaged_line_alone(tmp_path: Path) -> None:
    path = filled(tmp_path / "t.jsonl").path
    path.write_bytes(path.read_bytes().replace(b'"fastest":0.25', b'"fastest":0.75', 1))
    (problem,) = repair_table(path)
    assert "line 2 is damaged" in problem
    table = LatencyTable.open(path)
    assert table.missing(["a", "größe|µ"]) == ("a",)
    assert len(table.networks) == 1
    assert b'"fastest":0.75' in path.with_name("t.jsonl.damaged").read_bytes()
    table.append_blocks({"a": STATISTIC})
    assert LatencyTable.open(path).latency_ms("a") == 0.25


def test_a_table_with_a_damaged_context_is_put_aside_and_begun_again(tmp_path: Path) -> None:
    path = filled(tmp_path / "t.jsonl").path
    path.write_bytes(path.read_bytes().replace(b"processor", b"Processor", 1))
    assert "line 1 is damaged" in repair_table(path)[0]
    assert not LatencyTable.open(path, CONTEXT).entries
    assert b'"block":"a"' in path.with_name("t.jsonl.damaged").read_bytes()


def test_a_sound_table_and_none_need_no_repair(tmp_path: Path) -> None:
    assert repair_table(filled(tmp_path / "t.jsonl").path) == ()
    assert repair_table(tmp_path / "none.jsonl") == ()


# ---------------------------------------------------------------- tables of schema 1


def plain(path: Path) -> Path:
    """The table of `filled` as schema 1 had it: without checksums."""
    head, *rest = read_sealed(filled(path).path)
    path.write_text("".join(json.dumps(v) + "\n" for v in ({**head, "schema": 1}, *rest)))
    return path


def test_a_table_without_checksums_is_read_and_known_for_one(tmp_path: Path) -> None:
    old = LatencyTable.open(plain(tmp_path / "old.jsonl"))
    new = filled(tmp_path / "new.jsonl")
    assert same(old, new)
    assert (old.schema, new.schema) == (1, SCHEMA)
    assert "had no checksums yet" in repair_table(old.path)[0]
    assert LatencyTable.open(old.path).schema == SCHEMA
    assert repair_table(old.path) == ()


def test_appending_to_a_table_without_checksums_gives_it_some(tmp_path: Path) -> None:
    path = plain(tmp_path / "old.jsonl")
    one, other = LatencyTable.open(path), LatencyTable.open(path)
    one.append_blocks({"new": STATISTIC})
    other.append_blocks({"newer": STATISTIC})
    found = LatencyTable.open(path)
    assert found.schema == SCHEMA
    assert set(found.entries) == {"a", "größe|µ", "new", "newer"}
    assert len(found.networks) == 1


# ---------------------------------------------------------------- a full disk


def test_a_disk_that_fills_up_is_an_oserror_and_the_table_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = filled(tmp_path / "t.jsonl")
    before = table.path.read_bytes()

    def half_then_full(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(appending, "_write", half_then_full)
        with pytest.raises(OSError, match="No space"):
            table.append_blocks({"new": STATISTIC})
    assert table.path.read_bytes() == before
    assert "new" not in table.entries
    table.append_blocks({"new": STATISTIC})
    assert same(table, LatencyTable.open(table.path))


def _fill_up_to(path: Path, limit: int) -> None:
    """In a process of its own: the limit cannot be raised again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    table = LatencyTable.open(path)
    try:
        for i in range(10_000):
            table.append_blocks({f"block {i}": STATISTIC})
    except OSError:
        os._exit(0 if same(table, LatencyTable.open(path)) else 2)
    os._exit(1)


def test_a_real_size_limit_leaves_a_readable_table(tmp_path: Path) -> None:
    path = LatencyTable.open(tmp_path / "t.jsonl", CONTEXT).path
    process = multiprocessing.get_context("spawn").Process(target=_fill_up_to, args=(path, 3000))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    table = LatencyTable.open(path)
    assert len(table.entries) > 5
    table.append_blocks({"after": STATISTIC})
    assert LatencyTable.open(path).latency_ms("after") == 0.25


# ---------------------------------------------------------------- several processes


def _append_many(path: Path, name: str, n: int) -> None:
    table = LatencyTable.open(path, CONTEXT)
    for i in range(n):
        table.append_blocks({f"{name}-{i}": STATISTIC})


def test_two_processes_lose_and_mix_no_lines(tmp_path: Path) -> None:
    path, n = tmp_path / "t.jsonl", 150
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(path, name, n)) for name in ("one", "two")]
    for p in processes:
        p.start()
    for p in processes:
        p.join(60)
    assert [p.exitcode for p in processes] == [0, 0]
    assert set(LatencyTable.open(path).entries) == {f"{name}-{i}" for name in ("one", "two") for i in range(n)}


def test_refresh_shows_what_another_process_appended(tmp_path: Path) -> None:
    mine = LatencyTable.open(tmp_path / "t.jsonl", CONTEXT)
    LatencyTable.open(mine.path, CONTEXT).append_blocks({"theirs": STATISTIC})
    assert "theirs" not in mine.entries
    mine.refresh()
    assert mine.latency_ms("theirs") == 0.25


# ---------------------------------------------------------------- tables of schema 2, whose keys name every attribute

HEAD = "head|in=8x4x4|out=10|activation=relu6,{}hidden_channels=32|int8"
LONG, SHORT = HEAD.format("features=0,"), HEAD.format("")


def with_long_keys(path: Path) -> Path:
    """A table as schema 2 had it."""
    head = read_sealed(filled(path).path)[0]
    path.unlink()
    append_sealed(path, [], first={**head, "schema": 2})
    block = entry_values(BlockEntry(block=LONG, result=STATISTIC, size_bytes=7))
    network = entry_values(NetworkEntry(blocks=(LONG, LONG), statistic=STATISTIC, size_bytes=9))
    append_sealed(path, [block, network])
    return path


def test_keys_of_earlier_tables_are_those_of_today(tmp_path: Path) -> None:
    path = with_long_keys(tmp_path / "t.jsonl")
    before = path.read_bytes()
    table = LatencyTable.open(path)
    assert (table.schema, dict(table.statistics)) == (2, {SHORT: STATISTIC})
    assert [n.blocks for n in table.networks] == [(SHORT, SHORT)]
    assert path.read_bytes() == before  # reading never writes


def test_appending_to_an_earlier_table_converts_its_keys(tmp_path: Path) -> None:
    path = with_long_keys(tmp_path / "t.jsonl")
    one, other = LatencyTable.open(path), LatencyTable.open(path)
    one.append_blocks({"new": STATISTIC})
    other.append_blocks({"newer": STATISTIC})
    assert LONG not in path.read_text()
    found = LatencyTable.open(path)
    assert (found.schema, set(found.entries)) == (SCHEMA, {SHORT, "new", "newer"})


def test_repairing_an_earlier_table_converts_its_keys_and_says_so(tmp_path: Path) -> None:
    path = with_long_keys(tmp_path / "t.jsonl")
    assert "attributes at their defaults" in repair_table(path)[0]
    assert SHORT in LatencyTable.open(path).entries
    assert repair_table(path) == ()


def test_a_damaged_line_of_an_earlier_table_is_put_aside_and_the_others_are_converted(tmp_path: Path) -> None:
    path = with_long_keys(tmp_path / "t.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1], lines[2].replace("9", "8")]))
    damaged, converted = repair_table(path)
    assert ("line 3 is damaged" in damaged, "at their defaults" in converted) == (True, True)
    assert set(LatencyTable.open(path).entries) == {SHORT}


# ---------------------------------------------------------------- tables that ship

SHIPPED = sorted((Path(__file__).parents[2] / "latency_tables").glob("*/*.jsonl"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_tables_that_ship_have_keys_of_today(path: Path) -> None:
    table = LatencyTable.open(path)
    named = {*table.entries, *(key for n in table.networks for key in n.blocks)}
    assert table.schema >= KEYS_SCHEMA
    assert {key for key in named if current_key(key) != key} == set()


@pytest.mark.parametrize("folder", sorted({p.parent for p in SHIPPED}), ids=lambda p: p.name)
def test_tables_that_ship_serve_every_block_of_their_space(folder: Path) -> None:
    tables = [LatencyTable.open(p) for p in SHIPPED if p.parent == folder]
    measured = {key for t in tables for key in t.entries}
    precisions = {t.context.precision for t in tables} - {"mixed"}
    space = mobilenet_tiny(1, 10).restrict(precisions=sorted(precisions))
    assert {b.key for b in space.distinct_blocks()} - measured == set()


KEY = "mbconv|in=64x4x4|out=64x4x4|activation=relu6,hidden_channels=384,kernel_size=5|fp32"


def test_a_number_of_a_table_that_ships_is_what_was_measured() -> None:
    table = LatencyTable.open(next(p for p in SHIPPED if p.parent.name == "epyc-zen5" and "fp32" in p.name))
    assert table.latency_ms(KEY) == 0.012426574133707841

"""Tables as lines of text: units, widths, and words that stay whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hwnas._tables import format_table, format_value, wrap

QUERY = ("trial", "accuracy", "latency_ms", "macs", "parameters", "peak_memory_bytes", "size_bytes")
ROWS = [
    (5, 0.98611, 0.0254, 1_234_567.0, 1882.0, 3584.0, 158_000.0),
    (1234, 0.9, 12.04, 1_234_567_000.0, 2_946_000.0, 3_584_000.0, 16_340_000.0),
]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.981234, "0.9812"),
        (12.0, "12"),
        (1_234_567, "1,234,567"),
        (1_234_567.0, "1,234,567"),
        (10**30, "about 10^30"),
        (True, "yes"),
        (None, "-"),
        ((3, 5, "x"), "3, 5, x"),
        ({"median": 1.5, "n": 9}, "median 1.5, n 9"),
    ],
)
def test_values_are_short(value: object, text: str) -> None:
    assert format_value(value) == text


def test_a_metrics_numbers_stand_with_their_units() -> None:
    assert format_table(QUERY, ROWS) == [
        "  trial  accuracy  latency  MACs          parameters    peak memory  size",
        "  ──────────────────────────────────────────────────────────────────────────",
        "  5      98.61 %   25.4 µs  1.23 million  1,882         3.58 kB      158 kB",
        "  1,234  90.00 %   12.0 ms  1.23 billion  2.95 million  3.58 MB      16.3 MB",
    ]


def test_what_does_not_fit_is_wrapped_between_words() -> None:
    lines = format_table(QUERY, ROWS, width=72)
    assert lines[:3] == [
        "  trial  accuracy  latency  MACs          parameters    peak     size",
        "                                                        memory",
        "  ──────────────────────────────────────────────────────────────────────",
    ]
    assert all(len(line) <= 72 for line in lines)


def test_where_wrapping_does_not_suffice_rows_become_lines_of_their_own() -> None:
    lines = format_table(QUERY, ROWS[:1], width=30)
    assert lines == [
        "  5",
        "    accuracy: 98.61 %",
        "    latency: 25.4 µs",
        "    MACs: 1.23 million",
        "    parameters: 1,882",
        "    peak memory: 3.58 kB",
        "    size: 158 kB",
    ]


def test_a_path_stays_whole_and_a_text_hangs_under_its_beginning() -> None:
    rows = [("tables", "/a/very/long/path/that/fits/nowhere"), ("  known", "some words about it")]
    assert format_table((), rows, width=24) == [
        "  tables   /a/very/long/path/that/fits/nowhere",
        "    known  some words",
        "           about it",
    ]


def test_where_programs_read_a_row_is_a_line() -> None:
    rows = [("known", "word " * 50), ("x", "y")]
    assert len(format_table((), rows)) == 2
    assert not [line for line in format_table(("name", "value"), rows) if line != line.rstrip()]


def test_numbers_can_be_searched_for_as_they_are_typed() -> None:
    assert "\u00a0" not in "".join(format_table(QUERY, ROWS))
    assert "-0.500" in "".join(format_table(("difference_ms",), [(-0.5,)]))


def test_a_text_keeps_its_own_dashes() -> None:
    assert "a−b" in "".join(format_table(("path",), [("a−b",)]))


def test_an_empty_table_is_no_lines() -> None:
    assert format_table(("a", "b"), []) == []


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)
CELLS = st.lists(TEXTS, max_size=6).map(" ".join)


@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4), width=st.integers(1, 200))
def test_no_word_is_ever_broken_and_no_line_longer_than_it_must_be(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    lines = format_table(("a", "b", "c"), rows, width=width)
    given_words = sorted(word for row in rows for cell in row for word in cell.split())
    shown = [word for line in lines for word in line.split()]
    assert not [word for word in given_words if word not in shown]
    longest = max((cell_len(word) for word in given_words), default=0)
    assert all(cell_len(line) <= max(width, longest + 6) for line in lines)


def test_a_text_is_broken_between_words_alone() -> None:
    assert wrap("one two-three four", width=9, indent="  ") == ["one", "  two-three", "  four"]

"""Progress, tables and numbers as commands print them."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console as RichConsole

from hwnas._console import Console, RateMeter, format_seconds
from hwnas.results import Shown
from tests.runs import MadeUp


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(
    clock: Clock, *, terminal: bool = False, json_output: bool = False
) -> tuple[Console, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    made = Console(
        json_output=json_output,
        stdout=RichConsole(file=out, width=80),
        stderr=RichConsole(file=err, force_terminal=terminal, width=120),
        clock=clock,
    )
    return made, out, err


# ---------------------------------------------------------------- rate and time left


def test_the_rate_comes_with_the_time_left() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    assert meter.update(0, 100) == ""
    clock.now += 5
    assert meter.update(50, 100) == "10/s, 5 s left"


def test_slow_work_is_told_in_seconds_each() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    meter.update(0, 10)
    clock.now += 8
    assert meter.update(2, 10) == "4 s each, 32 s left"


def test_what_was_done_before_a_resumption_does_not_count() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    meter.update(900, 1000)
    clock.now += 10
    assert meter.update(910, 1000) == "1/s, 1 min 30 s left"


def test_the_rate_follows_the_last_minute() -> None:
    clock = Clock()
    meter = RateMeter(clock)
    meter.update(0, 10_000)
    for done in range(1, 301):
        clock.now += 1
        text = meter.update(done if done <= 200 else 200 + 10 * (done - 200), 10_000)
    assert text.startswith("10/s")


def test_the_time_left_knows_that_later_work_takes_longer() -> None:
    clock = Clock()
    # the last 40 of 100 take twice as long each
    meter = RateMeter(clock, work=lambda done: done + max(0, done - 60))
    meter.update(0, 100)
    clock.now += 5
    assert meter.update(50, 100) == "10/s, 9 s left"
    clock.now += 9
    assert meter.update(100, 100).endswith("/s")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59, "59 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (11_100, "3 h 05 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


# ---------------------------------------------------------------- progress


def test_without_a_terminal_progress_is_a_line_now_and_then() -> None:
    clock = Clock()
    made, out, err = console(clock)
    with made.progress("profile") as update:
        for done in range(1, 101):
            clock.now += 0.5
            update(done, 100, "mbconv")
    lines = err.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0] == "profile: 20/100 (20 %), 2/s, 40 s left, mbconv"
    assert lines[-1].startswith("profile: 100/100 (100 %)")
    assert out.getvalue() == ""


def test_the_last_state_is_told_when_work_is_cut_off() -> None:
    made, _, err = console(Clock())

    def work() -> None:
        with made.progress("train") as update:
            update(3, 10, "")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert err.getvalue() == "train: 3/10 (30 %)\n"


def test_work_of_unknown_length_is_no_error() -> None:
    made, _, err = console(Clock())
    with made.progress("scan") as update:
        update(0, 0, "[bold]")
    assert err.getvalue() == "scan: 0/0, [bold]\n"


def test_on_a_terminal_progress_is_drawn_and_may_be_nested() -> None:
    made, out, err = console(Clock(), terminal=True)
    with made.progress("outer") as outer:
        outer(1, 2, "a [note]")
        with made.progress("inner") as inner:
            inner(3, 4, "")
        outer(2, 2, "a [note]")
    assert "inner" in err.getvalue()
    assert "2/2" in err.getvalue()
    assert "[note]" in err.getvalue()
    assert out.getvalue() == ""
    with made.progress("again") as update:
        update(1, 1, "")


# ---------------------------------------------------------------- results


def test_a_result_shows_its_rows_and_notes_as_they_are() -> None:
    made, out, _ = console(Clock())
    shown = Shown(title="t [1]", columns=["k", "v"], rows=[("[red]name", 1)], notes=["see [x]"])
    made.result(MadeUp(told=shown))
    assert all(text in out.getvalue() for text in ("t [1]", "[red]name", "see [x]"))


def test_a_result_without_rows_is_only_its_notes() -> None:
    made, out, _ = console(Clock())
    made.result(MadeUp(told=Shown(title="t", notes=["nothing to do"])))
    assert out.getvalue() == "nothing to do\n"


def test_json_holds_numbers_that_json_can_hold() -> None:
    made, out, _ = console(Clock(), json_output=True)
    values = {"a": np.arange(2), "b": np.float64("nan"), "c": float("inf"), "d": {1}, "e": np.int64(3)}
    made.result(MadeUp(more=values))
    found = json.loads(out.getvalue())
    assert {key: found[key] for key in values} == {"a": [0, 1], "b": None, "c": None, "d": [1], "e": 3}


def test_long_json_lines_are_not_wrapped() -> None:
    made, out, _ = console(Clock(), json_output=True)
    made.result(MadeUp(more={"text": "long " * 100 + "[bold]"}))
    assert json.loads(out.getvalue())["text"].endswith("[bold]")


# ---------------------------------------------------------------- texts from elsewhere

FOREIGN = "evil\x1b]0;owned\x07\x9b31m\u202e"
SHOWN = r"evil\x1b]0;owned\x07\x9b31m\u202e"


def test_escape_sequences_of_others_never_reach_the_terminal() -> None:
    made, out, err = console(Clock(), terminal=True)
    made.note(FOREIGN)
    made.warn(FOREIGN)
    made.error(FOREIGN)
    shown = Shown(title=FOREIGN, columns=["a"], rows=[(FOREIGN,)], notes=[FOREIGN])
    made.table(shown)
    made.result(MadeUp(told=shown))
    with made.progress(FOREIGN) as progress:
        progress(1, 2, FOREIGN)
    for text in (out.getvalue(), err.getvalue()):
        assert not {"\x1b]", "\x07", "\x9b", "\u202e"} & {*text, *(text[i : i + 2] for i in range(len(text)))}
        assert SHOWN in text.replace("\n", "")


def test_an_error_is_one_line() -> None:
    made, _, err = console(Clock())
    made.error("pip failed:\n  no network\n  at all")
    assert err.getvalue() == "error: pip failed: no network at all\n"


def test_json_of_foreign_texts_is_whole_and_holds_no_escape_sequence() -> None:
    made, out, _ = console(Clock(), json_output=True)
    values = {"name": FOREIGN, "path": "\udcff", "smile": "😀"}
    made.result(MadeUp(more=values))
    assert not any(c in out.getvalue() for c in "\x1b\x07\x9b\u202e\udcff")
    assert json.loads(out.getvalue()).items() >= values.items()


def test_on_a_terminal_texts_are_broken_between_words_and_commands_stay_whole() -> None:
    err = io.StringIO()
    made = Console(stderr=RichConsole(file=err, force_terminal=True, width=30, color_system=None))
    made.warn("no network of the study keeps it; ask `hwnas query there` or: hwnas search folder --limit latency_ms=2")
    assert err.getvalue().splitlines() == [
        "warning: no network of the",
        "study keeps it; ask",
        "`hwnas query there` or:",
        "hwnas search folder --limit latency_ms=2",
    ]


@pytest.mark.parametrize("before", range(40))
def test_no_line_with_a_command_is_wider_than_the_terminal(before: int) -> None:
    err = io.StringIO()
    made = Console(stderr=RichConsole(file=err, force_terminal=True, width=60, color_system=None))
    made.note(f"{'x' * before} a text before `hwnas doctor` and one after")
    assert all(len(line) <= 60 for line in err.getvalue().splitlines())


def test_a_note_that_every_stage_has_is_told_once() -> None:
    made, _, err = console(Clock())
    for _ in range(2):
        made.note("the same", once=True)
    assert err.getvalue() == "the same\n"


def test_work_that_never_begins_draws_no_bar() -> None:
    made, _, err = console(Clock(), terminal=True)
    with made.progress("search"):
        pass
    assert "search" not in err.getvalue()


def test_where_programs_read_a_text_is_one_line() -> None:
    made, _, err = console(Clock())
    made.error("word " * 100)
    assert err.getvalue().count("\n") == 1

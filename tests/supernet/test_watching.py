"""What is seen of a training on the way."""

from __future__ import annotations

import csv
import errno
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnas import pipeline
from hwnas.errors import MissingPackageError
from hwnas.supernet import watching
from hwnas.supernet.board import Board
from hwnas.supernet.watching import Log, Watch
from hwnas.testing.run import tiny_config
from tests.runs import ReadConsole
from tests.supernet.test_training import make_trainer, weights


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_looking_takes_its_share_of_the_time_at_most() -> None:
    clock, spent = Clock(), 0.0

    def look() -> dict[str, float]:
        nonlocal spent
        clock.now += 2.0
        spent += 2.0
        return {}

    watch = Watch(look, share=0.1, clock=clock)
    looks = 0
    while clock.now < 1000:
        clock.now += 0.5
        if watch.is_due:
            watch.look()
            looks += 1
    assert 0.08 < spent / clock.now <= 0.1
    assert looks > 20


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_training_writes_its_losses_and_goes_on_where_it_stopped(space, tmp_path) -> None:
    for until in (3, 8):
        trainer = make_trainer(space, tmp_path / "checkpoint.safetensors")
        trainer.resume()
        trainer.watch_by(None, Log(tmp_path / "training.csv", until=trainer.step))
        trainer.run(until=until)
    found = rows(tmp_path / "training.csv")
    assert [int(row["step"]) for row in found] == list(range(1, 9))
    assert list(found[0]) == ["step", "learning_rate", "loss", "loss_smallest"]
    assert float(found[0]["loss"]) == pytest.approx(trainer.history[0]["loss"], rel=1e-5)


def test_lines_behind_the_checkpoint_are_taken_away(tmp_path) -> None:
    log = Log(tmp_path / "training.csv", until=0)
    for step in (1, 2, 3):
        log.add(step, {"loss": 1 / step})
    log.add(4, {"loss": 0.1, "accuracy_largest": 0.5})
    log.write()
    again = Log(tmp_path / "training.csv", until=2)
    again.add(3, {"loss": 7.0})
    again.write()
    assert [(row["step"], row["loss"]) for row in rows(tmp_path / "training.csv")] == [
        ("1", "1"),
        ("2", "0.5"),
        ("3", "7"),
    ]


def test_a_file_that_somebody_changed_is_made_anew(tmp_path) -> None:
    (tmp_path / "training.csv").write_bytes(b"\xff\x00 not a table")
    log = Log(tmp_path / "training.csv", until=9)
    log.add(1, {"loss": 1.0})
    log.write()
    assert rows(tmp_path / "training.csv") == [{"step": "1", "loss": "1"}]


def records(file: Path) -> list[Any]:
    """Of one of TensorBoard's files; a record is its length, a checksum, its bytes, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found, content = [], file.read_bytes()
    while content:
        end = 12 + int.from_bytes(content[:8], "little")
        found.append(Event.FromString(content[12:end]))
        content = content[end + 4 :]
    return found


def events(folder: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) of TensorBoard's files."""
    found = [event for file in sorted(folder.iterdir()) for event in records(file)]
    return [(event.step, value.tag, value.simple_value) for event in found for value in event.summary.value]


def test_tensorboard_is_given_what_the_file_has(space, tmp_path) -> None:
    for until in (3, 8):
        trainer = make_trainer(space, tmp_path / "checkpoint.safetensors")
        step = trainer.resume()
        board = Board(tmp_path / "board", until=step)
        trainer.watch_by(None, Log(tmp_path / "training.csv", until=step, board=board))
        trainer.run(until=until)
        board.close()
    shown = {(step, name): value for step, name, value in events(tmp_path / "board")}
    found = rows(tmp_path / "training.csv")
    assert len(shown) == len(found) * 3
    for row in found:
        for name in ("learning_rate", "loss", "loss_smallest"):
            assert shown[int(row["step"]), name] == pytest.approx(float(row[name]), rel=1e-5)


def test_curves_that_cannot_be_written_stop_nothing(tmp_path, monkeypatch) -> None:
    from tensorboardX.event_file_writer import EventsWriter

    board = Board(tmp_path / "board", until=0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(EventsWriter, "write_event", full)
    for step in range(1, 40):
        board.add(step, {"loss": 1.0})
        board.write()
    board.close()
    assert events(tmp_path / "board") == []


def test_a_start_from_nothing_forgets_the_curves_of_one_that_was_killed(tmp_path) -> None:
    from tensorboardX.proto.event_pb2 import SessionLog

    for number, until in enumerate((0, 0, 7)):
        board = Board(tmp_path / "board", until=until)
        board.close()
        newest = max((tmp_path / "board").iterdir(), key=lambda file: file.suffix)
        (start,) = [e for e in records(newest) if e.HasField("session_log")]
        assert (start.session_log.status, start.step) == (SessionLog.START, until + 1)
        assert len(list((tmp_path / "board").iterdir())) == number + 1


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch) -> None:
    for name in ("tensorboardX", "tensorboardX.event_file_writer", "tensorboardX.proto.event_pb2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"hwnas\[tensorboard\]"):
        Board(tmp_path / "board", until=0)
    assert not (tmp_path / "board").exists()


def test_accuracies_stand_in_the_progress_and_change_no_bit(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(watching, "_FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(Watch, "is_due", True)
    unwatched = tiny_config(tmp_path / "unwatched", {"train.watch_share": 0.0, "train.quantized_fraction": 0.5})
    watched = unwatched.replaced({"output.folder": str(tmp_path / "watched"), "train.watch_share": 0.5})
    told: dict[str, list[str]] = {}
    for config in (unwatched, watched):
        console = NotingConsole()
        pipeline.train(config, console=console)
        told[Path(config.output.folder).name] = console.notes
    assert not any("%" in note for note in told["unwatched"])
    assert all(f"{name} " in told["watched"][-1] for name in (", smallest", ", middle", ", largest"))
    seen = rows(tmp_path / "watched" / "training.csv")[-1]
    assert f"largest {100 * float(seen['accuracy_largest']):.1f} %" in told["watched"][-1]
    a, b = (weights(tmp_path / name / "checkpoint.safetensors") for name in ("unwatched", "watched"))
    assert all((a[k] == b[k]).all() for k in a)


class NotingConsole(ReadConsole):
    """Keeps the notes of the training's progress."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def progress(self, label, *, work=None):
        from contextlib import contextmanager

        @contextmanager
        def noting():
            yield lambda done, total, note: self.notes.append(note)

        return noting()

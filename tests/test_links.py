"""What we lock or append to is a file of our own: where somebody put a link in its place, nothing is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hwnas import registry
from hwnas.accuracy.known import Conditions, KnownAccuracies, KnownNetwork
from hwnas.cost.table import LatencyTable, TableContext, repair_table
from hwnas.errors import ConfigError
from hwnas.measure.agent import take_over
from hwnas.search.storage import open_storage
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole

CONDITIONS = Conditions(
    checkpoint_sha256="9f86d081",
    quantization="asymmetric",
    validation_samples=None,
    recalibration_samples=512,
    calibration_samples=256,
    version="1",
)
CONTEXT = TableContext(
    device="cpu",
    hardware="a processor",
    runtime="onnxruntime",
    runtime_version="1.2",
    threads=1,
    precision="fp32",
    reference_sha256="ab" * 32,
    reference_ms=1.5,
)


def stage(folder: Path, link: Callable[[Path], None]) -> None:
    link(folder / ".training.lock")
    with Workspace(tiny_config(folder)).alone("training"):
        raise AssertionError("it is locked")


def measuring(folder: Path, link: Callable[[Path], None]) -> None:
    work = Workspace(tiny_config(folder))
    work.tables.mkdir(parents=True)
    link(work.tables / ".measuring.lock")
    with work.measuring_alone(ReadConsole()):
        raise AssertionError("it is locked")


def table(folder: Path, link: Callable[[Path], None]) -> None:
    link(folder / "t.jsonl")
    repair_table(folder / "t.jsonl")
    LatencyTable.open(folder / "t.jsonl", CONTEXT)


def accuracies(folder: Path, link: Callable[[Path], None]) -> None:
    link(folder / f"accuracies-{CONDITIONS.fingerprint()}.jsonl")
    KnownAccuracies(folder, CONDITIONS).add(KnownNetwork(key="a", architecture={}, accuracy=0.5))


def journal(folder: Path, link: Callable[[Path], None]) -> None:
    link(folder / "journal.log")
    open_storage(folder / "journal.log")


def board(folder: Path, link: Callable[[Path], None]) -> None:
    link(folder / "lock")
    take_over(folder / "lock", session="ours", who="test")


def environment(folder: Path, link: Callable[[Path], None]) -> None:
    link(folder / "lock")
    lock = registry.load_object("hwnas.devices._environments:_locked", needed_for="this test")
    with lock(folder / "lock", what="a tool"):
        raise AssertionError("it is locked")


@pytest.mark.parametrize("kind", [stage, measuring, table, accuracies, journal, board, environment])
@pytest.mark.parametrize("content", [b"a secret without a newline", b"line 1\nline 2\n", b"", None])
def test_what_a_link_points_to_stays_as_it_is(
    kind: Callable[[Path, Callable[[Path], None]], None], content: bytes | None, tmp_path: Path
) -> None:
    theirs, folder = tmp_path / "theirs", tmp_path / "run"
    folder.mkdir()
    if content is not None:
        theirs.write_bytes(content)
    with pytest.raises(ConfigError, match=r"is a symbolic link.*remove it"):
        kind(folder, lambda path: path.symlink_to(theirs))
    assert (theirs.read_bytes() if theirs.exists() else None) == content

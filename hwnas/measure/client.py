"""Measure and run artefacts in a child process; bad ones are found, named and left out.

Knows artefacts, devices and the measuring process; never models or tables (results go to a callback).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hwnas import registry
from hwnas.errors import HwnasError, MeasurementError, WorkerCrashedError
from hwnas.foreign import ForeignFileError
from hwnas.measure._arrays import read_arrays
from hwnas.measure._child import Child
from hwnas.measure._groups import GroupMeasurement, Result, time_loaded
from hwnas.measure._link import Link
from hwnas.measure.board import Board, BoardProcess
from hwnas.measure.connection import boards_of, reached
from hwnas.measure.interface import answers, to_artefact
from hwnas.measure.protocol import ReplyError, RuntimeBrokenError, can_be_disturbed
from hwnas.measure.statistics import summarize
from hwnas.measure.timing import TimingSettings
from hwnas.scratch import scratch
from hwnas.types import Array, Artefact, Device, ProgressCallback, Statistic, ignore_progress

_ANCHOR_REPETITIONS, _ANCHOR_PAUSE_S = 8, 0.25
_LARGEST_OUTPUTS = 4 << 30  # bytes of one run's file; on a board, its connection's max_file_mb
_ANCHOR_CRASHES = 1  # in all repetitions
_START_S = 60.0  # to import a runtime on a small board

ResultCallback = Callable[[str, Result], None]


def ignore_result(key: str, result: Result) -> None:
    """The ResultCallback of somebody who waits for the returned dictionary."""


def _start_timeout_s(device: Device) -> float:
    try:
        adapter = registry.load("runtimes", device.runtime)
    except HwnasError:  # the process itself will say what is wrong; a board may have what this machine lacks
        return _START_S
    return float(getattr(adapter, "start_timeout_s", _START_S))


class Worker:
    """A measuring process for one device. Use as a context manager; leaving it ends the process.

    The process starts with the first request and is replaced after a crash or a timeout. On a board
    (`device.connection`) a lost link is found again and what was cut short is repeated; a board that stays lost or
    cannot be used is a MeasurementError that blames no artefact. One thread at a time.
    """

    def __init__(
        self, device: Device, *, command: Sequence[str] | None = None, start_timeout_s: float | None = None
    ) -> None:
        """Describe the process; it starts later.

        Args:
            device: sent to the child, which loads the device's runtime. With a `connection` the process runs on that
                board, and everything else is the same.
            command: starts a child here that speaks the protocol; by default this Python.
            start_timeout_s: importing a runtime on a small board takes its time. None: what its adapter says it needs
                (`start_timeout_s`: some make an environment of their own first), or a minute.

        Raises:
            ConfigError, UnknownNameError: a setting of the device's connection is wrong.
        """
        self.device = device
        if start_timeout_s is None:
            start_timeout_s = _start_timeout_s(device)
        # a `command` that was given wins over the connection
        self._board = board = Board(device) if device.connection and command is None else None
        if board is not None:
            self._link = Link(device, start=lambda: BoardProcess(board), start_timeout_s=start_timeout_s)
            return
        # -P: a file in the working folder named like a package must not be imported in its place.
        command = command or (sys.executable, "-P", "-m", "hwnas.measure.worker")
        self._link = Link(device, start=lambda: Child(command), start_timeout_s=start_timeout_s)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        # after an error the child may be in any state: no politeness
        self.stop(at_once=kind is not None)

    def stop(self, *, at_once: bool) -> None:
        """End the process: politely, or with its children at once."""
        self._link.stop(at_once=at_once)

    @property
    def pid(self) -> int | None:
        """Id of the measuring process, or of the one that leads to its board; None while there is none."""
        return self._link.pid

    @property
    def is_lost(self) -> bool:
        """Whether its board answered once and is being looked for. May be asked from another thread."""
        return self._board is not None and self._board.is_lost

    def abandon(self) -> None:
        """From another thread: end what runs on the board, and look for it no more; what waits for it ends."""
        if self._board is not None:
            self._board.abandon()

    def context(self) -> Mapping[str, str]:
        """What the runtime says about itself and the hardware: `runtime_version`, `hardware`, ...

        Raises:
            MeasurementError: the process cannot be started, or its runtime not be loaded.
        """
        return self._link.context()

    def warnings(self) -> tuple[str, ...]:
        """What spoils a measurement where the process runs, each with what to do; as it was when the process started.

        Raises:
            MeasurementError: as for `context`.
        """
        return tuple(self._link.warnings())

    def info(self, artefact: Artefact, *, timeout_s: float = 60.0) -> Mapping[str, str]:
        """What really runs when this artefact does: provider, operators, fallbacks.

        Raises:
            HwnasError: as for `run`.
        """
        self._link.load("info", artefact, timeout_s=timeout_s)
        info = self._link.info("info", timeout_s=timeout_s)
        self._link.unload(["info"], timeout_s=timeout_s)
        return info

    def run(self, artefact: Artefact, inputs: Sequence[Array], *, timeout_s: float = 600.0) -> tuple[Array, ...]:
        """The artefact's outputs for these inputs, computed in the child.

        Args:
            artefact: loaded, and freed again afterwards.
            inputs: one array for each input of the artefact, in its order.
            timeout_s: for each of loading and running.

        Raises:
            ArtefactError: the file is absent, changed or not of the runtime's format.
            MeasurementError: the runtime refused the file or the inputs, crashed or did not answer in time.
        """
        self._link.load("run", artefact, timeout_s=timeout_s)
        try:
            with scratch("run") as folder:
                source, target = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
                # by file: arrays of a test set as JSON would take minutes
                np.savez(source, **{f"array_{i}": a for i, a in enumerate(inputs)})  # type: ignore[arg-type]
                n = self._link.run("run", inputs=source, outputs=target, timeout_s=timeout_s)
                return self._outputs(target, n)
        finally:
            self._link.unload(["run"], timeout_s=timeout_s)

    def predict(self, artefact: Artefact, images: Array, *, timeout_s: float = 600.0) -> Array:
        """(N, C, H, W) float32 -> (N, classes) float32 logits, whatever layout and types the artefact has.

        Several outputs are one row, see `hwnas.measure.interface.answers`.

        Raises:
            HwnasError: as for `run`.
        """
        outputs = self.run(artefact, [to_artefact(images, artefact.input)], timeout_s=timeout_s)
        self._check_logits(artefact, outputs, n=len(images))
        # any layout and type -> (N, classes) float32
        return answers(outputs, artefact)

    def _outputs(self, path: Path, n: int) -> tuple[Array, ...]:
        try:
            return read_arrays(path, n=n, limit_bytes=_LARGEST_OUTPUTS)
        except (ForeignFileError, OSError) as e:
            raise ReplyError(f"the measuring process answered 'run' with a file that is not its outputs: {e}") from e

    def _check_logits(self, artefact: Artefact, outputs: Sequence[Array], *, n: int) -> None:
        """Outputs of another type or number than the artefact's would be taken for logits."""
        specs = artefact.outputs or (artefact.output,)
        found = ", ".join(f"{o.dtype} {o.shape}" for o in outputs) or "none"
        if len(outputs) != len(specs) or any(len(o.shape) < 2 or len(o) != n for o in outputs):
            told = "their logits" if len(specs) == 1 else f"the {len(specs)} outputs of each"
            raise MeasurementError(f"{artefact.path} was run on {n} images and has the outputs {found}, not {told}")
        for output, spec in zip(outputs, specs, strict=True):
            wanted = np.dtype(spec.dtype)
            # floats of another width lose nothing that matters; integers of another type have another scale
            if output.dtype.kind != wanted.kind or (wanted.kind != "f" and output.dtype != wanted):
                raise MeasurementError(f"{artefact.path} should have outputs of type {wanted}; it has {found}")

    def measure(
        self,
        artefacts: Mapping[str, Artefact],
        *,
        anchor: Artefact | None = None,
        anchor_ms: float | None = None,
        settings: TimingSettings | None = None,
        progress: ProgressCallback = ignore_progress,
        on_result: ResultCallback = ignore_result,
    ) -> dict[str, Result]:
        """Measure artefacts in groups, each in interleaved rounds with the drift anchor among them.

        A candidate that crashes the runtime, hangs it or is refused by it gets a `MeasurementFailure`; the others
        of its group are measured all the same. `on_result` is called as soon as a group is done.

        Args:
            artefacts: key -> file; asked for a group at a time, so it may write files when they are asked for.
            anchor: the model that tells the machine's drift; None: results are not corrected.
            anchor_ms: its time in the table that the results go to. None: the anchor is measured first, and
                its time now is what the results are corrected to.
            settings: how long and how often.
            progress: called after each group with the number of candidates done.
            on_result: called with each result, in the order of `artefacts` within a group.

        Returns:
            key -> result, in the order of `artefacts`.

        Raises:
            MeasurementError: the process cannot start, the anchor cannot be measured, or the runtime dies on
                one candidate after the other.
            ArtefactError: the anchor's file cannot be read.
        """
        settings = settings or TimingSettings()
        if anchor is not None and anchor_ms is None and artefacts:
            # the minimum, as entries of tables are
            anchor_ms = self.measure_anchor(anchor, settings=settings).minimum
        results: dict[str, Result] = {}
        keys = list(artefacts)
        # in groups: all at once would not fit a board's memory,
        # and one by one each would pay for an anchor of its own
        for start in range(0, len(keys), settings.group_size):
            group = {key: artefacts[key] for key in keys[start : start + settings.group_size]}
            found = self.measure_group(group, anchor=anchor, anchor_ms=anchor_ms, settings=settings)
            results |= found
            for key in group:
                on_result(key, found[key])
            progress(len(results), len(keys), keys[len(results) - 1])
        return results

    def measure_group(
        self,
        artefacts: Mapping[str, Artefact],
        *,
        anchor: Artefact | None,
        anchor_ms: float | None,
        settings: TimingSettings,
    ) -> dict[str, Result]:
        """Measure some artefacts in the same rounds: key -> result, in the order of `artefacts`.

        Arguments and errors are those of `measure`.
        """
        group = GroupMeasurement(self._link, artefacts, anchor=anchor, anchor_ms=anchor_ms, settings=settings)
        group.measure(list(artefacts))
        return {key: group.results[key] for key in artefacts}

    def measure_anchor(self, anchor: Artefact, *, settings: TimingSettings | None = None) -> Statistic:
        """The anchor's time now, uncorrected: what a new table writes into its context.

        It is timed in several repetitions and the fastest counts. On a machine that others use they lie a moment apart:
        a neighbour may keep it slow, and as steady as if nothing disturbed it, for longer than one repetition lasts.

        Raises:
            MeasurementError: it cannot be measured.
            ArtefactError: its file cannot be read.
        """
        settings = settings or TimingSettings()
        repetitions: list[Statistic] = []
        crashes = 0
        while len(repetitions) < _ANCHOR_REPETITIONS:
            try:
                # a simulated device has no neighbours: tests need not wait
                if repetitions and can_be_disturbed(self._link.context()):
                    time.sleep(_ANCHOR_PAUSE_S)
                if not self._link.is_loaded("reference"):
                    self._link.load("reference", anchor, timeout_s=settings.timeout_s)
                times = time_loaded(self._link, ["reference"], anchor=None, settings=settings)
            except WorkerCrashedError:  # killed from outside, perhaps: an anchor that crashes does so again
                crashes += 1
                if crashes > _ANCHOR_CRASHES:
                    raise
                continue
            repetitions.append(summarize(times.samples_ms["reference"], minima_ms=times.minima_ms["reference"]))
        self._link.unload(["reference"], timeout_s=settings.timeout_s)
        # all later entries are corrected to this number: an error in it is in every one of them
        return min(repetitions, key=lambda statistic: statistic.minimum)


def first_reachable(device: Device, *, tell: Callable[[str], None], start_timeout_s: float | None = None) -> Worker:
    """A worker for what one board is enough for: on the first of the device's boards that can measure.

    A device of one board, or of this machine, is contacted by the first request alone, as ever.

    Args:
        device: it may name several boards.
        tell: says which board it is, of several, and why one before it is not.
        start_timeout_s: as for `Worker`.

    Raises:
        RuntimeBrokenError: none of several boards can measure; the error of the first.
        ConfigError, UnknownNameError: a setting of the device's connection is wrong.
    """
    boards = boards_of(device)
    if len(boards) == 1:
        return Worker(boards[0], start_timeout_s=start_timeout_s)
    errors: list[RuntimeBrokenError] = []
    for board in boards:
        with contextlib.ExitStack() as stack:
            worker = stack.enter_context(Worker(board, start_timeout_s=start_timeout_s))
            try:
                worker.context()
            except RuntimeBrokenError as e:
                tell(str(e))
                errors.append(e)
                continue
            stack.pop_all()  # the caller leaves it
            tell(f"measured on {reached(board)}, the first of {len(boards)} boards that answers")
            return worker
    raise errors[0]

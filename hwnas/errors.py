"""Every error hwnas raises on purpose; `except HwnasError` catches them all and nothing else.

    HwnasError
    ├── ConfigError (ValueError)             a configuration or command-line value is wrong
    ├── UnknownNameError (LookupError)       a name is not registered; lists the known ones
    ├── MissingPackageError (ImportError)    an optional package is absent; names what to install
    ├── SpaceError (ValueError)              an encoding or a space's definition is wrong
    ├── GraphError (ValueError)              an operator graph, or an operator in it, makes no sense
    ├── ModelError (ValueError)              a network of the user's own, or its weights, cannot be taken
    ├── DataError (ValueError)               the user's data cannot be trained on
    ├── CheckpointError (ValueError)         a checkpoint is damaged or belongs to another run
    ├── TrainingError (RuntimeError)
    │   └── DivergenceError                  a loss became NaN or infinite
    ├── TableError (ValueError)              a latency table cannot be read
    │   ├── TableContextError                measured in another context than the one asked for
    │   └── MissingEntryError (LookupError)  a block has no entry; names the command to measure it
    ├── MeasurementError (RuntimeError)      a measurement failed
    │   ├── MeasurementTimeoutError (TimeoutError)
    │   ├── WorkerCrashedError               the measuring process died
    │   └── RuntimeBrokenError               it dies whatever it is given; on a board: BoardError, BoardSetupError
    │                                        (something to install there) and LinkLostError (hwnas.measure)
    ├── InfeasibleError (ValueError)         no network keeps the limits; names the smallest reachable value
    ├── StudyError (ValueError)              a study does not fit what is asked of it
    ├── PredictorError (ValueError)          a stored predictor is not there, or of something else
    ├── EvaluationError (RuntimeError)       a network could not be evaluated: its workers died
    ├── IntegrityError (ValueError)          a file does not hold what was written to it
    ├── ExportError (RuntimeError)           a network cannot be written in a format
    ├── ArtefactError (ValueError)           an artefact is missing, damaged or not what its manifest says
    └── VerificationError (RuntimeError)     a deployment does not keep its promises

`exit_status` is what the command line exits with: 2 wrong input, 3 no network keeps the limits,
4 a deployment failed its verification, 1 anything else.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class HwnasError(Exception):
    """Base class of all errors raised on purpose."""

    exit_status = 1


class ConfigError(HwnasError, ValueError):
    """A configuration or command-line value is wrong.

    What to do: mend the value that the message names; it says which are allowed.
    """

    exit_status = 2


class UnknownNameError(HwnasError, LookupError):
    """A name is not registered.

    What to do: take one of the names that the message lists, or install the package that registers yours.
    """

    exit_status = 2

    def __init__(self, what: str, given: str, known: Iterable[str]) -> None:
        self.given = given
        self.known = tuple(sorted(known))
        super().__init__(f"unknown {what} {given!r}; known: {', '.join(self.known) or 'none'}")


class IntegrityError(HwnasError, ValueError):
    """A file, or a line of one, does not hold what was written to it.

    Readers of a kind of file catch it as a `ValueError` and raise their own error, which names the file and says what
    to do.

    What to do: take a sound copy of the file, or delete it and repeat the command that wrote it.
    """

    exit_status = 2


class MissingPackageError(HwnasError, ImportError):
    """A package is not installed.

    What to do: install what the message names, with `pip install`.

    Attributes:
        package: that is not there.
        extra: the optional dependency group that brings it; empty for a package that is asked for by itself.
    """

    exit_status = 2

    def __init__(self, package: str, extra: str, *, needed_for: str) -> None:
        from hwnas.packages import to_install  # now: to read metadata takes milliseconds, which no import should

        self.package = package
        self.extra = extra
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed; "
            f"install it with: pip install {to_install(package, extra=extra)}"
        )

    @classmethod
    def of(cls, error: ModuleNotFoundError, *, needed_for: str, with_most: bool = False) -> MissingPackageError | None:
        """The error for an import that failed; None if hwnas does not ask for what was imported, or has it.

        A module within a package is looked for once that was found: that it is not there is its importer's mistake.

        Args:
            error: of the import.
            needed_for: named in the message: a command, a feature.
            with_most: see `hwnas.packages.requirement_of`: whether more will be missing after this.
        """
        from hwnas.packages import requirement_of

        package, within, _ = (error.name or "").partition(".")
        is_there = bool(within) and sys.modules.get(package) is not None
        known = None if is_there else requirement_of(package, with_most=with_most)
        return None if known is None else cls(known.name, known.extra, needed_for=needed_for)


class SpaceError(HwnasError, ValueError):
    """An encoding or the definition of a search space is wrong.

    What to do: mend the option or the definition that the message names; `hwnas spaces NAME` shows the choices of a
    space.
    """

    exit_status = 2


class GraphError(HwnasError, ValueError):
    """An operator graph, or an operator in it, makes no sense.

    What to do: mend the shapes or attributes of the operator that the message names.
    """

    exit_status = 2


class ModelError(HwnasError, ValueError):
    """A network of the user's own, or a file of its weights, cannot be taken.

    What to do: change the network or its file of weights as the message says.
    """

    exit_status = 2


class DataError(HwnasError, ValueError):
    """The user's data cannot be used.

    What to do: mend the files or the options of the data source that the message names.
    """

    exit_status = 2


class CheckpointError(HwnasError, ValueError):
    """A checkpoint is damaged or belongs to another run.

    What to do: give the run another folder, or delete the checkpoint and train again.
    """

    exit_status = 2


class TrainingError(HwnasError, RuntimeError):
    """Training cannot go on.

    What to do: read what the message says of the step that failed; the same command goes on from the last checkpoint.
    """


class DivergenceError(TrainingError):
    """A loss became NaN or infinite.

    What to do: lower `train.learning_rate`, or raise `train.warmup_fraction`.

    Attributes:
        step: the step whose loss was not finite.
        checkpoint: path of the last good checkpoint, or None if there is none yet.
    """

    def __init__(self, step: int, loss: float, checkpoint: str | None) -> None:
        self.step = step
        self.checkpoint = checkpoint
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint exists yet"
        super().__init__(
            f"the loss became {loss} at step {step}; {kept}. Lower the learning rate or lengthen the warm-up"
        )


class TableError(HwnasError, ValueError):
    """A latency table cannot be read.

    What to do: delete the table and measure it again with `hwnas profile`, or take a sound copy.
    """

    exit_status = 2


class TableContextError(TableError):
    """A table was measured in another context.

    What to do: profile the device as it is now with `hwnas profile`, or name the device that the table belongs to.

    Attributes:
        differences: field -> (value in the table, value asked for).
    """

    def __init__(self, path: str, differences: Mapping[str, tuple[object, object]]) -> None:
        self.differences = dict(differences)
        listed = "; ".join(f"{k}: table has {a!r}, here it is {b!r}" for k, (a, b) in self.differences.items())
        super().__init__(
            f"{path} was measured in another context ({listed}); profile this device with `hwnas profile`, "
            f"or name the device the table belongs to"
        )


class MissingEntryError(TableError, LookupError):
    """A block has no entry in the table.

    What to do: measure what is missing with `hwnas profile`.
    """

    def __init__(self, key: str, table: str, *, reason: str | None = None) -> None:
        self.key = key
        why = f" (measuring it failed: {reason})" if reason else ""
        super().__init__(f"{table} has no entry for block {key!r}{why}; measure it with `hwnas profile`")


class MeasurementError(HwnasError, RuntimeError):
    """A measurement failed.

    What to do: repeat the command, which goes on from what was measured; `hwnas doctor` and `hwnas agent --check` tell
    what is wrong with a machine or a board.
    """


class MeasurementTimeoutError(MeasurementError, TimeoutError):
    """A measurement took longer than allowed.

    What to do: let nothing else run on the device, and repeat the command.
    """


class WorkerCrashedError(MeasurementError):
    """The measuring process died.

    What to do: see in the message which file it ran and what the runtime said last, and repeat the command.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """A limit that must be loosened, and how far.

    Attributes:
        metric: it is about.
        limit: what was asked for.
        floor: whether that is the least, and not the most.
        reachable: the value nearest to it with which there is a network; None if there is none or it is not known.
        architecture: choice name -> option of a network that reaches it.
    """

    metric: str
    limit: float
    floor: bool = False
    reachable: float | None = None
    architecture: Mapping[str, object] | None = None

    @property
    def share(self) -> float:
        """How far it must be loosened, as a share of it; inf if that is not known."""
        return math.inf if self.reachable is None else abs(self.reachable - self.limit) / (abs(self.limit) or 1.0)


class InfeasibleError(HwnasError, ValueError):
    """No network keeps the limits.

    What to do: loosen the limit that the message names to the value that can be reached.

    Attributes:
        metric: the metric whose limit binds: that which must be loosened by least.
        limit: what was asked for.
        reachable: the smallest (for a lower limit: largest) value any network reaches, None if unknown.
        architecture: choice name -> option of the network that reaches it, None if unknown.
        conflict: the limits that cannot be kept together while any fewer of them can, each with the value with which
            all the others, also those that are not named here, can be kept; each alone impossible if they are told
            apart so. Empty if not known.
        together: where loosening one limit is not enough, limits that can be loosened together, so that all are kept.
    """

    exit_status = 3

    def __init__(
        self,
        message: str,
        *,
        metric: str,
        limit: float,
        reachable: float | None = None,
        architecture: Mapping[str, object] | None = None,
        conflict: Sequence[Relaxation] = (),
        together: Sequence[Relaxation] = (),
    ) -> None:
        self.metric = metric
        self.limit = limit
        self.reachable = reachable
        self.architecture = dict(architecture) if architecture is not None else None
        self.conflict, self.together = tuple(conflict), tuple(together)
        super().__init__(message)

    @classmethod
    def of(
        cls, message: str, conflict: Sequence[Relaxation], *, together: Sequence[Relaxation] = ()
    ) -> InfeasibleError:
        """The error for limits that conflict; the one to loosen by least is the one that binds.

        Args:
            message: for people.
            conflict: at least one.
            together: see `InfeasibleError`.
        """
        binding = min(conflict, key=lambda each: each.share)
        # of limits that are loosened together none alone has a value that would be enough
        shown = max(together, key=lambda each: each.share) if together else binding
        return cls(
            message,
            metric=shown.metric,
            limit=shown.limit,
            reachable=binding.reachable,
            architecture=shown.architecture,
            conflict=conflict,
            together=together,
        )


class StudyError(HwnasError, ValueError):
    """A study does not fit what is asked of it.

    What to do: ask for a metric that the study has, or search again.
    """

    exit_status = 2


class PredictorError(HwnasError, ValueError):
    """A stored predictor is missing, damaged or of another space, supernet or other networks.

    What to do: make it again with `hwnas predict`.
    """


class EvaluationError(HwnasError, RuntimeError):
    """A network could not be evaluated, because the workers that tried died.

    What to do: give the workers more memory, or take fewer of them (`search.workers`).
    """


class ExportError(HwnasError, RuntimeError):
    """A network cannot be written in a format.

    What to do: take another runtime, or leave the operator that the message names out of the space.
    """


class ArtefactError(HwnasError, ValueError):
    """An artefact is missing, damaged or not what its manifest says.

    What to do: take a whole copy of the deployment, or export the network again with `hwnas export`.
    """

    exit_status = 2


class VerificationError(HwnasError, RuntimeError):
    """A deployment does not keep its promises.

    What to do: read in the message which promise failed; on a machine that is busy, wait and verify again. Where it
    fails again, profile the device and export the network anew.
    """

    exit_status = 4

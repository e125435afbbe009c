"""What every task says of itself, and how good outputs are by that, with how much of it is chance.

Whatever a task measures is a function of sums over samples: so it is measured batch by batch, and samples drawn anew
tell its standard error.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from hwnas.allowed import SCORE
from hwnas.data.targets import TargetKind
from hwnas.errors import ConfigError
from hwnas.row_parts import Row, RowPart, split_outputs
from hwnas.tasks.decisions import Decides
from hwnas.types import Array, FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.data import ArrayDataset

_RESAMPLES = 200
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good a network is on some samples.

    Attributes:
        value: of the task's metric: 1 is perfect.
        standard_error: by how much the choice of the samples may have moved it.
        measures: all that the task measures, by name; the metric first.
        n: samples.
    """

    value: float
    standard_error: float
    measures: Mapping[str, float]
    n: int


class Task(ABC):
    """What networks are for. A task of one's own inherits it.

    Outputs are those of a network, (N, ...) float32; targets are of the kind that the task names, as
    `hwnas.data.ArrayDataset` keeps them, in torch.

    Attributes:
        name: for messages.
        metric: what networks are ranked by: a share of which 1 is perfect, `score` unless it is one of
            `hwnas.allowed.EVALUATED`. The higher the better.
        targets: what they learn from.
        counts: what the outputs are, in the plural, for messages.
        decides: what outputs decide, see `decisions.py`; by that a runtime is held against torch.
        takes_several: whether it knows what to do with a network of several outputs. It is given them side by side in
            one row, (N, sum of their sizes), and `split` tells them apart.
        takes_labels: whether it knows labels of others than a given network.
        parts: the several outputs, once the networks are known; none of networks of one output.
    """

    name: ClassVar[str]
    metric: ClassVar[str] = SCORE
    targets: ClassVar[TargetKind]
    counts: ClassVar[str] = "outputs"
    decides: ClassVar[Decides] = "value"
    takes_several: ClassVar[bool] = False
    takes_labels: ClassVar[bool] = True
    parts: tuple[RowPart, ...] = ()

    def with_parts(self, parts: tuple[RowPart, ...]) -> Self:
        """The task of networks of these outputs; itself, if it is that already."""
        if parts == self.parts:
            return self
        task = copy.copy(self)
        object.__setattr__(task, "parts", parts)  # a task of one's own may be a frozen dataclass
        return task

    def fitted(self, train: ArrayDataset, *, n_outputs: int | None = None, given: bool = False) -> Self:
        """The task with what it has to know of the training targets; itself, if that is nothing.

        Args:
            train: samples with targets.
            n_outputs: classes or values there are; None: those that occur.
            given: networks come trained: their outputs mean what they mean already.
        """
        return self

    def output_scale(self) -> dict[str, tuple[float, ...]]:
        """`mean` and `std` that lead from outputs to the targets' units, one each a value; empty if they have them."""
        return {}

    def fits(self, shape: tuple[int, ...], *, n_outputs: int | None) -> bool:
        """Whether outputs of a shape, without the batch, are what the task takes.

        Args:
            shape: of one sample's output.
            n_outputs: names there are of classes or values; None: any.
        """
        return len(shape) == 1 and n_outputs in (None, shape[0])

    def split(self, outputs: Row) -> dict[str, Row]:
        """The several outputs of a row by name, each (N, ...) in its own shape; of one output that, as `output`.

        Args:
            outputs: (N, sum of the sizes), a tensor or an array; targets of this form likewise.
        """
        return split_outputs(outputs, self.parts) if self.parts else {"output": outputs}

    # ------------------------------------------------------------ learning

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """A scalar to be made small: the mean over samples.

        Args:
            outputs: (N, ...) float32.
            targets: (N, ...).
            label_smoothing: of tasks with classes or labels.
        """

    @abstractmethod
    def distill(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """The same by what a teacher says of the samples, which is more than the targets (Hinton et al., 2015).

        Args:
            outputs: (N, ...) float32.
            teacher: (N, ...) outputs of the teacher.
        """

    def divergence(self, outputs: Tensor, reference: Tensor) -> float:
        """How far outputs are from those of another network; 0 for equal ones."""
        import torch

        with torch.no_grad():
            x, y = outputs.double(), reference.double()
            return float(self.distill(x, y) - self.distill(y, y))

    @abstractmethod
    def answers(self, outputs: Tensor) -> Tensor:
        """Outputs as targets: what a network that is taken at its word would have samples labelled as."""

    # ------------------------------------------------------------ measuring

    @abstractmethod
    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N, M) numbers of each sample, of whose means everything that is measured follows."""

    @abstractmethod
    def measures(self, means: FloatArray) -> Mapping[str, FloatArray]:
        """What is measured, by name, the metric first.

        Args:
            means: (..., M) of `statistics` over samples; each measure is then (...).
        """

    def standard_error(self, value: float, statistics: FloatArray) -> float:
        """Of the metric, by samples drawn anew from those that were measured (Efron, 1979).

        Args:
            value: of the metric.
            statistics: (N, M) of the samples.
        """
        n = len(statistics)
        counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)  # (resamples, N)
        found = np.asarray(self.measures(counts @ statistics / n)[self.metric])
        found = found[np.isfinite(found)]  # of samples that say nothing of it
        # never 0, which would count as exact
        return max(float(np.std(found, ddof=1)) if len(found) > 1 else 1 / n, 1e-3 / n)

    # ------------------------------------------------------------ agreement of two programs

    def right_decisions(self, targets: Array) -> IntArray | None:
        """(D,) the right ones, in the order of `decisions.scores`; None where targets do not tell them one by one."""
        return None


def score_of(task: Task, batches: Iterable[tuple[Tensor, Tensor]]) -> Score:
    """How good outputs are.

    Args:
        task: that they are for.
        batches: (N, ...) outputs and their targets.

    Raises:
        ValueError: there is no sample.
        ConfigError: what was measured is no share, or not a number.
    """
    return score_of_statistics(task, [statistics_of(task, outputs, targets) for outputs, targets in batches])


def statistics_of(task: Task, outputs: Tensor, targets: Tensor) -> FloatArray:
    """(N, M) `Task.statistics` of some samples, for `score_of_statistics`."""
    found: FloatArray = task.statistics(outputs, targets).double().cpu().numpy()
    return found


def score_of_statistics(task: Task, parts: Sequence[FloatArray]) -> Score:
    """The same where outputs are not kept: only what a task measures of each sample.

    Args:
        task: that they are for.
        parts: (N, M) of `statistics_of`, one after the other.

    Raises:
        ValueError, ConfigError: see `score_of`.
    """
    n = sum(map(len, parts))
    if n == 0:
        raise ValueError("there is no sample to evaluate on")
    statistics = np.concatenate(parts)
    measures = {name: float(value) for name, value in task.measures(statistics.mean(0)).items()}
    value = measures[task.metric]
    if not value <= 1 + _ROUNDING:  # NaN is not
        raise ConfigError(
            f"the task {task.name!r} measured {task.metric} as {value:g} on {n} samples; it must be a number of which "
            "1 is perfect: do the outputs hold NaN, or are the targets all alike?"
        )
    value = min(value, 1.0)
    return Score(value=value, standard_error=task.standard_error(value, statistics), measures=measures, n=n)


def mean_of_known(values: FloatArray) -> FloatArray:
    """(..., K) -> (...) mean of those that are not NaN; NaN where none is known."""
    known = ~np.isnan(values)
    n = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1)
    found: FloatArray = np.divide(total, n, out=np.full(np.shape(total), np.nan), where=n > 0)
    return found

"""Accuracies of the run's sub-networks, each measured once in the life of the run, whatever it is searched for.

What a network's accuracy depends on is in `hwnas.accuracy.known`; its device is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hwnas import __version__
from hwnas.accuracy.evaluation import EVALUATION
from hwnas.accuracy.known import Conditions, KnownAccuracies, KnownNetwork, network_key
from hwnas.allowed import Limits
from hwnas.cost import feasible_encodings
from hwnas.pipeline.costs import Costs
from hwnas.pipeline.networks import NamedBlocks, encoded, in_full, in_space
from hwnas.pipeline.workers import STANDARD_ERROR, n_validation
from hwnas.precisions import offered_as
from hwnas.search import Executor, Outcome, non_dominated
from hwnas.tasks.classification import binomial_error
from hwnas.types import FloatArray, IntArray, Option
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.spaces import Space
    from hwnas.tasks import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationCounts:
    """How many accuracies a search asked for.

    Attributes:
        measured: by it.
        reused: from earlier searches.
    """

    measured: int = 0
    reused: int = 0

    @property
    def asked(self) -> int:
        """Both together."""
        return self.measured + self.reused


@dataclass(kw_only=True)
class Evaluations:
    """Accuracies for one search, and how many of them had to be measured.

    Attributes:
        work: the run.
        known: by earlier searches and this one.
        reused: how many answers were known.
        measured: how many were not.
    """

    work: Workspace
    known: KnownAccuracies
    reused: int = 0
    measured: int = 0

    @classmethod
    def of(cls, work: Workspace) -> Evaluations:
        """Those of a run with a trained supernet.

        Raises:
            StudyError: the file of known accuracies is damaged.
        """
        c = work.config.search
        conditions = Conditions(
            checkpoint_sha256=work.weights_and_data(),
            quantization=work.runtime.quantization,
            validation_samples=c.validation_samples,
            recalibration_samples=c.recalibration_samples,
            calibration_samples=c.calibration_samples,
            version=f"{__version__}, {EVALUATION}",
        )
        # one file for all devices: accuracy does not depend on them
        key_of = partial(_key_of, trained=work.training_space, here=work.space)
        known = KnownAccuracies(work.folder / "search", conditions, key_of=key_of)
        return cls(work=work, known=known)

    @property
    def counts(self) -> EvaluationCounts:
        """How many answers were given so far."""
        return EvaluationCounts(measured=self.measured, reused=self.reused)

    def find(self, architecture: Mapping[str, Option]) -> float | None:
        """The accuracy of a network, if it is known."""
        found = self._known(architecture)
        self.reused += found is not None
        return None if found is None else found.accuracy

    def accuracy(self, architecture: Mapping[str, Option], measure: Callable[[NamedBlocks], Score]) -> float:
        """The accuracy of a network, measured and kept if it is not known.

        Raises:
            OSError: see `add`.
        """
        found = self.find(architecture)
        if found is not None:
            return found
        score = measure(self._blocks(architecture))
        self.add(architecture, score.value, standard_error=score.standard_error)
        return score.value

    def standard_error(self, architecture: Mapping[str, Option], accuracy: float) -> float:
        """Of the accuracy that was measured of a network.

        Of one that an earlier version or another machine measured it is that of a share of the samples.
        """
        found = self._known(architecture)
        if found is not None and found.standard_error is not None:
            return found.standard_error
        return binomial_error(min(max(accuracy, 0.0), 1.0), n_validation(self.work))

    def add(self, architecture: Mapping[str, Option], accuracy: float, *, standard_error: float) -> None:
        """Keep an accuracy that was measured, at once: the search may be killed.

        Raises:
            OSError: it cannot be kept for later searches.
        """
        blocks = self._blocks(architecture)
        self.measured += 1
        named = in_full(self.work.training_space, architecture, blocks)
        self.known.add(
            KnownNetwork(key=network_key(blocks), architecture=named, accuracy=accuracy, standard_error=standard_error)
        )

    def _known(self, architecture: Mapping[str, Option]) -> KnownNetwork | None:
        return self.known.find(network_key(self._blocks(architecture)))

    def _blocks(self, architecture: Mapping[str, Option]) -> NamedBlocks:
        return self.work.space.named_blocks(self.work.space.encode(architecture))

    def in_space(self) -> tuple[IntArray, FloatArray]:
        """All known networks that this device's space has: (N, D) encodings and (N,) accuracies."""
        found = [
            (e, n.accuracy)
            for n in self.known.networks
            if (e := in_space(self.work.space, n.architecture, key=n.key)) is not None
        ]
        encodings = [e for e, _ in found]
        d = len(self.work.space.choices)
        return np.array(encodings, dtype=np.int64).reshape(-1, d), np.array([a for _, a in found], dtype=float)

    def front(self, costs: Costs, limits: Limits, *, most: int) -> list[dict[str, Option]]:
        """Networks to begin a search with: of those known, the ones no other beats at what they cost on this device.

        Args:
            costs: on the device.
            limits: of them those on costs count, by upper bounds.
            most: networks at most, spread over the front.

        Returns:
            Architectures, the fastest first.
        """
        encodings, accuracies = self.in_space()
        if not len(encodings) or most < 1:
            return []
        latency = costs.models["latency_ms"].estimate(encodings).value
        within = feasible_encodings(encodings, costs.models, costs.limits_among(limits))
        # (N, 2), both minimised; NaN keeps those over a limit out of the front
        points = np.stack([-accuracies, np.where(within, latency, np.nan)], axis=1)
        rows = np.flatnonzero(non_dominated(points))
        rows = rows[np.argsort(latency[rows], kind="stable")]
        # evenly along the front, its ends included
        spread = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))
        return [self.work.space.decode(encodings[i]) for i in rows[spread]]


class Reusing:
    """An executor that asks another one only for networks whose accuracy is not known yet, and keeps what that says.

    Args:
        evaluations: known and to be kept.
        executor: measures; its `values` have what the run ranks networks by, and its STANDARD_ERROR.
    """

    def __init__(self, evaluations: Evaluations, executor: Executor) -> None:
        self._evaluations, self._executor = evaluations, executor
        self._metric = evaluations.work.config.ranked_by
        self._found: list[Outcome] = []
        self._asked: dict[int, Mapping[str, Option]] = {}

    @property
    def slots(self) -> int:
        """See `Executor`."""
        return self._executor.slots

    @property
    def note(self) -> str:
        """See `Executor`."""
        return self._executor.note

    def submit(self, number: int, architecture: dict[str, Option]) -> None:
        """See `Executor`."""
        found = self._evaluations.find(architecture)
        if found is not None:
            self._found.append(Outcome(number=number, values={self._metric: found}))
            return
        self._asked[number] = architecture
        self._executor.submit(number, architecture)

    def collect(self) -> list[Outcome]:
        """See `Executor`."""
        # at once, or workers would wait for the next proposal
        if self._found:
            found, self._found = self._found, []
            return found
        outcomes = []
        for outcome in self._executor.collect():
            architecture = self._asked.pop(outcome.number)
            if outcome.error is None:
                accuracy, error = outcome.values[self._metric], outcome.values[STANDARD_ERROR]
                self._evaluations.add(architecture, accuracy, standard_error=error)
                # to the search it would be one more metric
                outcome = dataclasses.replace(outcome, values={self._metric: accuracy})  # noqa: PLW2901
            outcomes.append(outcome)
        return outcomes

    def close(self) -> None:
        """See `Executor`."""
        self._executor.close()


def _key_of(architecture: Mapping[str, Option], *, trained: Space, here: Space) -> str | None:
    """The key of a network of this device's space or, of other devices, of the supernet's."""
    precisions = {str(v) for k, v in architecture.items() if k.endswith(".precision")}
    # first: it has a choice of precision for every block, so it holds the networks of all devices
    as_trained = trained.computed_in({offered_as(p): p for p in precisions})
    for space in (as_trained, here):
        encoding = encoded(space, architecture)
        if encoding is None:
            continue
        blocks = space.named_blocks(encoding)
        # a space that lacks one of the choices makes another network of it
        if in_full(trained, space.decode(encoding), blocks) == architecture:
            return network_key(blocks)
    return None

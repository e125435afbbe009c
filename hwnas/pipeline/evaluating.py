"""Accuracies of the run's sub-networks, each measured once in the life of the run, whatever it is searched for.

What a network's accuracy depends on is in `hwnas.accuracy.known`; its device is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hwnas import __version__
from hwnas.accuracy.known import Conditions, KnownAccuracies, KnownNetwork, network_key
from hwnas.allowed import Limits
from hwnas.cost import feasible_encodings
from hwnas.files import sha256_file
from hwnas.pipeline.costs import Costs
from hwnas.pipeline.networks import NamedBlocks, encoded, in_full, in_space
from hwnas.precisions import offered_as
from hwnas.search import non_dominated
from hwnas.types import FloatArray, IntArray, Option
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.spaces import Space


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
        measure: accuracy of a network, by its blocks.
        known: by earlier searches and this one.
        reused: how many answers were known.
        measured: how many were not.
    """

    work: Workspace
    measure: Callable[[NamedBlocks], float]
    known: KnownAccuracies
    reused: int = 0
    measured: int = 0

    @classmethod
    def of(cls, work: Workspace, measure: Callable[[NamedBlocks], float]) -> Evaluations:
        """Those of a run with a trained supernet.

        Raises:
            StudyError: the file of known accuracies is damaged.
        """
        c = work.config.search
        conditions = Conditions(
            checkpoint_sha256=sha256_file(work.checkpoint),
            quantization=work.runtime.quantization,
            validation_samples=c.validation_samples,
            recalibration_samples=c.recalibration_samples,
            calibration_samples=c.calibration_samples,
            version=__version__,
        )
        # one file for all devices: accuracy does not depend on them
        key_of = partial(_key_of, trained=work.training_space, here=work.space)
        known = KnownAccuracies(work.folder / "search", conditions, key_of=key_of)
        return cls(work=work, measure=measure, known=known)

    @property
    def counts(self) -> EvaluationCounts:
        """How many answers were given so far."""
        return EvaluationCounts(measured=self.measured, reused=self.reused)

    def accuracy(self, architecture: Mapping[str, Option]) -> float:
        """Top-1 on the validation images, in [0, 1].

        Raises:
            OSError: it cannot be kept for later searches.
        """
        blocks = self.work.space.named_blocks(self.work.space.encode(architecture))
        key = network_key(blocks)
        found = self.known.find(key)
        if found is not None:
            self.reused += 1
            return found
        accuracy = self.measure(blocks)
        self.measured += 1
        # kept at once: the search may be killed
        self.known.add(
            KnownNetwork(
                key=key, architecture=in_full(self.work.training_space, architecture, blocks), accuracy=accuracy
            )
        )
        return accuracy

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

"""Turns any proposal into a new architecture that keeps the closed-form limits.

Proposals come from samplers that know neither limits nor which choices are switched off. Here they are
made canonical, moved to the nearest network that keeps the limits and replaced when already taken. All
candidates of a round go through the closed forms as one batch. Numpy only: never Optuna, never trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property

import numpy as np

from hwnas.errors import InfeasibleError
from hwnas.limits import Limit
from hwnas.search.limits import infeasible
from hwnas.search.problem import Deciding, Minimizing, Problem
from hwnas.types import BoolArray, Estimate, FloatArray, IntArray

# A space with at most this many encodings is listed once; then "nothing is left" is exact, not a guess.
ENUMERATION_LIMIT = 1 << 16
# one call of the closed forms for so many: of a single network the call itself would cost most
BATCH = 4096
ROUNDS = 24
_PARENTS = 64


def _chance(rng: np.random.Generator, rates: FloatArray, d: int) -> BoolArray:
    """(N,) -> (N, d) true at these rates, to one in 65,536: there are millions of them in a proposal."""
    drawn = np.frombuffer(rng.bytes(2 * len(rates) * d), dtype=np.uint16).reshape(len(rates), d)
    return drawn < np.minimum(rates * 65536, 65535).astype(np.uint16)[:, None]


class ExhaustedError(Exception):
    """Control flow inside the search: no new architecture that keeps the limits is left (or found)."""


class FinishedError(ExhaustedError):
    """Control flow likewise: networks are left, but the sampler expects nothing of any of them."""


def key_of(encoding: IntArray) -> bytes:
    """A hashable key of a canonical encoding (D,)."""
    # of one type: encodings read from files are narrower, and their bytes would differ
    return np.ascontiguousarray(encoding, dtype=np.int64).tobytes()


class Candidates:
    """New, canonical architectures within the closed-form limits of one problem.

    Not safe for use by several threads at once.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._sizes = problem.sizes
        self._several = np.flatnonzero(self._sizes > 1)  # choices that are any
        self._feasible: dict[bytes, IntArray] = {}  # a few networks known to keep the limits, to cross with
        self._listed: IntArray | None = None
        # in floats: the size of a large space overflows 64 bits
        if float(np.prod(self._sizes.astype(float))) <= ENUMERATION_LIMIT:
            self._listed = self._enumerate()

    def remember(self, encoding: IntArray) -> None:
        """Note a network that keeps the limits; repairs cross infeasible proposals with such networks."""
        key = key_of(encoding)
        # taken out first, so that it goes in again as the newest
        self._feasible.pop(key, None)
        self._feasible[key] = encoding
        while len(self._feasible) > _PARENTS:
            self._feasible.pop(next(iter(self._feasible)))  # the oldest

    def require_feasible(self, rng: np.random.Generator) -> None:
        """Make sure that some network keeps the closed-form limits.

        Raises:
            InfeasibleError: none does, or none was found within the bound and none was remembered; says which limit
                binds and the smallest value that was reached.
        """
        if self._feasible:
            return
        # exact and cheap, and its error names the true minimum; the search below only knows what it met
        self._check_bounds()
        # (D,) -> (1, D) -> (D,): spaces canonise batches
        start = self.problem.space.canonical(np.zeros((1, len(self._sizes)), dtype=np.int64))[0]
        if self._listed is not None:
            if not len(self._listed):
                raise self._infeasible(self._unfiltered())
            return
        try:
            self.nearest_new(start, set(), rng)
        except ExhaustedError:  # pragma: no cover - nothing is taken, so nothing can be exhausted
            raise AssertionError("an empty set of taken networks cannot exhaust a space") from None

    def uniform(self, rng: np.random.Generator) -> IntArray:
        """(D,) at random within the limits: uniform over networks if the space is listed, else over encodings.

        Where no encoding of a batch keeps the limits, the one that misses them by least.
        """
        if self._listed is not None and len(self._listed):
            listed: IntArray = self._listed[rng.integers(len(self._listed))]
            return listed
        batch = self._random(rng, BATCH)
        # the first that keeps them: the order is random already
        kept = np.flatnonzero(self._excess(batch).sum(axis=1) == 0)
        drawn: IntArray = batch[kept[0]] if len(kept) else batch[int(np.argmin(self._excess(batch).sum(axis=1)))]
        return drawn

    @property
    def listed(self) -> IntArray | None:
        """(N, D) every network within the limits, where the space is small enough to list; else None."""
        return self._listed

    def within(self, encodings: IntArray, estimates: Mapping[str, Estimate] | None = None) -> BoolArray:
        """(N,) which canonical encodings keep the closed-form limits.

        Args:
            encodings: (N, D).
            estimates: what closed forms tell of them, where it is known already.
        """
        kept: BoolArray = self.problem.violations(encodings, estimates)[1].sum(axis=1) == 0
        return kept

    def uniform_many(self, rng: np.random.Generator, n: int) -> IntArray:
        """(at most n, D), at least 1: networks at random within the limits, as `uniform` draws them.

        Where chance finds few, mutants and crossovers of those that are known to keep the limits fill up.
        """
        if self._listed is not None and len(self._listed):
            some: IntArray = self._listed[rng.permutation(len(self._listed))[:n]]
            return some
        found = self._random(rng, n)
        found = found[self.within(found)]
        known = [*self._feasible.values()]
        for _ in range(ROUNDS if known else 0):
            if len(found) >= n // 2:
                break
            more = self.mutants(np.concatenate([np.stack(known), found]), rng, n)
            found = np.unique(np.concatenate([found, more[self.within(more)]]), axis=0)
        return rng.permutation(found)[:n] if len(found) else self.uniform(rng)[None, :]

    def mutants(self, parents: IntArray, rng: np.random.Generator, n: int) -> IntArray:
        """(n, D) canonical: of two parents each, with some choices drawn anew, whether they keep the limits or not."""
        d = len(self._sizes)
        first = parents[rng.integers(len(parents), size=n)]
        second = parents[rng.integers(len(parents), size=n)]
        if not len(self._several):
            return self.problem.space.canonical(first)
        children = np.where(_chance(rng, np.array([0.0, 0.25, 0.5])[rng.integers(3, size=n)], d), second, first)
        # one choice, or a few; in some where two parents were crossed none
        more = np.array([-1, 0, 1, 3])[rng.integers(4, size=n)]
        changed = _chance(rng, np.maximum(more, 0) / d, d)
        changed[np.arange(n), self._several[rng.integers(len(self._several), size=n)]] |= more >= 0
        rows, columns = np.nonzero(changed)
        sizes = self._sizes[columns]
        # to another option than it had: no time is spent on copies
        other = children[rows, columns] + 1 + (rng.random(len(rows)) * (sizes - 1)).astype(np.int64)
        children[rows, columns] = other % sizes
        return self.problem.space.canonical(children)

    def neighbours(self, encoding: IntArray, *, fill: IntArray | None = None) -> IntArray:
        """(N, D) the networks within the limits that differ from a canonical one in one choice that matters.

        Args:
            encoding: (D,) canonical.
            fill: (D,) options of choices that the change switches on; None: the first of each.
        """
        on = self.problem.tree.active(encoding[None])[0]
        own = encoding if fill is None else np.where(on, encoding, fill)
        rows = self._neighbours(own, of=np.flatnonzero(on))
        near = self.problem.space.canonical(rows)
        return near[self.within(near)]

    def nearest_new(self, encoding: IntArray, taken: AbstractSet[bytes], rng: np.random.Generator) -> IntArray:
        """The proposal itself if it is new and keeps the limits, else the nearest such network found.

        Nearest is by the number of choices that differ; ties are broken at random.

        Args:
            encoding: (D,) any option indices.
            taken: keys of networks that were evaluated or are being evaluated.
            rng: for mutation, crossover and ties.

        Raises:
            ExhaustedError: every network that keeps the limits is taken (exact for spaces that can be
                listed; else none was found within the bound).
            InfeasibleError: no network that keeps the limits is known and none was found.
        """
        proposal: IntArray = self.problem.space.canonical(encoding[None, :])[0]
        if key_of(proposal) not in taken and self._excess(proposal[None, :]).sum() == 0:
            return proposal
        # exact: what is not in the list does not exist
        if self._listed is not None:
            return self._nearest(proposal, self._listed, taken, rng)
        return self._search(proposal, taken, rng)

    # ------------------------------------------------------------ spaces too large to list

    def _search(self, proposal: IntArray, taken: AbstractSet[bytes], rng: np.random.Generator) -> IntArray:
        """Rounds of neighbours, mutants, crossovers and random networks until one fits."""
        parents = np.concatenate([proposal[None, :], self._minimizers])
        seen_kept = bool(self._feasible)
        asked = seen_kept
        # nearest first: a neighbour keeps most of what the sampler wanted
        batch = np.concatenate([self._neighbours(proposal), parents])
        for _ in range(ROUNDS):
            batch = self.problem.space.canonical(batch)
            total = self._excess(batch).sum(axis=1)
            kept = batch[total == 0]
            seen_kept = seen_kept or len(kept) > 0
            try:
                return self._nearest(proposal, kept, taken, rng)
            except ExhaustedError:
                pass
            if not (seen_kept or asked):
                # chance would look long for what is rare, or for ever for what does not exist: whoever can decide does
                asked = True
                if (certain := self._decided()) is not None:
                    self.remember(certain)
                    batch = certain[None, :]
                    continue
            # distinct: copies of the best would crowd out every other parent
            pool = np.unique(np.concatenate([parents, batch]), axis=0)
            # those nearest to the limits survive, as in an evolution strategy with the total excess as its fitness
            order = np.argsort(self._excess(pool).sum(axis=1), kind="stable")
            parents = pool[order[:_PARENTS]]
            batch = np.concatenate([self._children(proposal, parents, rng), self._random(rng, BATCH // 4)])
        if seen_kept:
            raise ExhaustedError(f"no new network that keeps the limits was found in {ROUNDS * BATCH} candidates")
        raise self._infeasible(parents, among=f"the {ROUNDS * BATCH:,} candidates tried")

    def _neighbours(self, encoding: IntArray, *, of: IntArray | None = None) -> IntArray:
        """All encodings that differ in exactly one choice, or one of some: (sum(sizes - 1), D)."""
        rows = []
        for i in range(len(self._sizes)) if of is None else of:
            others = np.array([v for v in range(self._sizes[i]) if v != encoding[i]], dtype=np.int64)
            block = np.repeat(encoding[None, :], len(others), axis=0)
            block[:, i] = others
            rows.append(block)
        return np.concatenate(rows) if rows else encoding[None, :]

    def _children(self, proposal: IntArray, parents: IntArray, rng: np.random.Generator) -> IntArray:
        """Mutants of the parents, and crossovers of the proposal with networks that keep the limits."""
        n, d = BATCH * 3 // 4, len(self._sizes)
        known = np.stack(list(self._feasible.values())) if self._feasible else parents
        mates = np.concatenate([parents, known])
        a = mates[rng.integers(len(mates), size=n)]
        b = np.where(rng.random((n, 1)) < 0.5, proposal[None, :], mates[rng.integers(len(mates), size=n)])
        # each child has a share of its own of the second parent, from almost none to almost all
        crossed = np.where(rng.random((n, d)) < rng.random((n, 1)), b, a)
        # few changes near a good network, many to leave a region without any
        rate = rng.random((n, 1)) * rng.choice([1.0 / d, 0.1, 0.3], size=(n, 1))
        return np.where(rng.random((n, d)) < rate, self._random(rng, n), crossed)

    def _random(self, rng: np.random.Generator, n: int) -> IntArray:
        """(n, D) uniform over encodings, canonical."""
        return self.problem.space.canonical(rng.integers(self._sizes, size=(n, len(self._sizes))))

    @cached_property
    def _minimizers(self) -> IntArray:
        """(K, D) the networks that closed forms know to be their smallest."""
        # where limits are tight, chance hardly finds a network;
        # the exact minimum of a limited metric is the surest start
        forms: list[object] = [f for m, f in self.problem.closed_form.items() if m in self.problem.limits]
        rows = [np.asarray(f.minimizer(), dtype=np.int64) for f in forms if isinstance(f, Minimizing)]
        return np.stack(rows) if rows else np.zeros((0, len(self._sizes)), dtype=np.int64)

    def _decided(self) -> IntArray | None:
        """(D,) a network that keeps the closed-form limits by those forms that decide exactly; None if none is sure.

        Raises:
            InfeasibleError: they prove that there is none.
        """
        forms: dict[str, object] = dict(self.problem.closed_form)
        deciding = {m: f for m, f in forms.items() if isinstance(f, Deciding)}
        limits = [limit for m in deciding for limit in self.problem.limits_on(m)]
        if not limits:
            return None
        found = next(iter(deciding.values())).decide(deciding, limits, self.problem.space)
        # forms that do not decide have a say too
        return found if found is not None and self.within(found[None, :])[0] else None

    # ------------------------------------------------------------ common

    def _enumerate(self) -> IntArray:
        """All distinct networks that keep the closed-form limits, (N, D)."""
        rows = self._unfiltered()
        kept: IntArray = rows[self._excess(rows).sum(axis=1) == 0]
        return kept

    def _unfiltered(self) -> IntArray:
        # (D, *sizes) -> (N, D)
        grid = np.indices(tuple(self._sizes), dtype=np.int64).reshape(len(self._sizes), -1).T  # (N, D)
        # switched-off choices make many encodings of one network
        return np.unique(self.problem.space.canonical(grid), axis=0)

    def _excess(self, encodings: IntArray) -> FloatArray:
        return self.problem.violations(encodings)[1]

    def _nearest(
        self, proposal: IntArray, kept: IntArray, taken: AbstractSet[bytes], rng: np.random.Generator
    ) -> IntArray:
        """The row of `kept` nearest to the proposal whose key is not taken."""
        distance = (kept != proposal[None, :]).sum(axis=1) + rng.random(len(kept))  # the fraction breaks ties
        for i in np.argsort(distance):
            if key_of(kept[i]) not in taken:
                nearest: IntArray = kept[i].copy()
                return nearest
        raise ExhaustedError(f"all {len(kept)} networks that keep the limits were evaluated")

    def _check_bounds(self) -> None:
        """Refuse at once a limit below an exact minimum."""
        forms: dict[str, object] = dict(self.problem.closed_form)
        for metric, form in forms.items():
            for limit in self.problem.limits_on(metric):
                # a minimum says nothing about a limit from below
                if limit.floor or not isinstance(form, Minimizing) or limit.is_kept_by(form.bounds()[0]):
                    continue
                smallest = np.asarray(form.minimizer(), dtype=np.int64)
                raise self._infeasible(smallest[None, :], limits=[limit])

    def _infeasible(self, rows: IntArray, *, among: str = "the space", limits: Sequence[Limit] = ()) -> InfeasibleError:
        """The error for limits that none of these networks keeps; for some limits only if they are named."""
        estimates = self.problem.estimate(rows)
        for metric, estimate in estimates.items():
            # NaN: none of them can run at all, and no limit is to blame
            if np.isnan(estimate.value).all():
                asked = next((limit.value for limit in self.problem.limits_on(metric)), np.nan)
                return InfeasibleError(f"no network of {among} has a value of {metric!r}", metric=metric, limit=asked)
        limits = limits or [limit for m in estimates for limit in self.problem.limits_on(m)]
        return infeasible(
            {m: e.value for m, e in estimates.items()},
            {m: e.upper for m, e in estimates.items()},
            limits=limits,
            decode=lambda i: self.problem.decode(rows[i]),
            among=among,
            extreme="reachable" if among == "the space" else "found",
        )

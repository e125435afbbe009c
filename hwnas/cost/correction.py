"""Corrects sums of block costs by whole networks that were measured, and bounds what error is left.

A network is not the sum of its blocks: measured alone, each block pays for a call of its own and for ends of its own
(`hwnas.cost.cuts`), and neighbours share caches. The correction is linear in features that add up over blocks (the
entries less their ends and the number of blocks of each group, and a constant), so a corrected cost is still a sum over
slots and its exact minimum can still be found. This module must never know how a sample was taken, or torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from hwnas.cost.cuts import cut_of, without_cut
from hwnas.cost.least_squares import non_negative_least_squares
from hwnas.cost.quality import PredictionQuality
from hwnas.errors import MissingEntryError, TableError
from hwnas.precisions import is_conversion
from hwnas.types import Block, FloatArray, IntArray

SCHEMA = 1
_PRIOR = 0.3  # how far a parameter strays from the plain sum before the data speak, as a share of its natural size
_NOISE = 0.03  # of a measured network, relative: what the prior is weighed against
_LOOSENESS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # factors on the prior, tightest first; chosen by leave-one-out
_LEAST = 0.1  # no block is corrected below this share of its entry (times the median ratio)
_ITERATIONS = 8  # of reweighting; the weights settle after about five
_HUBER = 1.5  # residuals beyond so many standard deviations count linearly, not squared
_BETTER = 0.9  # of the error without cuts: what it must be with them, or they are taken for errors of their own
_SMALLEST_SPREAD = 1e-4  # relative: below it all residuals are rounding, none an outlier


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSample:
    """A network measured as a whole.

    Attributes:
        blocks: keys of its blocks, in any order, repeated as they occur.
        measured: its cost, in the unit of the table's entries.
        state: of the machine. Samples of one state share a factor that is not known and is fitted; that of "" is 1.
    """

    blocks: tuple[str, ...]
    measured: float
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """`corrected = constant + sum over blocks of (scale * (entry - cut) + per_block)`, by group of blocks.

    The groups are `fp32`, `int8` and `boundary` (quantize and dequantize blocks). A group that no
    measured network contained is left as it is.

    Attributes:
        scales: group -> factor on its entries less their cuts, positive.
        per_block: group -> added for each of its blocks, in the table's unit; negative where blocks
            measured alone pay for a call they do not pay inside a network.
        constant: added to every network, at least 0, in the table's unit.
        upper_ratio: `corrected * upper_ratio` bounds the measurement with the confidence; at least 1.
        confidence: probability with which the bound is meant to hold for a network drawn like the samples.
        guaranteed: False if there were too few held-out networks for the confidence; the bound is then the
            largest ratio seen among them.
        n_fit: networks the parameters were fitted on.
        quality: on the other networks, which the parameters have not seen.
        factors: state of samples -> what brings a measurement in it to that of the corrected costs.
        cuts: tensor that a block hands on (`hwnas.cost.cuts.cut_of`) -> what of its entry no network pays, in the
            table's unit. Of groups whose networks are told better by it, else empty.
    """

    scales: Mapping[str, float]
    per_block: Mapping[str, float]
    constant: float
    upper_ratio: float
    confidence: float
    guaranteed: bool
    n_fit: int
    quality: PredictionQuality
    factors: Mapping[str, float] = field(default_factory=dict)
    cuts: Mapping[str, float] = field(default_factory=dict)

    def correct(self, block: Block, entry: float) -> float:
        """What one block contributes to the corrected cost of a network."""
        group = _group(block)
        # a group that no sample contained has no evidence against its plain sum
        return self.scales.get(group, 1.0) * without_cut(block, entry, self.cuts) + self.per_block.get(group, 0.0)

    def predict(self, blocks: Sequence[str], entries: Mapping[str, float]) -> float:
        """The corrected cost of the network with these block keys.

        Raises:
            MissingEntryError: a block has no entry.
        """
        return self.constant + sum(self.correct(Block.from_key(k), entry_of(k, entries)) for k in blocks)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Correction:
        """The inverse of `to_json`.

        Raises:
            TableError: another schema, or fields are missing or unknown.
        """
        if data.get("schema") != SCHEMA:
            raise TableError(
                f"a correction of schema {data.get('schema')!r}, this version reads {SCHEMA}; fit it again"
            )
        fields = {k: v for k, v in data.items() if k != "schema"}
        try:
            return cls(**{**fields, "quality": PredictionQuality(**fields["quality"])})
        except (KeyError, TypeError) as e:
            raise TableError(f"not a correction: {e}; fit it again") from e

    def __str__(self) -> str:
        bound = f"{self.confidence:.0%} of networks" if self.guaranteed else f"all {self.quality.n} held-out networks"
        return f"{self.quality}; upper bound {100 * (self.upper_ratio - 1):.1f} % above the estimate holds for {bound}"


def entry_of(key: str, entries: Mapping[str, float], *, table: str = "the table") -> float:
    """A block's entry.

    Raises:
        MissingEntryError: it has none.
    """
    try:
        return entries[key]
    except KeyError:
        raise MissingEntryError(key, table) from None


def fit_correction(
    networks: Sequence[NetworkSample],
    entries: Mapping[str, float],
    *,
    seed: int,
    confidence: float = 0.9,
    cuts: Mapping[str, float] | None = None,
) -> Correction:
    """Fit a correction on some of the networks and bound its error on the others.

    Fit: non-negative least squares on relative errors, ridge-regularised towards the plain sum times the
    median ratio (its strength chosen by leave-one-out), with Huber weights against outliers. The factors of
    states of the machine are unknowns of the same fit. What cuts cost is taken off the entries of those groups of
    which leave-one-out then tells better by a tenth: pairs are measured with errors of their own, and where a runtime
    hands tensors on as they are, these are all that there is to them. A group of which a tensor lacks its cut has none.

    Bound: split-conformal (Vovk et al., 2005; Lei et al., 2018, section 2.2) on the ratios measured /
    corrected of the held-out networks. It holds on average over networks drawn as the samples were;
    networks picked because their estimate is low miss it more often, which is why a search measures what
    it returns.

    Args:
        networks: at least two, drawn at random; 20 to 40 are enough.
        entries: block key -> cost of the block alone, positive; the unit is free.
        seed: decides which networks are held out.
        confidence: of the upper bound, in (0, 1).
        cuts: tensor -> what cutting networks there adds to sums of their blocks (`hwnas.cost.cuts.cut_costs`).

    Raises:
        TableError: too few networks, or a measurement or an entry that is not positive and finite.
        MissingEntryError: a network contains a block without entry.
        ValueError: the confidence is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}; it must lie between 0 and 1, both excluded")
    if len(networks) < 2:
        raise TableError(f"{len(networks)} measured networks; a correction needs at least 2, better 20: measure more")
    measured = np.array([n.measured for n in networks])
    if not (np.isfinite(measured) & (measured > 0)).all():
        raise TableError(f"measured networks cost {measured.tolist()}; all must be positive and finite")
    if not all(n.blocks for n in networks):
        raise TableError("a measured network has no blocks; measure the table again")
    test = held_out_rows(len(networks), seed=seed, confidence=confidence)
    train = np.setdiff1d(np.arange(len(networks)), test)
    cuts = _cuts_that_tell(networks, entries, measured, train, cuts=cuts or {})
    design = _Design.of(networks, entries, cuts=cuts)
    weights, factors = _fit(design, measured, train)
    # (N, 2 G + 1) @ (2 G + 1,) -> (N,)
    predicted, found = design.features @ weights, design.in_one_state(measured, factors)
    ratio, guaranteed = conformal_ratio(found[test] / predicted[test], confidence)
    # scale and floor of each group alternate, the constant is last: the order of `_Design.features`
    scales, floors = weights[0:-1:2], weights[1:-1:2]
    return Correction(
        scales={g: float(s) for g, s in zip(design.groups, scales, strict=True)},
        # `s * entry + per_block` is the floor `f` at the group's cheapest entry `m`
        per_block={
            g: float(f - s * m) for g, s, f, m in zip(design.groups, scales, floors, design.cheapest, strict=True)
        },
        constant=float(weights[-1]),
        # a ratio below 1 would let a limit be kept by less than the estimate itself
        upper_ratio=max(ratio, 1.0),
        confidence=confidence,
        guaranteed=guaranteed,
        n_fit=len(train),
        quality=PredictionQuality.of(predicted[test], found[test]),
        factors={state: float(f) for state, f in zip(design.states, factors, strict=True)},
        cuts=cuts,
    )


def held_out_rows(n: int, *, seed: int, confidence: float) -> IntArray:
    """Which of n networks `fit_correction` does not fit to, but tests and bounds its error on."""
    return np.random.default_rng(seed).permutation(n)[: _n_held_out(n, confidence)]


def conformal_ratio(ratios: FloatArray, confidence: float) -> tuple[float, bool]:
    """The factor that bounds one more ratio with the confidence, and whether there are enough to say so.

    Args:
        ratios: (n,) of exchangeable samples.
        confidence: in (0, 1).

    Returns:
        The ceil((n + 1) * confidence)-th smallest ratio and True; the largest and False if n is too small.
    """
    # less 1e-9: 10 * 0.9 must not be rounded up to a rank of 10 by the last digit of a float
    rank = math.ceil((len(ratios) + 1) * confidence - 1e-9)
    if rank > len(ratios):
        return float(ratios.max()), False
    return float(np.sort(ratios)[rank - 1]), True


def _group(block: Block) -> str:
    return "boundary" if is_conversion(block.kind) else block.precision


def _n_held_out(n: int, confidence: float) -> int:
    """A third of the networks, more if the confidence needs it, at most half."""
    # the smallest n with ceil((n + 1) * confidence) <= n, so that the bound is guaranteed
    needed = math.ceil(confidence / (1 - confidence) - 1e-9)
    return max(1, n // 3, min(needed, n // 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Design:
    """The regression problem: `measured * factor of its state ~ features @ weights`.

    Two features a group and a constant. A group's first weight is its scale, its second what its cheapest
    block costs after correction (the floor): where both are positive, so is every corrected block.

    Attributes:
        groups: those that occur in the networks, G of them.
        cheapest: (G,) the smallest entry of each group.
        features: (N, 2 G + 1).
        prior: (2 G + 1,) weights of the plain sum.
        spread: (2 G + 1,) natural size of a deviation from them.
        states: S of them, those whose factor is to be found.
        in_state: (N, S) 1 where a network was measured in that state, else 0.
    """

    groups: tuple[str, ...]
    cheapest: FloatArray
    features: FloatArray
    prior: FloatArray
    spread: FloatArray
    states: tuple[str, ...]
    in_state: FloatArray

    def in_one_state(self, measured: FloatArray, factors: FloatArray) -> FloatArray:
        """(N,) what the networks would have cost in the state whose factor is 1."""
        return measured * (1.0 + self.in_state @ (factors - 1.0))

    @classmethod
    def of(
        cls, networks: Sequence[NetworkSample], entries: Mapping[str, float], *, cuts: Mapping[str, float]
    ) -> _Design:
        met = dict.fromkeys(k for n in networks for k in n.blocks)
        # of all entries, not only those met in samples: the floor must hold for every block of the space
        blocks = {key: Block.from_key(key) for key in (*entries, *met)}
        group_of = {key: _group(block) for key, block in blocks.items()}
        cost_of = {key: without_cut(block, entry_of(key, entries), cuts) for key, block in blocks.items()}
        for key in met:
            if not (math.isfinite(cost_of[key]) and cost_of[key] > 0):
                raise TableError(
                    f"the entry of block {key!r} is {entries[key]}; it must be positive and finite: measure it again"
                )
        groups = tuple(sorted({group_of[key] for key in met}))
        sums, counts = np.zeros((2, len(networks), len(groups)))
        for i, network in enumerate(networks):
            for key in network.blocks:
                g = groups.index(group_of[key])
                sums[i, g] += cost_of[key]
                counts[i, g] += 1
        cheapest = np.array([min(cost_of[k] for k, g in group_of.items() if g == group) for group in groups])
        typical = sums.sum(axis=0) / counts.sum(axis=0)  # of one block of the group
        features = np.ones((len(networks), 2 * len(groups) + 1))
        # measured from the cheapest entry, so that a floor and a
        # scale of at least 0 keep every corrected block positive
        features[:, 0:-1:2] = sums - counts * cheapest
        features[:, 1:-1:2] = counts
        prior, spread = np.zeros((2, features.shape[1]))
        prior[0:-1:2], prior[1:-1:2] = 1.0, cheapest
        spread[0:-1:2], spread[1:-1:2] = 1.0, typical
        # the constant has no plain value of its own; a whole network is its natural size
        spread[-1] = np.median(sums.sum(axis=1))
        states = tuple(sorted({n.state for n in networks if n.state}))
        return cls(
            groups=groups,
            cheapest=cheapest,
            features=features,
            prior=prior,
            spread=_PRIOR * spread,
            states=states,
            in_state=np.array([[float(n.state == s) for s in states] for n in networks]),
        )


def _fit(design: _Design, measured: FloatArray, train: IntArray) -> tuple[FloatArray, FloatArray]:
    """Weights and factors fitted on the `train` rows, the prior's strength chosen by leave-one-out among them."""
    # nothing can be left out of one network: the tightest prior, next to the plain sum
    if len(train) == 1:
        return _robust_fit(design, measured, train, _LOOSENESS[0])
    best = min(_LOOSENESS, key=lambda looseness: _left_out_error(design, measured, train, looseness))
    return _robust_fit(design, measured, train, best)


def _left_out_error(design: _Design, measured: FloatArray, train: IntArray, looseness: float) -> float:
    """The mean relative error on each of the `train` rows, of a fit to the others."""
    left_out = []
    for at, i in enumerate(train):
        weights, factors = _robust_fit(design, measured, np.delete(train, at), looseness)
        left_out.append(design.features[i] @ weights / design.in_one_state(measured, factors)[i] - 1)
    return float(np.abs(left_out).mean())


def _has_all(group: str, networks: Sequence[NetworkSample], cuts: Mapping[str, float]) -> bool:
    """Whether no tensor of a group that the networks hand on lacks its cut: else some would lose ends, others not."""
    handed_on = {cut_of(Block.from_key(a)) for n in networks for a, b in pairwise(n.blocks) if _is_cut(a, b)}
    return all(name in cuts for name in handed_on if name is not None and name.partition("|")[0] == group)


def _is_cut(first: str, second: str) -> bool:
    """Whether there are pairs of such neighbours; changes of precision have entries of their own."""
    return not is_conversion(Block.from_key(first).kind) and not is_conversion(Block.from_key(second).kind)


def _cuts_that_tell(
    networks: Sequence[NetworkSample],
    entries: Mapping[str, float],
    measured: FloatArray,
    train: IntArray,
    *,
    cuts: Mapping[str, float],
) -> dict[str, float]:
    """The cuts of those groups whose networks are told better with than without them; of none from one network."""
    groups = sorted({name.partition("|")[0] for name in cuts})
    if not groups or len(train) == 1:
        return {}

    def of(chosen: frozenset[str]) -> dict[str, float]:
        return {name: cost for name, cost in cuts.items() if name.partition("|")[0] in chosen}

    def error(chosen: frozenset[str]) -> float:
        return _left_out_error(_Design.of(networks, entries, cuts=of(chosen)), measured, train, 1.0)

    chosen: frozenset[str] = frozenset()
    least = error(chosen)
    for group in groups:  # one after the other: networks of one precision do not see the others' cuts
        if _has_all(group, networks, cuts) and (found := error(chosen | {group})) < _BETTER * least:
            chosen, least = chosen | {group}, found
    return of(chosen)


def _robust_fit(
    design: _Design, measured: FloatArray, rows: IntArray, looseness: float
) -> tuple[FloatArray, FloatArray]:
    """Non-negative ridge regression on relative errors with Huber weights: (2 G + 1,) weights, (S,) factors."""
    sums, within = design.features[rows] @ design.prior, design.in_state[rows]
    known = within.sum(axis=1) == 0
    ratios = (measured[rows] / sums)[known if known.any() else slice(None)]
    drift = float(np.median(ratios))  # a common factor needs no evidence network by network
    # a state is as another until networks say otherwise: its factor is 1, and strays as a scale may
    one = np.ones(len(design.states))
    prior, size = np.append(drift * design.prior, one), np.append(drift * design.spread, _PRIOR * one)
    least = _LEAST * prior
    # errors are relative to drift * sum, which has no noise of its own that would pull the fit towards zero
    a, b = design.features[rows] / (drift * sums[:, None]), measured[rows] / (drift * sums)
    # the measurement of a state with an unknown factor stands among the unknowns: features @ weights - factor * it = 0
    a, b = np.hstack([a, -b[:, None] * within]), b * known
    # noise over prior deviation: the ridge of a Gaussian prior of that width
    ridge = _NOISE / (looseness * size)
    trust = np.ones(len(rows))
    weights = prior
    for _ in range(_ITERATIONS):
        # columns are scaled by their size: it does not change the solution, only its conditioning
        system = np.vstack([a * trust[:, None], np.diag(ridge)]) * size
        # solved for what lies above `least`, which turns non-negativity into that lower bound
        asked = np.concatenate([(b - a @ least) * trust, ridge * (prior - least)])
        scaled = non_negative_least_squares(system, asked)
        weights = least + scaled * size
        residual = np.abs(a @ weights - b)
        # 1.4826 times the median absolute residual is the standard deviation of a normal distribution
        spread = max(1.4826 * float(np.median(residual)), _SMALLEST_SPREAD)
        # the root: rows are multiplied by it, and least squares square it to Huber's weight
        trust = np.sqrt(np.minimum(1.0, _HUBER * spread / np.maximum(residual, _SMALLEST_SPREAD)))
    n = len(design.prior)
    return weights[:n], weights[n:]

import numpy as np
import pytest

from hwnas.cost.correction import Correction, NetworkSample, fit_correction
from hwnas.cost.cuts import cut_costs, cut_of, without_cut
from hwnas.types import Block

SIDES = (4, 8, 16, 32)
HANDING_ON = {
    4: 0.01,
    8: 0.02,
    16: 0.5,
    32: 0.3,
}  # no line tells it, as of strides that share cache lines


def block(side: int, hidden: int, precision: str = "fp32", kind: str = "bottleneck") -> Block:
    shape = (16, side, side)
    return Block(
        kind=kind, in_shape=shape, out_shape=shape, precision=precision, attributes=(("hidden_channels", hidden),)
    )


BLOCKS = [block(side, hidden) for side in SIDES for hidden in range(1, 6)]
INSIDE = {b.key: 0.05 + 0.02 * dict(b.attributes)["hidden_channels"] for b in BLOCKS}
ALONE = {b.key: INSIDE[b.key] + HANDING_ON[b.out_shape[1]] for b in BLOCKS}


def measured_networks(n: int, rng: np.random.Generator, *, noise: float = 0.005) -> list[NetworkSample]:
    """Networks that cost what their blocks do inside."""
    drawn = [tuple(rng.choice(list(INSIDE), size=rng.integers(4, 12)).tolist()) for _ in range(n)]
    return [
        NetworkSample(blocks=keys, measured=sum(INSIDE[k] for k in keys) * float(np.exp(noise * rng.standard_normal())))
        for keys in drawn
    ]


def pairs() -> list[tuple[tuple[str, str], float]]:
    keys = [block(side, 1).key for side in SIDES]
    return [((key, key), 2 * INSIDE[key] + HANDING_ON[side]) for side, key in zip(SIDES, keys, strict=True)]


def error(correction: Correction, entries: dict[str, float]) -> float:
    new = measured_networks(50, np.random.default_rng(9), noise=0)
    return float(np.mean([abs(correction.predict(n.blocks, entries) / n.measured - 1) for n in new]))


def test_what_a_cut_costs_is_what_the_pair_does_not_take() -> None:
    assert cut_costs(pairs(), ALONE) == pytest.approx({f"fp32|16x{s}x{s}": cost for s, cost in HANDING_ON.items()})


def test_pairs_of_one_tensor_are_averaged_and_those_without_entries_left_out() -> None:
    a, b, other = block(4, 1).key, block(4, 2).key, block(8, 1).key
    found = cut_costs([((a, a), 1.9), ((a, b), 2.7), ((a, other), 1.0), ((other, a), 1.0)], {a: 1.0, b: 2.0})
    assert found == pytest.approx({"fp32|16x4x4": 0.2})


def test_a_conversion_has_no_cut_and_its_entry_stays() -> None:
    conversion = block(4, 1, precision="int8", kind="quantize")
    assert cut_of(conversion) is None
    assert without_cut(conversion, 1.0, {"int8|16x4x4": 0.5}) == 1.0


def test_something_of_every_entry_stays() -> None:
    assert without_cut(block(4, 1), 1.0, {"fp32|16x4x4": 5.0}) == pytest.approx(0.1)


def test_ends_that_no_line_tells_are_taken_off_and_networks_predicted() -> None:
    samples = measured_networks(30, np.random.default_rng(0))
    cuts = cut_costs(pairs(), ALONE)
    with_cuts, without = (fit_correction(samples, ALONE, seed=0, cuts=c) for c in (cuts, None))
    assert with_cuts.cuts == pytest.approx(cuts)
    assert error(with_cuts, ALONE) < 0.01
    assert error(without, ALONE) > 0.05  # a scale and a part for each block do not tell one side's ends from another's
    assert Correction.from_json(with_cuts.to_json()) == with_cuts


def test_cuts_that_tell_nothing_are_left_alone() -> None:
    """Blocks add up as they are, and pairs were measured with errors."""
    rng = np.random.default_rng(0)
    wrong = {name: float(rng.uniform(0, 0.05)) for name in cut_costs(pairs(), ALONE)}
    assert not fit_correction(measured_networks(30, rng), INSIDE, seed=0, cuts=wrong).cuts


def test_cuts_that_lack_one_of_the_tensors_are_left_alone() -> None:
    """Else some blocks would lose their ends, and others not."""
    some = {name: cost for name, cost in cut_costs(pairs(), ALONE).items() if name != "fp32|16x16x16"}
    assert not fit_correction(measured_networks(30, np.random.default_rng(0)), ALONE, seed=0, cuts=some).cuts


def test_errors_of_pairs_are_rarely_taken_for_cuts_where_networks_are_few() -> None:
    taken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        wrong = {name: float(rng.normal(0, 0.01)) for name in cut_costs(pairs(), ALONE)}
        taken += bool(fit_correction(measured_networks(9, rng, noise=0.01), INSIDE, seed=seed, cuts=wrong).cuts)
    assert taken <= 2


def test_each_precision_is_decided_for_itself() -> None:
    eight = {Block.from_key(k): v for k, v in INSIDE.items()}
    plain = {block(b.out_shape[1], int(b.attributes[0][1]), "int8").key: v / 2 for b, v in eight.items()}
    entries = {**ALONE, **plain}
    rng = np.random.default_rng(1)
    drawn = [tuple(rng.choice(list(plain), size=6).tolist()) for _ in range(20)]
    ints = [NetworkSample(blocks=keys, measured=sum(plain[k] for k in keys)) for keys in drawn]
    wrong = {f"int8|16x{s}x{s}": float(rng.uniform(0.01, 0.03)) for s in SIDES}
    samples = measured_networks(20, rng) + ints
    found = fit_correction(samples, entries, seed=0, cuts={**cut_costs(pairs(), ALONE), **wrong})
    assert {name.partition("|")[0] for name in found.cuts} == {"fp32"}


def test_a_correction_from_before_there_were_cuts_is_read() -> None:
    found = fit_correction(measured_networks(4, np.random.default_rng(0)), INSIDE, seed=0)
    old = {k: v for k, v in found.to_json().items() if k != "cuts"}
    assert Correction.from_json(old) == found

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.cost.correction import Correction, NetworkSample, conformal_ratio, fit_correction
from hwnas.cost.quality import PredictionQuality
from hwnas.errors import MissingEntryError, TableError
from hwnas.types import Block

ENTRIES = {
    Block(
        kind=kind, in_shape=(8, 4, 4), out_shape=(8, 4, 4), precision=precision, attributes=(("kernel_size", k),)
    ).key: (0.02 + 0.01 * k) * (0.6 if precision == "int8" else 1.0) * (0.2 if kind == "quantize" else 1.0)
    for kind, precision in [("mbconv", "fp32"), ("mbconv", "int8"), ("quantize", "int8")]
    for k in range(1, 9)
}
KEYS = tuple(ENTRIES)


def networks(n: int, rng: np.random.Generator, truth: Correction, *, noise: float = 0.0) -> list[NetworkSample]:
    """Random networks of 5 to 20 blocks that cost what the truth says, with relative noise."""
    drawn = [tuple(rng.choice(KEYS, size=rng.integers(5, 21)).tolist()) for _ in range(n)]
    return [
        NetworkSample(blocks=b, measured=truth.predict(b, ENTRIES) * float(np.exp(noise * rng.standard_normal())))
        for b in drawn
    ]


def correction(
    *, fp32: float = 1.0, int8: float = 1.0, boundary: float = 1.0, per_block: float = 0.0, constant: float = 0.0
) -> Correction:
    return Correction(
        scales={"fp32": fp32, "int8": int8, "boundary": boundary},
        per_block=dict.fromkeys(("fp32", "int8"), per_block),
        constant=constant,
        upper_ratio=1.0,
        confidence=0.9,
        guaranteed=True,
        n_fit=1,
        quality=PredictionQuality.of([1.0], [1.0]),
    )


def errors(fitted: Correction, truth: Correction, rng: np.random.Generator) -> np.ndarray:
    """Relative errors on new networks, against the truth without noise."""
    new = networks(50, rng, truth)
    return np.array([fitted.predict(n.blocks, ENTRIES) / n.measured - 1 for n in new])


@pytest.mark.parametrize(
    "truth",
    [
        correction(),
        correction(fp32=0.8, int8=1.2),
        correction(constant=0.1),
        correction(per_block=-0.005, constant=0.03),
        correction(fp32=1.5, int8=1.5, boundary=3.0),
    ],
    ids=["identity", "scales", "constant", "per-call overhead", "drift"],
)
def test_linear_distortions_are_found_from_thirty_noisy_networks(truth: Correction) -> None:
    rng = np.random.default_rng(1)
    fitted = fit_correction(networks(30, rng, truth, noise=0.02), ENTRIES, seed=0)
    assert np.abs(errors(fitted, truth, rng)).mean() < 0.02


def test_blocks_that_sum_up_exactly_are_left_alone() -> None:
    fitted = fit_correction(networks(20, np.random.default_rng(0), correction()), ENTRIES, seed=0)
    assert fitted.scales == pytest.approx({"boundary": 1, "fp32": 1, "int8": 1}, abs=1e-6)
    assert fitted.constant == pytest.approx(0, abs=1e-6)
    assert fitted.upper_ratio == pytest.approx(1)


def test_wild_measurements_hardly_move_the_fit() -> None:
    rng = np.random.default_rng(2)
    truth = correction(fp32=0.9, int8=1.1)
    samples = networks(40, rng, truth, noise=0.01)
    for i in (3, 17, 31):
        samples[i] = NetworkSample(blocks=samples[i].blocks, measured=3 * samples[i].measured)
    assert np.abs(errors(fit_correction(samples, ENTRIES, seed=0), truth, rng)).mean() < 0.02


def test_two_networks_already_give_a_correction() -> None:
    truth = correction(fp32=1.3, int8=1.3, boundary=1.3)
    fitted = fit_correction(networks(2, np.random.default_rng(0), truth), ENTRIES, seed=0)
    assert fitted.n_fit == 1
    assert not fitted.guaranteed


@given(seed=st.integers(0, 2**32), n=st.integers(2, 15), spread=st.floats(0, 2))
@settings(deadline=None, max_examples=25)
def test_every_corrected_block_costs_something_whatever_was_measured(seed: int, n: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    fitted = fit_correction(networks(n, rng, correction(), noise=spread), ENTRIES, seed=0)
    corrected = [fitted.correct(Block.from_key(k), e) for k, e in ENTRIES.items()]
    assert min(corrected) > 0
    assert fitted.constant >= 0
    assert fitted.upper_ratio >= 1


def test_the_upper_bound_holds_for_new_networks_about_as_often_as_it_says() -> None:
    held = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth = correction(fp32=0.9, constant=0.02)
        fitted = fit_correction(networks(30, rng, truth, noise=0.04), ENTRIES, seed=seed, confidence=0.8)
        new = networks(40, rng, truth, noise=0.04)
        held.append(np.mean([n.measured <= fitted.upper_ratio * fitted.predict(n.blocks, ENTRIES) for n in new]))
    assert 0.77 <= np.mean(held) <= 0.9


def test_the_quality_is_that_of_networks_that_were_not_fitted() -> None:
    samples = networks(30, np.random.default_rng(0), correction(), noise=0.02)
    fitted = fit_correction(samples, ENTRIES, seed=0)
    assert fitted.n_fit + fitted.quality.n == 30
    assert fitted.quality.n >= 9


@pytest.mark.parametrize(("n", "guaranteed"), [(17, False), (18, True)])
def test_too_few_networks_for_the_confidence_are_admitted(n: int, guaranteed: bool) -> None:
    fitted = fit_correction(networks(n, np.random.default_rng(0), correction(), noise=0.1), ENTRIES, seed=0)
    assert fitted.guaranteed is guaranteed
    assert (f"all {fitted.quality.n} held-out networks" in str(fitted)) is not guaranteed


def test_the_same_seed_gives_the_same_correction() -> None:
    samples = networks(20, np.random.default_rng(0), correction(), noise=0.1)
    assert fit_correction(samples, ENTRIES, seed=3) == fit_correction(samples, ENTRIES, seed=3)


def test_the_unit_of_the_entries_does_not_matter() -> None:
    samples = networks(20, np.random.default_rng(0), correction(constant=0.05), noise=0.02)
    milliseconds = fit_correction(samples, ENTRIES, seed=0)
    nanoseconds = fit_correction(
        [NetworkSample(blocks=s.blocks, measured=1e6 * s.measured) for s in samples],
        {k: 1e6 * v for k, v in ENTRIES.items()},
        seed=0,
    )
    assert nanoseconds.predict(KEYS, {k: 1e6 * v for k, v in ENTRIES.items()}) == pytest.approx(
        1e6 * milliseconds.predict(KEYS, ENTRIES), rel=1e-6
    )
    assert nanoseconds.upper_ratio == pytest.approx(milliseconds.upper_ratio, rel=1e-6)


def test_a_group_that_was_not_measured_stays_as_it_is() -> None:
    fp32 = [k for k in KEYS if k.endswith("fp32")]
    samples = [NetworkSample(blocks=tuple(fp32[: 2 + i % 5]), measured=1.0 + i % 5) for i in range(10)]
    fitted = fit_correction(samples, ENTRIES, seed=0)
    int8 = next(k for k in KEYS if k.startswith("mbconv") and k.endswith("int8"))
    assert fitted.correct(Block.from_key(int8), 0.5) == 0.5


def test_json_holds_all_of_it() -> None:
    fitted = fit_correction(networks(20, np.random.default_rng(0), correction(), noise=0.1), ENTRIES, seed=0)
    assert Correction.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False))) == fitted


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": 2}, "schema 2, this version reads 1"), ({"scales": None, "x": 1}, "unexpected"), ({}, "quality")],
)
def test_json_that_is_no_correction_is_refused(change: dict[str, object], message: str) -> None:
    good = correction().to_json()
    bad = good | change if change else {"schema": 1}
    with pytest.raises(TableError, match=message):
        Correction.from_json(bad)


def test_a_block_without_entry_is_named() -> None:
    samples = networks(5, np.random.default_rng(0), correction())
    missing = samples[0].blocks[0]
    with pytest.raises(MissingEntryError) as caught:
        fit_correction(samples, {k: v for k, v in ENTRIES.items() if k != missing}, seed=0)
    assert caught.value.key == missing


@pytest.mark.parametrize("measured", [0.0, -1.0, math.nan, math.inf])
def test_measurements_that_are_no_times_are_refused(measured: float) -> None:
    samples = [NetworkSample(blocks=KEYS[:2], measured=m) for m in (1.0, measured)]
    with pytest.raises(TableError, match="positive and finite"):
        fit_correction(samples, ENTRIES, seed=0)


@pytest.mark.parametrize("entry", [0.0, math.nan])
def test_entries_that_are_no_times_are_named(entry: float) -> None:
    samples = networks(3, np.random.default_rng(0), correction())
    key = samples[0].blocks[0]
    with pytest.raises(TableError, match="must be positive and finite") as caught:
        fit_correction(samples, ENTRIES | {key: entry}, seed=0)
    assert key in str(caught.value)


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(TableError, match="no blocks"):
        fit_correction([NetworkSample(blocks=b, measured=1.0) for b in (KEYS[:1], ())], ENTRIES, seed=0)


def test_one_network_is_too_few() -> None:
    with pytest.raises(TableError, match="1 measured networks; a correction needs at least 2"):
        fit_correction([NetworkSample(blocks=KEYS[:2], measured=1.0)], ENTRIES, seed=0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 90])
def test_a_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_correction(networks(3, np.random.default_rng(0), correction()), ENTRIES, seed=0, confidence=confidence)


@pytest.mark.parametrize(
    ("n", "confidence", "expected"),
    [(9, 0.9, (9.0, True)), (8, 0.9, (8.0, False)), (19, 0.9, (18.0, True)), (4, 0.5, (3.0, True))],
)
def test_the_conformal_rank_is_that_of_the_literature(n: int, confidence: float, expected: tuple[float, bool]) -> None:
    ratios = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert conformal_ratio(ratios, confidence) == expected

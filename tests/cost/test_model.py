import numpy as np
import pytest

from hwnas.cost import analytic
from hwnas.cost.correction import Correction, fit_correction
from hwnas.cost.correction import NetworkSample as Sample
from hwnas.cost.model import closed_form_costs, corrected_cost, size_entries
from hwnas.cost.quality import PredictionQuality
from hwnas.cost.slots import SlotBlocks
from hwnas.errors import MissingEntryError
from hwnas.testing.spaces import tiny_space
from tests.cost.toy import ToySpace, everything

TOY = ToySpace()
BLOCKS = SlotBlocks.of(TOY)
ENTRIES = {b.key: 0.01 * (i + 1) for i, b in enumerate(BLOCKS.blocks)}
CORRECTION = Correction(
    scales={"fp32": 1.1, "int8": 0.9},
    per_block={"fp32": -0.002, "int8": 0.001},
    constant=0.05,
    upper_ratio=1.07,
    confidence=0.9,
    guaranteed=True,
    n_fit=20,
    quality=PredictionQuality.of([1.0], [1.0]),
)


@pytest.mark.parametrize("metric", ["macs", "parameters", "peak_memory_bytes"])
def test_closed_forms_are_those_of_the_blocks(metric: str) -> None:
    space = tiny_space()
    encodings = np.random.default_rng(0).integers(0, [len(c.options) for c in space.choices], (20, len(space.choices)))
    cost = closed_form_costs(SlotBlocks.of(space))[metric]
    join = max if metric == "peak_memory_bytes" else sum
    per_block = getattr(analytic, metric)
    expected = [join(per_block(b) for _, b in space.named_blocks(e)) for e in space.canonical(encodings)]
    assert cost.estimate(encodings).value.tolist() == expected
    assert cost.metric == metric


def test_closed_forms_are_their_own_upper_bound() -> None:
    estimate = closed_form_costs(BLOCKS)["macs"].estimate(everything(TOY))
    assert (estimate.upper == estimate.value).all()


def test_a_corrected_cost_is_the_correction_of_every_network() -> None:
    encodings = everything(TOY)
    cost = corrected_cost("latency_ms", BLOCKS, entries=ENTRIES, correction=CORRECTION)
    expected = [CORRECTION.predict([b.key for _, b in TOY.named_blocks(e)], ENTRIES) for e in encodings]
    estimate = cost.estimate(encodings)
    assert estimate.value == pytest.approx(expected)
    assert estimate.upper == pytest.approx(1.07 * np.array(expected))


def test_the_bounds_of_a_corrected_cost_are_exact() -> None:
    cost = corrected_cost("latency_ms", BLOCKS, entries=ENTRIES, correction=CORRECTION)
    values = cost.estimate(everything(TOY)).value
    assert cost.bounds() == (values.min(), values.max())
    assert cost.estimate(cost.minimizer()[None]).value[0] == values.min()


def test_a_block_without_entry_is_named_with_its_table() -> None:
    missing = BLOCKS.blocks[5].key
    entries = {k: v for k, v in ENTRIES.items() if k != missing}
    with pytest.raises(MissingEntryError, match=r"cpu/onnxruntime has no entry.*hwnas profile") as caught:
        corrected_cost("latency_ms", BLOCKS, entries=entries, correction=CORRECTION, source="cpu/onnxruntime")
    assert caught.value.key == missing


def test_sizes_of_files_are_learnt_from_a_few_of_them() -> None:
    """Files with another overhead by node and a header than the closed form assumes."""
    entries = size_entries(BLOCKS.blocks)

    def file_size(keys: list[str]) -> float:
        return 700 + sum(entries[k] + 90 for k in keys)

    networks = [[b.key for _, b in TOY.named_blocks(e)] for e in everything(TOY)]
    drawn = np.random.default_rng(0).permutation(len(networks))[:20]
    samples = [Sample(blocks=tuple(networks[i]), measured=file_size(networks[i])) for i in drawn]
    correction = fit_correction(samples, entries, seed=0)
    cost = corrected_cost("size_bytes", BLOCKS, entries=entries, correction=correction)
    assert cost.estimate(everything(TOY)).value == pytest.approx([file_size(n) for n in networks], rel=0.01)

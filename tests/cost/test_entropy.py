import dataclasses
import math

import numpy as np
import pytest

from hwnas.cost import SlotBlocks, best_within, closed_form_costs, entropy
from hwnas.cost.entropy import log_feature_map, log_width
from hwnas.errors import SpaceError
from hwnas.limits import Limit
from hwnas.precisions import QUANTIZE
from hwnas.spaces.presets import mobilenet_tiny
from hwnas.types import Block, IntArray
from tests.cost.toy import ToySpace, everything

TOY = ToySpace()
BLOCKS = SlotBlocks.of(TOY)
ALL = np.unique(TOY.canonical(everything(TOY)), axis=0)


def by_hand(encoding: IntArray) -> float:
    """A network's blocks are single convolutions, of 3 and of 8 channels into 8, at one resolution."""
    blocks = [b for _, b in TOY.named_blocks(encoding) if b.kind == "conv"]
    widths = [b.in_shape[0] * int(dict(b.attributes)["kernel_size"]) ** 2 for b in blocks]
    # the last slot that is in every network is the first of the two
    return math.log(math.prod(blocks[0].out_shape)) * sum(math.log(w) for w in widths)


def test_it_is_the_published_formula() -> None:
    objective = entropy(BLOCKS)
    assert [objective.value(e) for e in ALL] == pytest.approx([by_hand(e) for e in ALL])


def test_an_inverted_residual_counts_its_three_convolutions_without_squeeze_and_excitation() -> None:
    attributes = {"activation": "relu6", "hidden_channels": 32, "kernel_size": 5, "se_channels": 4, "stride": 1}
    block = Block(
        kind="mbconv",
        in_shape=(8, 14, 14),
        out_shape=(8, 14, 14),
        precision="fp32",
        attributes=tuple(sorted(attributes.items())),
    )
    assert log_width(block) == pytest.approx(math.log(8) + math.log(25) + math.log(32))
    assert log_feature_map(block) == pytest.approx(math.log(8 * 14 * 14))


def test_the_network_of_most_entropy_within_limits_is_found_exactly() -> None:
    objective, models = entropy(BLOCKS), closed_form_costs(BLOCKS)
    macs = models["macs"].estimate(ALL).value
    limit = float(np.quantile(macs, 0.6))
    found = best_within(objective, TOY, models=models, limits=[Limit(metric="macs", value=limit)])
    best = max(by_hand(e) for e in ALL[macs <= limit])
    assert found.value == pytest.approx(best)
    assert found.gap < 1e-4


def test_of_a_preset_the_deepest_widest_network_at_the_largest_resolution_has_most() -> None:
    space = mobilenet_tiny()
    objective = entropy(SlotBlocks.of(space))
    most = best_within(objective, space, models={}, limits=[])
    assert most.value == pytest.approx(objective.value(space.largest()))


def test_a_space_without_convolutions_has_none() -> None:
    nothing = dataclasses.replace(
        BLOCKS,
        blocks=(Block(kind=QUANTIZE, in_shape=(8,), out_shape=(8,), precision="int8"),),
        index=(np.zeros((), dtype=np.int64),),
        scopes=((),),
    )
    with pytest.raises(SpaceError, match="no last feature map"):
        entropy(nothing)

import json
import math

import numpy as np
import pytest

from hwnas.cost import analytic
from hwnas.errors import SpaceError
from hwnas.graph import macs, parameters
from hwnas.graph.renaming import renamed
from hwnas.spaces import space_from_json
from hwnas.spaces.adapted.space import AdaptedSpace
from hwnas.spaces.adapted.wishes import MOST_VARIANTS, MOST_WITH_DEPTHS, Wishes, adapt, units_for
from hwnas.spaces.kinds import block_graph
from hwnas.testing import space_suite

from .graphs import dense, many_branches, mobile, plain, text

SPACES = {
    "mobile": adapt("mobile", [mobile()], Wishes()),
    "two resolutions": adapt("two", [mobile(12), mobile(16)], Wishes(residual=(0.5, 1.0))),
    "one precision": adapt("fp32", [mobile()], Wishes(precisions=("fp32",), kernel=False)),
    "plain": adapt("plain", [plain()], Wishes()),
    "dense": adapt("dense", [dense()], Wishes()),
    "text": adapt("text", [text()], Wishes()),
}


def options(space: AdaptedSpace) -> dict[str, tuple[object, ...]]:
    return {c.name: c.options for c in space.choices if not c.name.endswith(".precision")}


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SPACES)
def test_a_space_of_a_given_network_conforms(name: str, check: object) -> None:
    check(SPACES[name], np.random.default_rng(0))  # type: ignore[operator]


def test_blocks_widths_depth_and_kernels_of_a_network_are_choices() -> None:
    assert options(SPACES["mobile"]) == {
        "blocks.depth": (0, 1, 2),
        "blocks.0.expand.conv.width": (0.25, 0.5, 0.75, 1.0),
        "blocks.0.depthwise.conv.kernel_size": (3, 5),
        "blocks.1.expand.conv.width": (0.25, 0.5, 0.75, 1.0),
        "blocks.1.depthwise.conv.kernel_size": (3, 5),
        "last.conv.width": (0.25, 0.5, 0.75, 1.0),
    }
    assert [s.name for s in SPACES["mobile"].slots] == ["stem", "blocks.0", "blocks.1", "last", "head"]
    inner = next(c for c in SPACES["mobile"].choices if c.name == "blocks.1.expand.conv.width")
    assert SPACES["mobile"].choices[inner.parent or 0].name == "blocks.depth"
    assert inner.active_when == {2}


def test_the_largest_network_is_the_given_one() -> None:
    given, space = mobile(), SPACES["mobile"]
    blocks = [b for _, b in space.named_blocks(space.largest())]
    assert sum(map(analytic.macs, blocks)) == macs(given)
    assert sum(map(analytic.parameters, blocks)) == parameters(given)
    assert blocks[0].in_shape == (3, 16, 16)
    assert all(b.precision == "fp32" for b in blocks)


def test_a_block_that_is_left_out_leaves_its_slot_empty() -> None:
    space = SPACES["mobile"]
    small = {**space.decode(space.largest()), "blocks.depth": 1}
    names = [name for name, _ in space.named_blocks(space.encode(small))]
    assert names == ["stem", "blocks.0", "last", "head"]


def test_what_computes_alike_is_one_block_whatever_it_is_called() -> None:
    space = SPACES["mobile"]
    blocks = dict(space.named_blocks(space.largest()))
    assert blocks["blocks.0"] == blocks["blocks.1"]
    graph = block_graph(blocks["blocks.0"])
    assert graph == renamed(graph)
    assert graph.digest().startswith(str(dict(blocks["blocks.0"].attributes)["graph"])[1:])


def test_a_variant_has_the_names_of_the_given_network_and_says_what_stays() -> None:
    space = SPACES["mobile"]
    chosen = space.decode(space.largest()) | {
        "blocks.1.expand.conv.width": 0.25,
        "blocks.1.depthwise.conv.kernel_size": 3,
    }
    blocks = dict(space.named_blocks(space.encode(chosen)))
    found = space.variant("blocks.1", blocks["blocks.1"])
    assert found.kernels == {"blocks.1.depthwise.conv": 3}
    shapes = {w.name: w.shape for w in found.graph.weights()}
    assert shapes["blocks.1.depthwise.conv.weight"] == (4, 1, 3, 3)
    assert shapes["blocks.1.project.conv.weight"] == (8, 4, 1, 1)
    again = space_from_json(json.loads(json.dumps(space.to_json())))
    assert isinstance(again, AdaptedSpace)
    assert again.variant("blocks.1", blocks["blocks.1"]).graph == found.graph  # also one that made no block yet


def test_residual_streams_stay_unless_it_is_asked_for() -> None:
    assert not any("stem" in name for name in options(SPACES["mobile"]))
    asked = options(SPACES["two resolutions"])
    assert asked["stem.conv.width"] == (0.5, 1.0)
    assert asked["resolution"] == (12, 16)


def test_layers_in_a_row_share_widths_with_their_neighbours() -> None:
    space = SPACES["plain"]
    assert list(options(space)) == [f"features.{i}.conv.width" for i in range(4)]
    middle = next(s for s in space.slots if s.name == "features.1")
    assert [space.choices[i].name for i in middle.depends_on] == [
        "features.0.conv.width", "features.1.conv.width", "features.1.precision",
    ]  # fmt: skip


def test_a_region_of_many_dimensions_shrinks_as_a_whole() -> None:
    space = SPACES["dense"]
    for i, slot in enumerate(space.slots):
        kept = [c for c in slot.depends_on if not space.choices[c].name.endswith("precision")]
        assert math.prod(len(space.choices[c].options) for c in kept) <= MOST_VARIANTS, (i, slot)


def test_a_region_of_many_branches_keeps_as_many_choices_as_can_be_timed() -> None:
    space = adapt("many", [many_branches()], Wishes(width=(0.5, 1.0), precisions=("fp32",)))
    assert space.spec.depths, "some may be left out"
    assert len(space.spec.depths) < 8
    assert len(space.distinct_blocks()) <= MOST_WITH_DEPTHS + len(space.slots)
    assert len(adapt("few", [many_branches(3)], Wishes(width=(1.0,))).spec.depths) == 3


def test_a_module_that_is_to_stay_stays() -> None:
    space = adapt("fixed", [mobile()], Wishes(fixed=("blocks.1", "last")))
    assert set(options(space)) == {
        "blocks.0.depth", "blocks.0.expand.conv.width", "blocks.0.depthwise.conv.kernel_size",
    }  # fmt: skip
    with pytest.raises(SpaceError, match=r"no module 'block', which was to stay fixed"):
        adapt("fixed", [mobile()], Wishes(fixed=("block",)))


def test_channels_are_rounded_to_what_hardware_likes_where_they_are_many() -> None:
    dims = {d.size: d for d in SPACES["plain"].network.dependencies.dims}
    assert [units_for(dims[16], r, multiple_of=8) for r in (0.25, 0.5, 0.75, 1.0)] == [4, 8, 12, 16]
    assert [units_for(dims[8], r, multiple_of=8) for r in (0.1, 0.5, 1.0)] == [2, 4, 8]


def test_restrictions_keep_the_network() -> None:
    space = SPACES["two resolutions"].restrict(precisions=("fp32",), resolutions=(12,), kernel_sizes=(3,))
    assert (space.precisions, space.resolutions) == (("fp32",), (12,))
    assert not any("kernel" in name or name == "resolution" for name in options(space))
    blocks = dict(space.named_blocks(space.largest()))
    assert blocks["stem"].in_shape == (3, 12, 12)
    shapes = {w.name: w.shape for w in space.variant("blocks.0", blocks["blocks.0"]).graph.weights()}
    assert shapes["blocks.0.depthwise.conv.weight"][-1] == 3
    with pytest.raises(SpaceError, match=r"no 20 among its resolutions; allowed: 12, 16"):
        SPACES["two resolutions"].restrict(resolutions=(20,))
    with pytest.raises(SpaceError, match="width_mults"):
        SPACES["mobile"].restrict(width_mults=(1.0,))


def test_networks_that_differ_are_not_one_at_two_resolutions() -> None:
    with pytest.raises(SpaceError, match=r"has no operator 'blocks\.1\.expand\.conv'"):
        adapt("odd", [mobile(12, blocks=1), mobile(16)], Wishes())
    with pytest.raises(SpaceError, match=r"on inputs of \(3, 12, 12\) the network is another one"):
        adapt("odd", [mobile(12, hidden=24), mobile(16)], Wishes())


def test_a_damaged_definition_is_refused() -> None:
    value = json.loads(json.dumps(SPACES["plain"].to_json()))
    value["options"]["widths"][0]["dims"] = ["nothing"]
    with pytest.raises(SpaceError, match="no dimension 'nothing'"):
        space_from_json(value)
    value["network"]["graphs"][0]["ops"][0].pop("kind")
    with pytest.raises(SpaceError, match="not an operator graph"):
        space_from_json(value)


def test_what_takes_tokens_stays_in_floats() -> None:
    space = SPACES["text"]
    for found in (space, space.restrict(precisions=("int8",))):
        blocks = found.named_blocks(found.largest())
        (first, block), *_ = blocks
        assert first == found.slots[0].name
        assert block.precision == "fp32"
        assert f"{first}.precision" not in [c.name for c in found.choices]
    assert [name for name, _ in blocks[1:3]] == [f"conversion.{found.slots[1].name}", found.slots[1].name]
    assert blocks[2][1].precision == "int8"

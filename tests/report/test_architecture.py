import itertools

import pytest

from hwnas.report.architecture import common_activation, levels
from hwnas.spaces.presets import mobilenet_v3_large, vit_tiny
from hwnas.types import Block

from . import made_up


def mbconv(cin: int, hidden: int, cout: int, *, stride: int = 1, side: int = 8, se: int = 0) -> Block:
    numbers = (("hidden_channels", hidden), ("kernel_size", 5), ("se_channels", se), ("stride", stride))
    out = side // stride
    return Block(
        kind="mbconv",
        in_shape=(cin, side, side),
        out_shape=(cout, out, out),
        precision="int8",
        attributes=(("activation", "relu6"), *numbers),
    )


def test_a_row_holds_the_consecutive_blocks_of_one_resolution() -> None:
    blocks = [("a", mbconv(8, 16, 8)), ("b", mbconv(8, 16, 8)), ("c", mbconv(8, 16, 8, stride=2))]
    assert [(level.label, [b.slot for b in level.blocks]) for level in levels(blocks)] == [
        ("8 × 8", ["a", "b"]),
        ("4 × 4", ["c"]),
    ]


def test_outlines_of_neighbours_meet() -> None:
    space = mobilenet_v3_large()
    for level in levels([(s.slot, s.block) for s in made_up.shares(25, space=space)]):
        ends = [[tuple(map(float, p.split(","))) for p in b.outline.split()] for b in level.blocks]
        for left, right in itertools.pairwise(ends):
            assert left[len(left) // 2 - 1][1] == right[0][1]  # the upper right corner, and the upper left one


def test_outlines_stay_in_their_box_and_are_symmetric() -> None:
    view = levels([("a", mbconv(8, 960, 4))])[0].blocks[0]
    points = [tuple(map(float, p.split(","))) for p in view.outline.split()]
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in points)
    assert {(x, round(100 - y, 1)) for x, y in points} == set(points)


def test_more_channels_are_taller() -> None:
    narrow, wide = (levels([("a", mbconv(8, h, 8)), ("b", mbconv(8, 64, 8))])[0].blocks[0] for h in (16, 48))
    tallest = [min(float(p.split(",")[1]) for p in v.outline.split()) for v in (narrow, wide)]
    assert tallest[1] < tallest[0]


@pytest.mark.parametrize(
    ("block", "residual"), [(mbconv(8, 16, 8), True), (mbconv(8, 16, 12), False), (mbconv(8, 16, 8, stride=2), False)]
)
def test_a_residual_needs_equal_shapes(block: Block, residual: bool) -> None:
    assert levels([("a", block)])[0].blocks[0].residual is residual


def test_kernel_stride_and_squeeze_are_named() -> None:
    view = levels([("a", mbconv(8, 48, 12, stride=2, se=16))])[0].blocks[0]
    assert (view.title, view.notes) == ("mbconv 5×5", ("stride 2", "SE 16"))
    assert view.channels.replace("\u2009", "") == "8→48→12"


def test_blocks_of_positions_are_as_tall_as_they_have_features() -> None:
    space = vit_tiny().restrict(precisions=["int8"], resolutions=[32])
    rows = levels(space.named_blocks(space.largest()))
    assert [row.label for row in rows] == ["32 × 32", "64", "vector"]
    drawn = {b.slot: b.channels.replace("\u2009", "") for row in rows for b in row.blocks}
    assert drawn["patch_embedding"] == "3→96"
    assert drawn["stages.0.blocks.0.attention"] == "96→96→96"
    assert drawn["stages.0.blocks.0.mlp"] == "96→384→96"
    assert drawn["head"] == "96→10"


def test_an_unknown_kind_shows_all_its_attributes() -> None:
    block = Block(kind="attention", in_shape=(64,), out_shape=(64,), precision="fp32", attributes=(("heads", 4),))
    level = levels([("a", block)])[0]
    assert (level.label, level.blocks[0].title, level.blocks[0].notes) == ("vector", "attention", ("heads 4",))


def test_a_change_of_precision_says_from_what_to_what() -> None:
    block = Block(kind="quantize", in_shape=(8, 4, 4), out_shape=(8, 4, 4), precision="int8-w7")
    view = levels([("a", block)])[0].blocks[0]
    assert (view.precision, view.role, view.boundary) == ("floats → int8-w7", "conversion", True)


def test_an_activation_is_common_only_if_all_blocks_have_it() -> None:
    assert common_activation([mbconv(8, 16, 8)]) == "relu6"
    other = Block(
        kind="conv",
        in_shape=(1, 8, 8),
        out_shape=(8, 8, 8),
        precision="fp32",
        attributes=(("activation", "relu"), ("kernel_size", 3)),
    )
    assert common_activation([mbconv(8, 16, 8), other]) == ""


def test_no_blocks_are_no_rows() -> None:
    assert levels([]) == ()


def region(digest: str = "g0123456789abcdef") -> Block:
    return Block(
        kind="adapted",
        in_shape=(8, 8, 8),
        out_shape=(8, 8, 8),
        precision="int8",
        attributes=(("graph", digest), ("variant", 2)),
    )


def test_a_region_of_a_given_network_is_called_by_its_name() -> None:
    (level,) = levels([("layer1.0", region()), ("layer1.1", region())])
    assert [b.title for b in level.blocks] == ["layer1.0", "layer1.1"]
    assert level.blocks[0].notes == ()  # a digest says nothing to people
    (nameless,) = levels([("", region())])
    assert nameless.blocks[0].title == "adapted"

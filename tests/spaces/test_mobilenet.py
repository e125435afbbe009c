"""MobileNetSpace: shapes, boundaries, dependencies, sub-spaces, and what it refuses."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings

from hwnas.errors import SpaceError
from hwnas.spaces import MobileNetSpace, MobileNetSpec, StageSpec, parts, space_from_json
from hwnas.spaces._geometry import make_divisible
from hwnas.spaces.kinds import attributes_of, block_graph
from hwnas.spaces.stages import ACTIVATIONS
from hwnas.testing.spaces import tiny_space
from hwnas.types import PRECISIONS, Block
from tests.spaces.strategies import mobilenet_spaces, seeds

PROPERTY = settings(deadline=None, max_examples=15)
STAGE = {"channels": 8, "stride": 1, "depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (2, 3)}
SPACE = {
    "in_channels": 3,
    "n_classes": 10,
    "resolutions": (16,),
    "stem_channels": 8,
    "stages": [StageSpec(**STAGE)],
    "head_channels": 16,
}


def _space(**changes):
    return MobileNetSpace("s", MobileNetSpec(**{**SPACE, **changes}))


def _stage(**changes):
    return StageSpec(**{**STAGE, **changes})


# ---------------------------------------------------------------- networks


@PROPERTY
@given(space=mobilenet_spaces(), seed=seeds)
def test_shapes_connect_from_input_to_classes(space, seed):
    for encoding in space.sample(4, np.random.default_rng(seed)):
        blocks = [b for _, b in space.named_blocks(encoding)]
        assert blocks[0].in_shape[0] == space.in_channels
        assert blocks[0].in_shape[1] in space.resolutions
        assert all(a.out_shape == b.in_shape for a, b in itertools.pairwise(blocks))
        assert blocks[-1].out_shape == (space.n_classes,)


@PROPERTY
@given(space=mobilenet_spaces(), seed=seeds)
def test_boundaries_stand_exactly_where_the_precision_changes(space, seed):
    for encoding in space.sample(4, np.random.default_rng(seed)):
        now = "fp32"  # the input
        for name, block in space.named_blocks(encoding):
            if name.startswith("conversion."):
                assert block == Block(
                    kind="quantize" if now == "fp32" else "dequantize",
                    in_shape=block.in_shape,
                    out_shape=block.in_shape,
                    precision="int8",
                )
                now = "int8" if now == "fp32" else "fp32"
            else:
                assert block.precision == now
        assert now == "fp32"  # the output


@PROPERTY
@given(space=mobilenet_spaces(), seed=seeds)
def test_blocks_are_those_of_the_architecture(space, seed):
    encoding = space.sample(1, np.random.default_rng(seed))[0]
    chosen, blocks = space.decode(encoding), dict(space.named_blocks(encoding))
    for s, stage in enumerate(space.stages):
        depth = chosen.get(f"stages.{s}.depth", stage.depths[0])
        assert [n for n in blocks if n.startswith(f"stages.{s}.")] == [f"stages.{s}.blocks.{b}" for b in range(depth)]
        for b in range(depth):
            block, own = blocks[f"stages.{s}.blocks.{b}"], f"stages.{s}.blocks.{b}"
            ratio = chosen.get(f"{own}.expand_ratio", stage.expand_ratios[0])
            assert attributes_of(block)["kernel_size"] == chosen.get(f"{own}.kernel_size", stage.kernel_sizes[0])
            assert attributes_of(block)["hidden_channels"] == make_divisible(block.in_shape[0] * ratio, 8)
            assert attributes_of(block)["stride"] == (stage.stride if b == 0 else 1)
            assert attributes_of(block)["activation"] == chosen.get(f"stages.{s}.activation", stage.activations[0])
            assert bool(attributes_of(block)["se_channels"]) == chosen.get(f"stages.{s}.se", stage.se[0])


@PROPERTY
@given(space=mobilenet_spaces())
def test_a_slot_depends_on_no_choice_without_effect(space):
    # rounding hides some widths and some neighbouring resolutions from some slots; 16 and 32 differ everywhere
    far_apart = [r for r in space.resolutions if r in (16, 32)] or space.resolutions[:1]
    space = space.restrict(width_mults=space.width_mults[:1], resolutions=far_apart)
    for term in space.terms:
        table = np.array([b.key if b else "" for b in term.blocks], dtype=object).reshape(term.sizes)
        for axis, size in enumerate(term.sizes):
            first = table.take([0], axis=axis)
            others = table.take(range(1, size), axis=axis)
            assert (others != first).any(), (term.name, space.choices[term.depends_on[axis]].name)


@PROPERTY
@given(space=mobilenet_spaces())
def test_every_slot_is_filled_in_some_network(space):
    assert all(space.enumerate_blocks().values())


@PROPERTY
@given(space=mobilenet_spaces())
def test_keys_of_blocks_can_be_read_back(space):
    assert all(Block.from_key(b.key) == b for b in space.distinct_blocks())


@PROPERTY
@given(space=mobilenet_spaces(), seed=seeds)
def test_attributes_are_the_documented_ones_sorted(space, seed):
    documented = {
        "conv": ["activation", "kernel_size", "stride"],
        "mbconv": ["activation", "hidden_channels", "kernel_size", "se_channels", "se_gate", "stride"],
        "head": ["activation", "features", "hidden_channels"],
        "quantize": [],
        "dequantize": [],
    }
    for encoding in space.sample(3, np.random.default_rng(seed)):
        for _, block in space.named_blocks(encoding):
            assert sorted(attributes_of(block)) == documented[block.kind]
            assert list(block.attributes) == sorted(block.attributes)


def test_all_encodings_of_a_small_space_make_different_networks():
    space = _space(width_mults=(1.0, 2.0))
    rows = np.array(list(itertools.product(*(range(len(c.options)) for c in space.choices))))
    distinct = np.unique(space.canonical(rows), axis=0)
    assert len({space.named_blocks(row) for row in distinct}) == len(distinct) == space.count()


@pytest.mark.parametrize(("resolution", "sizes"), [(16, (8, 4, 2)), (17, (9, 5, 3)), (18, (9, 5, 3)), (20, (10, 5, 3))])
def test_sizes_are_rounded_up_at_every_stride(resolution, sizes):
    space = _space(resolutions=(resolution,), stages=[_stage(stride=2), _stage(stride=2)])
    blocks = dict(space.named_blocks(space.largest()))
    names = ("stem", "stages.0.blocks.1", "stages.1.blocks.1")
    assert tuple(blocks[n].out_shape[1] for n in names) == sizes


@pytest.mark.parametrize(("channels", "expected"), [(16, 16), (20, 24), (19, 24), (11, 16), (10, 16), (9, 16), (3, 8)])
def test_channels_are_rounded_as_in_mobilenet(channels, expected):
    assert make_divisible(channels, 8) == expected


def test_width_multiplies_all_channels_but_input_and_classes():
    space = _space(width_mults=(1.0, 2.0), head_features=32)
    narrow = dict(space.named_blocks(space.encode({**space.decode(space.largest()), "width_mult": 1.0})))
    wide = dict(space.named_blocks(space.largest()))
    assert wide["stem"].in_shape == narrow["stem"].in_shape
    assert wide["stem"].out_shape[0] == 2 * narrow["stem"].out_shape[0]
    assert (
        attributes_of(wide["stages.0.blocks.1"])["hidden_channels"]
        == 2 * attributes_of(narrow["stages.0.blocks.1"])["hidden_channels"]
    )
    assert (attributes_of(wide["head"])["hidden_channels"], attributes_of(wide["head"])["features"]) == (32, 64)
    assert wide["head"].out_shape == narrow["head"].out_shape


# ---------------------------------------------------------------- choices and slots


def test_choices_are_named_as_documented():
    space = _space(
        resolutions=(16, 32), width_mults=(1, 2), stages=[_stage(se=(False, True), activations=("relu", "silu"))]
    )
    block = ["kernel_size", "expand_ratio", "precision"]
    assert [c.name for c in space.choices] == [
        "resolution",
        "width_mult",
        "stem.precision",
        "stages.0.depth",
        "stages.0.activation",
        "stages.0.se",
        *(f"stages.0.blocks.0.{d}" for d in block),
        *(f"stages.0.blocks.1.{d}" for d in block),
        "head.precision",
    ]


def test_a_dimension_with_one_option_is_no_choice():
    stage = _stage(depths=(2,), kernel_sizes=(3,), expand_ratios=(2,))
    space = _space(stages=[stage], precisions=("fp32",))
    assert space.choices == ()
    assert space.count() == 1
    assert [n for n, _ in space.named_blocks(space.largest())] == [
        "stem",
        "stages.0.blocks.0",
        "stages.0.blocks.1",
        "head",
    ]


def test_the_largest_network_is_the_largest_and_computes_in_fp32():
    space = tiny_space()
    blocks = dict(space.named_blocks(space.largest()))
    assert list(blocks) == ["stem", *(f"stages.{s}.blocks.{b}" for s in (0, 1) for b in (0, 1)), "head"]
    assert {b.precision for b in blocks.values()} == {"fp32"}
    assert blocks["stages.1.blocks.1"].attributes == (
        ("activation", "relu6"),
        ("hidden_channels", 48),
        ("kernel_size", 5),
    )


def test_the_smallest_network_is_shallow_and_int8():
    space = tiny_space()
    assert [n for n, _ in space.named_blocks(space.smallest())] == [
        "conversion.stem",
        "stem",
        "stages.0.blocks.0",
        "stages.1.blocks.0",
        "head",
        "conversion.end",
    ]


def test_the_width_matters_to_every_slot_but_those_at_the_ends():
    space = _space(width_mults=(1.0, 2.0))
    width = [c.name for c in space.choices].index("width_mult")
    assert [t.name for t in space.terms if width not in t.depends_on] == ["conversion.stem", "conversion.end"]


def test_a_block_depends_on_the_depth_only_if_it_may_be_absent():
    space = tiny_space()
    depth = [c.name for c in space.choices].index("stages.0.depth")
    assert [t.name for t in space.terms if depth in t.depends_on] == [
        "conversion.stages.0.blocks.1",
        "stages.0.blocks.1",
        "conversion.stages.1.blocks.0",
    ]


def test_options_are_sorted_however_they_are_given():
    assert _space(resolutions=(32, 16), precisions=("fp32", "int8")) == _space(
        resolutions=(16, 32), precisions=("int8", "fp32")
    )
    assert _stage(kernel_sizes=(7, 3), se=(True, False)) == _stage(kernel_sizes=(3, 7), se=(False, True))


def test_int8_alone_needs_conversions_at_the_ends_only():
    space = tiny_space().restrict(precisions=("int8",))
    assert [s.name for s in space.terms if s.name.startswith("conversion.")] == ["conversion.stem", "conversion.end"]


def test_fp32_alone_needs_no_conversions():
    space = tiny_space().restrict(precisions=("fp32",))
    assert not [s.name for s in space.terms if s.name.startswith("conversion.")]


def test_the_conversion_before_a_stage_follows_the_block_the_stage_before_ended_with():
    space = tiny_space()
    architecture = space.decode(space.largest()) | {"stages.0.blocks.0.precision": "int8"}
    deep = dict(space.named_blocks(space.encode(architecture)))
    shallow = dict(space.named_blocks(space.encode(architecture | {"stages.0.depth": 1})))
    assert deep["conversion.stages.0.blocks.1"].kind == "dequantize"
    assert "conversion.stages.1.blocks.0" not in deep
    assert shallow["conversion.stages.1.blocks.0"].kind == "dequantize"


# ---------------------------------------------------------------- related spaces


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_sub_space_has_networks_of_the_space(precision):
    space = _space(resolutions=(16, 24, 32), width_mults=(1, 2))
    part = space.restrict(precisions=(precision,), resolutions=(24,), width_mults=(2.0,))
    fixed = {c.name: precision for c in space.choices if c.name.endswith("precision")}
    for encoding in part.sample(10, np.random.default_rng(0)):
        whole = {**fixed, "resolution": 24, "width_mult": 2.0, **part.decode(encoding)}
        assert space.named_blocks(space.encode(whole)) == part.named_blocks(encoding)


def test_restricting_to_everything_changes_nothing():
    space = tiny_space()
    assert space.restrict(precisions=PRECISIONS, resolutions=(8,), width_mults=(1.0,)) == space == space.restrict()


def test_restricted_kernel_sizes_are_those_that_each_stage_has():
    space = _space(stages=[_stage(kernel_sizes=(3, 5, 7)), _stage(kernel_sizes=(3, 5))])
    part = space.restrict(kernel_sizes=(5, 7))
    assert [stage.kernel_sizes for stage in part.stages] == [(5, 7), (5,)]
    keys = {b.key for b in space.distinct_blocks()}
    assert {b.key for b in part.distinct_blocks()} < keys
    with pytest.raises(SpaceError, match=r"stage 1 .* has the kernel sizes 3, 5; of 7 none is left"):
        space.restrict(kernel_sizes=(7,))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"kernel_sizes": (3, 9)}, "no 9 among its kernel_sizes; allowed: 3"),
        ({"resolutions": (16,)}, "no 16 among its resolutions; allowed: 8"),
        ({"precisions": ("fp16",)}, "no 'fp16' among its precisions; allowed: int8, fp32"),
        ({"precisions": "int8"}, "sequence of options"),
        ({"width_mults": ()}, "width_mults has no options"),
    ],
)
def test_restrict_refuses_what_is_not_there(kept, message):
    with pytest.raises(SpaceError, match=message):
        tiny_space().restrict(**kept)


def test_a_space_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(tiny_space())) == tiny_space()


def test_the_description_shows_blocks_shapes_and_precisions():
    space = tiny_space()
    lines = space.describe(space.smallest()).split("\n")
    assert lines[0] == "test-tiny: 8 px, width 1"
    assert lines[1].split() == ["conversion.stem", "quantize", "1x8x8", "->", "1x8x8", "int8"]
    stage = ["stages.1.blocks.0", "mbconv", "3x3", "/2", "hidden", "16", "relu6", "8x4x4", "->", "16x2x2", "int8"]
    assert lines[4].split() == stage
    assert len(lines) == 7


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": ()}, "depths of a stage has no options"),
        ({"depths": (0, 1)}, "depths of a stage is 0; it must be at least 1"),
        ({"depths": (1, 1)}, "option 1 twice"),
        ({"depths": 2}, r"write \(2,\)"),
        ({"depths": (True,)}, "must be an integer"),
        ({"depths": (1.5,)}, "must be an integer"),
        ({"kernel_sizes": (3, 4)}, "is 4; kernel sizes must be odd"),
        ({"expand_ratios": (0,)}, "is 0; it must be finite and above 0"),
        ({"expand_ratios": (3, 3.0)}, "option 3 twice"),
        ({"expand_ratios": (float("inf"),)}, "finite"),
        ({"expand_ratios": ("3",)}, "must be a number"),
        ({"stride": 0}, "stride of a stage is 0"),
        ({"channels": -8}, "channels of a stage is -8"),
        ({"activations": ("tanh",)}, "'tanh'; allowed: relu, relu6, hswish, silu"),
        ({"activations": "relu6"}, "sequence of options"),
        ({"se": (0,)}, "true or false"),
    ],
)
def test_a_wrong_stage_says_what_is_wrong(changes, message):
    with pytest.raises(SpaceError, match=message):
        _stage(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": ()}, "resolutions has no options"),
        ({"resolutions": (16, 16)}, "option 16 twice"),
        ({"resolutions": (3,), "stages": [_stage(stride=2)]}, "resolution 3 is too small.*from 4"),
        ({"precisions": ("fp8",)}, "'fp8'; allowed: fp32, tf32, fp16, bf16, int8, int8-pt, int8-w7, int4w"),
        ({"precisions": ("fp32", "fp16")}, "fp32, fp16: a space has one of floats at most"),
        ({"precisions": ("int8-w7", "int8")}, "one of integers"),
        ({"precisions": ()}, "no options"),
        ({"width_mults": (0.0,)}, "above 0"),
        ({"width_mults": (1.0, 1.01)}, "width_mults 1 and 1.01 give the same channels"),
        ({"stages": []}, "one or more StageSpec"),
        ({"stages": [STAGE]}, "one or more StageSpec"),
        ({"stages": [_stage(expand_ratios=(2, 2.1))]}, "2 and 2.1 of stage 0 both give 16 hidden channels from 8"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"n_classes": 0}, "n_classes is 0"),
        ({"head_features": -1}, "head_features is -1"),
        ({"head_activation": "tanh"}, "head_activation is 'tanh'"),
        ({"stem_activation": None}, "stem_activation is None"),
        ({"se_ratio": 0}, "se_ratio is 0"),
        ({"se_gate": "tanh"}, "se_gate is 'tanh'; allowed: sigmoid, hard_sigmoid"),
        ({"channel_divisor": 0}, "channel_divisor is 0"),
    ],
)
def test_a_wrong_space_says_what_is_wrong(changes, message):
    with pytest.raises(SpaceError, match=message):
        _space(**changes)


def test_expand_ratios_that_only_narrow_stages_confuse_are_refused():
    with pytest.raises(SpaceError, match="of stage 1 both give 16 hidden channels from 8"):
        _space(stages=[_stage(channels=8, expand_ratios=(2, 3)), _stage(channels=16, expand_ratios=(1.9, 2))])


def test_expand_ratios_that_only_later_blocks_confuse_are_refused():
    with pytest.raises(SpaceError, match="of stage 0 both give 16 hidden channels from 8"):
        _space(stem_channels=16, stages=[_stage(channels=8, expand_ratios=(1.4, 1.9))])


def test_activations_are_those_that_parts_of_blocks_have_operators_for():
    assert set(ACTIVATIONS) == set(parts.ACTIVATIONS)


def test_a_space_in_other_precisions_has_the_same_networks_under_their_names():
    space = tiny_space()
    other = space.computed_in({"fp32": "fp16", "int8": "int8-w7"})
    assert other.precisions == ("int8-w7", "fp16")
    assert [c.name for c in other.choices] == [c.name for c in space.choices]
    for encoding in space.sample(8, np.random.default_rng(0)):
        renamed = [
            (slot, b.key.replace("|fp32", "|fp16").replace("|int8", "|int8-w7"))
            for slot, b in space.named_blocks(encoding)
        ]
        assert [(slot, b.key) for slot, b in other.named_blocks(encoding)] == renamed


def test_the_gate_of_squeeze_and_excitation_can_be_the_hard_sigmoid():
    stages = [_stage(se=(False, True), depths=(1,))]
    soft, hard = (_space(stages=stages, se_gate=gate) for gate in ("sigmoid", "hard_sigmoid"))
    pairs = list(zip(soft.distinct_blocks(), hard.distinct_blocks(), strict=True))
    gated = [(a, b) for a, b in pairs if dict(a.attributes).get("se_channels")]
    assert gated
    for a, b in gated:
        ops = [[op.kind for op in block_graph(block).ops] for block in (a, b)]
        assert [k.replace("hardsigmoid", "sigmoid") for k in ops[1]] == ops[0] != ops[1]
        assert block_graph(a).weights() == block_graph(b).weights()
        assert b.key.replace(",se_gate=hard_sigmoid", "") == a.key
    assert all(a == b for a, b in pairs if (a, b) not in gated)  # without it there is no gate to differ in


def test_definitions_without_a_gate_have_the_sigmoid_and_stay_as_they_were():
    space = _space()
    assert "se_gate" not in space.to_json()
    assert space_from_json(space.to_json()).spec.se_gate == "sigmoid"
    hard = _space(se_gate="hard_sigmoid")
    assert space_from_json(hard.to_json()) == hard != space
    with pytest.raises(SpaceError, match="missing key 'se_ratio'"):
        space_from_json({k: v for k, v in hard.to_json().items() if k != "se_ratio"})

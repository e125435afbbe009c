"""Graphs of blocks against the modules they replace; their costs are held in `tests/cost`."""

from dataclasses import replace

import pytest

from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, macs
from hwnas.registry import load
from hwnas.spaces._text import blocks_text
from hwnas.spaces.kinds import BlockKind, attributes_of, block_graph, current_key, normalised
from hwnas.types import Block

ALL = [
    b
    for name in ("mobilenet-tiny", "mobilenet-v3-large", "test-tiny")
    for b in load("spaces", name)().restrict(precisions=["fp32"]).distinct_blocks()
]
SOME = ALL[:: max(1, len(ALL) // 20)]


@pytest.mark.parametrize("block", SOME, ids=lambda b: b.key)
def test_weights_have_the_names_shapes_and_order_of_the_modules_parameters(block: Block) -> None:
    pytest.importorskip("torch")
    from hwnas.supernet.subnetwork import BlockModule

    expected = [(name, tuple(p.shape)) for name, p in BlockModule(block).named_parameters()]
    assert [(w.name, w.shape) for w in block_graph(block).weights() if w.trained] == expected


def mbconv(**attributes: int | str) -> Block:
    return Block(
        kind="mbconv",
        in_shape=(8, 6, 6),
        out_shape=(8, 6, 6),
        precision="fp32",
        attributes=tuple(sorted(attributes.items())),
    )


def test_attributes_at_their_defaults_may_be_left_out() -> None:
    short = mbconv(activation="relu6", hidden_channels=24, kernel_size=3)
    long = mbconv(activation="relu6", hidden_channels=24, kernel_size=3, se_channels=0, stride=1)
    assert block_graph(short) == block_graph(long)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (mbconv(activation="relu6", hidden_channels=24), "no attribute 'kernel_size'; a 'mbconv' block has activation"),
        (mbconv(activation="relu6", hidden_channels=24, kernel_size=3, depth=2), "an unknown attribute 'depth'"),
        (mbconv(activation="odd", hidden_channels=24, kernel_size=3), "unknown activation 'odd'; known: hswish"),
        (mbconv(activation="relu6", hidden_channels=24, kernel_size=3, stride=2), "which is not what it says"),
        (
            mbconv(activation="relu6", hidden_channels=24, kernel_size=3, se_channels=8, se_gate="tanh"),
            "unknown gate 'tanh'; known: sigmoid, hard_sigmoid",
        ),
        (Block(kind="odd", in_shape=(1,), out_shape=(1,), precision="fp32"), "odd.*known.*mbconv"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused(block: Block, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        block_graph(block)


def test_a_kind_of_ones_own_is_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(block: Block, attributes: object) -> object:
        g = GraphBuilder()
        return g.build(g.conv2d(g.input(block.in_shape), block.out_shape[0], name="conv"))

    mine = BlockKind(name="mine", build=build)  # type: ignore[arg-type]
    monkeypatch.setattr("hwnas.spaces.kinds.kind_of", lambda block: mine)
    assert macs(block_graph(Block(kind="mine", in_shape=(3, 4, 4), out_shape=(5, 4, 4), precision="fp32"))) == 15 * 16


def test_a_block_computes_the_same_in_every_precision_but_for_conversions() -> None:
    block = mbconv(activation="relu6", hidden_channels=24, kernel_size=3)
    assert block_graph(block) is block_graph(replace(block, precision="int8"))
    conversion = Block(kind="quantize", in_shape=(8, 4, 4), out_shape=(8, 4, 4), precision="int8-w7")
    assert dict(block_graph(conversion).ops[0].attributes) == {"precision": "int8-w7"}


def test_blocks_with_and_without_an_attribute_at_its_default_are_one() -> None:
    short = mbconv(activation="relu6", hidden_channels=24, kernel_size=3)
    long = mbconv(activation="relu6", hidden_channels=24, kernel_size=3, se_channels=0, stride=1)
    assert normalised(long) == normalised(short) == short
    assert attributes_of(long) == attributes_of(short)


def test_blocks_of_spaces_name_no_attribute_at_its_default() -> None:
    assert [b for b in ALL if normalised(b) != b] == []
    assert any("stride" in b.key for b in ALL)


def test_keys_of_earlier_versions_become_those_of_today() -> None:
    shapes = "in=8x6x6|out=8x6x6"
    old = f"mbconv|{shapes}|activation=relu6,hidden_channels=24,kernel_size=3,se_channels=0,stride=1|fp32"
    new = f"mbconv|{shapes}|activation=relu6,hidden_channels=24,kernel_size=3|fp32"
    assert (current_key(old), current_key(new)) == (new, new)
    strided = old.replace("stride=1", "stride=2")
    assert current_key(strided) == new.replace("kernel_size=3", "kernel_size=3,stride=2")


@pytest.mark.parametrize("key", ["no key", "odd|in=8|out=8|depth=1|fp32"])
def test_what_is_no_key_of_a_known_kind_stays_as_it_is(key: str) -> None:
    assert current_key(key) == key


def test_a_block_is_written_in_a_line_by_what_it_computes_and_of_an_unknown_kind_by_its_attributes() -> None:
    known = mbconv(activation="hswish", hidden_channels=24, kernel_size=5, se_channels=8)
    unknown = replace(known, kind="odd", attributes=(("rate", 2),))
    lines = [" ".join(line.split()) for line in blocks_text([("a", known), ("b", unknown)]).split("\n")]
    assert lines == [
        "a mbconv 5x5 hidden 24 se 8 hardswish 8x6x6 -> 8x6x6 fp32",
        "b odd rate 2 8x6x6 -> 8x6x6 fp32",
    ]
